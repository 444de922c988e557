//! A model that another one learns from: what it sees in the training images becomes a part of their targets, and of the loss.
//!
//! ```text
//! images, normalized for the student ─> for the teacher ─> its logits ─> those of the data's classes ─┐ the last of the targets
//! loss = (1 − α)·task's loss + α·(soft: T²·KL(teacher ‖ student) at temperature T; hard: cross-entropy with its likeliest class)
//! ```

use backbones::Backbone;
use dataset::{Batch, Normalization};
use flags::DistillationKind;
use model_card::TargetUnit;
use tch::{Device, Kind, Reduction, Tensor, no_grad};

use super::numerics::Numerics;
use crate::config::distillation::Distillation;
use crate::task::{Scorer, Targets, Task};

/// A network that is asked what it sees in images of a run.
pub(crate) struct Teacher {
    network: Backbone,
    numerics: Numerics,
    /// Which of its outputs are the run's classes, in their order; `None`: all of them.
    columns: Option<Tensor>,
    /// What images of the run are multiplied by, and what is added then, C×1×1 each, to be as the teacher knows them; `None`: they are.
    renormalized: Option<(Tensor, Tensor)>,
}

impl Teacher {
    /// `network`, in evaluation, which is computed as `numerics` say; `columns` of its outputs are the run's classes.
    pub(crate) fn new(network: &Backbone, numerics: Numerics, columns: Option<&[i64]>) -> Self {
        let columns = columns.map(|columns| Tensor::from_slice(columns).to_device(numerics.device));
        Self { network: network.folded(), numerics, columns, renormalized: None }
    }

    /// The same for images that are normalized by `given`, where it knows such that are by `own`.
    pub(crate) fn of_images(mut self, given: &Normalization, own: &Normalization) -> Self {
        if given != own {
            let channels =
                |values: Vec<f32>| Tensor::from_slice(&values).view([-1, 1, 1]).to_device(self.numerics.device);
            let of_both = given.mean.iter().zip(&given.std).zip(own.mean.iter().zip(&own.std));
            let (factors, terms) = of_both
                .map(|((mean, std), (own_mean, own_std))| {
                    ((std / own_std) as f32, ((mean - own_mean) / own_std) as f32)
                })
                .unzip();
            self.renormalized = Some((channels(factors), channels(terms)));
        }
        self
    }

    /// Its logits for `images` of the run, N×classes, computed for so many `together`.
    fn logits(&self, images: &Tensor, together: usize) -> torch_ext::Result<Tensor> {
        no_grad(|| {
            let mut all = Vec::new();
            for images in images.f_split(together as i64, 0)? {
                let images = match &self.renormalized {
                    Some((factor, term)) => &images * factor + term,
                    None => images.copy(), // what libraries compute may depend on where in memory it begins
                };
                let forward = |images: &Tensor| vec![self.network.forward(images, false)];
                let logits = self.numerics.compute(&images, forward)?.remove(0);
                all.push(match &self.columns {
                    Some(columns) => logits.f_index_select(1, columns)?,
                    None => logits,
                });
            }
            Ok(Tensor::f_cat(&all, 0)?)
        })
    }
}

/// A task whose targets have, last of all, what a teacher says.
pub(crate) struct Distilled<'t> {
    task: &'t dyn Task,
    teacher: Teacher,
    kind: DistillationKind,
    alpha: f64,
    temperature: f64,
}

impl<'t> Distilled<'t> {
    /// `task`, to tell classes apart, which is learned from `teacher`, too.
    pub(crate) fn new(task: &'t dyn Task, teacher: Teacher, how: &Distillation) -> Self {
        let &Distillation { kind, alpha, temperature, .. } = how;
        Self { task, teacher, kind, alpha, temperature }
    }

    /// How far the student's `logits` are from the teacher's `taught`, the mean over images.
    fn distance(&self, logits: &Tensor, taught: &Tensor) -> Tensor {
        match self.kind {
            DistillationKind::Hard => {
                let likeliest = taught.argmax(1, false);
                logits.cross_entropy_loss(&likeliest, None::<&Tensor>, Reduction::Mean, -100, 0.0)
            }
            DistillationKind::Soft => {
                let log = |logits: &Tensor| (logits / self.temperature).log_softmax(1, Kind::Float);
                let (student, teacher) = (log(logits), log(taught));
                let images = logits.size()[0] as f64;
                student.kl_div(&teacher, Reduction::Sum, true) * (self.temperature * self.temperature / images)
            }
        }
    }
}

impl Task for Distilled<'_> {
    fn name(&self) -> &str {
        self.task.name()
    }

    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        self.task.targets(batch, device)
    }

    fn training_targets(&self, batch: &Batch, images: &Tensor, together: usize) -> anyhow::Result<Targets> {
        let mut targets = self.task.training_targets(batch, images, together)?;
        targets.tensors.push(self.teacher.logits(images, together)?);
        Ok(targets)
    }

    fn computes_targets(&self) -> bool {
        true
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        let (taught, own) = targets.tensors.split_last().expect("training targets have the teacher's logits");
        let distance = self.distance(&outputs[0], taught) * self.alpha;
        if self.alpha == 1.0 {
            return distance;
        }
        let own = Targets { tensors: own.iter().map(Tensor::shallow_clone).collect(), share: targets.share };
        self.task.loss(outputs, &own) * (1.0 - self.alpha) + distance
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        self.task.scorer()
    }

    fn outputs(&self) -> Option<usize> {
        self.task.outputs()
    }

    fn units(&self) -> Vec<TargetUnit> {
        self.task.units()
    }

    fn takes_mixed_images(&self) -> bool {
        self.task.takes_mixed_images()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::classification::Classification;
    use torch_ext::{MemoryFormat, Precision};

    const STUDENT: [f32; 6] = [2.0, 0.0, -1.0, 0.5, 1.0, 0.0];
    const TAUGHT: [f32; 6] = [1.0, 0.5, -2.0, -0.5, 0.25, 3.0];
    const LABELS: [i64; 2] = [0, 1];

    fn teacher(columns: Option<&[i64]>) -> Teacher {
        tch::manual_seed(3);
        let network = Backbone::new(architectures::architecture("lenet").unwrap().network(4), Device::Cpu);
        let numerics =
            Numerics { device: Device::Cpu, precision: Precision::Single, memory_format: MemoryFormat::Contiguous };
        Teacher::new(&network, numerics, columns)
    }

    fn how(kind: DistillationKind, alpha: f64, temperature: f64) -> Distillation {
        let line = ["rust-train", "--teacher", "run"];
        let cli = flags::Cli::of(line).unwrap().train;
        let plan = crate::config::plan::Plan::new(&cli, 1, Default::default()).unwrap();
        Distillation { kind, alpha, temperature, ..plan.distillation.unwrap() }
    }

    /// torch 2.11: `cross_entropy(s, y) * (1 - a) + a * kl_div(log_softmax(s / t, 1), log_softmax(x / t, 1), reduction="batchmean",
    /// log_target=True) * t * t`, and with `a * cross_entropy(s, x.argmax(1))`.
    #[test]
    fn losses_are_pytorchs() {
        let cases = [
            (DistillationKind::Soft, 0.5, 1.0, SOFT[0]),
            (DistillationKind::Soft, 0.9, 4.0, SOFT[1]),
            (DistillationKind::Soft, 1.0, 2.0, SOFT[2]),
            (DistillationKind::Hard, 0.5, 1.0, HARD),
        ];
        let task = Classification::to_evaluate();
        for (kind, alpha, temperature, expected) in cases {
            let distilled = Distilled::new(&task, teacher(None), &how(kind, alpha, temperature));
            let taught = Tensor::from_slice(&TAUGHT).view([2, 3]);
            let targets = Targets::of(vec![Tensor::from_slice(&LABELS), taught]);
            let got = distilled.loss(&[Tensor::from_slice(&STUDENT).view([2, 3])], &targets).double_value(&[]);
            assert!((got - expected).abs() < 1e-6, "{kind:?} {alpha} {temperature}: {got}, not {expected}");
        }
    }

    const SOFT: [f64; 3] = [0.581_365_821, 0.977_235_077, 1.000_269_984];
    const HARD: f64 = 0.675_057_845;

    #[test]
    fn a_teacher_sees_images_as_it_knows_them() {
        let of = |mean: f64, std: f64| Normalization { mean: vec![mean; 3], std: vec![std, std * 2.0, std] };
        let (student, own) = (of(0.4, 0.2), of(0.5, 0.25));
        let pixels = Tensor::rand([5, 3, 32, 32], (Kind::Float, Device::Cpu));
        let normalized = |by: &Normalization| {
            let channels = |values: &[f64]| Tensor::from_slice(values).to_kind(Kind::Float).view([-1, 1, 1]);
            (&pixels - channels(&by.mean)) / channels(&by.std)
        };
        let expected = teacher(None).logits(&normalized(&own), 5).unwrap();
        let taught = teacher(Some(&[2, 0])).of_images(&student, &own);
        let got = taught.logits(&normalized(&student), 2).unwrap();
        let columns = expected.index_select(1, &Tensor::from_slice(&[2i64, 0]));
        assert_eq!(got.size(), [5, 2]);
        assert!((got - columns).abs().max().double_value(&[]) < 1e-5);
    }
}
