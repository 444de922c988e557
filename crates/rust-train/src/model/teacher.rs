//! A model that another one learns from, and how far that is from what it sees.
//!
//! ```text
//! images, normalized for the student ─> for the teacher ─> its logits ─> those of the data's classes
//! soft: T²·KL(teacher ‖ student) at temperature T; hard: cross-entropy with the teacher's likeliest class
//! ```

use backbones::Backbone;
use dataset::Normalization;
use flags::DistillationKind;
use tch::{Kind, Reduction, Tensor, no_grad};

use super::numerics::Numerics;
use crate::config::distillation::Distillation;

/// A network that is asked what it sees in images of a run.
pub(crate) struct Teacher {
    network: Backbone,
    numerics: Numerics,
    /// Which of its outputs are the run's classes, in their order; `None`: all of them.
    columns: Option<Tensor>,
    /// What images of the run are multiplied by, and what is added then, C×1×1 each, to be as the teacher knows them; `None`: they are.
    renormalized: Option<(Tensor, Tensor)>,
    /// What is learned from it.
    how: Distillation,
}

impl Teacher {
    /// `network`, in evaluation, which is computed as `numerics` say; `columns` of its outputs are the run's classes, and are learned as `how` says.
    pub(crate) fn new(network: &Backbone, numerics: Numerics, columns: Option<&[i64]>, how: Distillation) -> Self {
        let columns = columns.map(|columns| Tensor::from_slice(columns).to_device(numerics.device));
        Self { network: network.folded(), numerics, columns, renormalized: None, how }
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
    pub(super) fn logits(&self, images: &Tensor, together: usize) -> torch_ext::Result<Tensor> {
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

    /// Its share in the loss.
    pub(super) fn alpha(&self) -> f64 {
        self.how.alpha
    }

    /// How far a student's `logits` are from this one's, `taught`: the mean over images.
    pub(super) fn distance(&self, logits: &Tensor, taught: &Tensor) -> Tensor {
        let &Distillation { kind, temperature, .. } = &self.how;
        match kind {
            DistillationKind::Hard => {
                let likeliest = taught.argmax(1, false);
                logits.cross_entropy_loss(&likeliest, None::<&Tensor>, Reduction::Mean, -100, 0.0)
            }
            DistillationKind::Soft => {
                let log = |logits: &Tensor| (logits / temperature).log_softmax(1, Kind::Float);
                let images = logits.size()[0] as f64;
                log(logits).kl_div(&log(taught), Reduction::Sum, true) * (temperature * temperature / images)
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tch::Device;
    use torch_ext::{MemoryFormat, Precision};

    pub(in crate::model) fn teacher(columns: Option<&[i64]>, how: Distillation) -> Teacher {
        tch::manual_seed(3);
        let network = Backbone::new(architectures::architecture("lenet").unwrap().network(4), Device::Cpu);
        let numerics =
            Numerics { device: Device::Cpu, precision: Precision::Single, memory_format: MemoryFormat::Contiguous };
        Teacher::new(&network, numerics, columns, how)
    }

    pub(in crate::model) fn how(kind: DistillationKind, alpha: f64, temperature: f64) -> Distillation {
        let line = ["rust-train", "--teacher", "run"];
        let cli = flags::Cli::of(line).unwrap().train;
        let plan = crate::config::plan::Plan::new(&cli, 1, Default::default()).unwrap();
        Distillation { kind, alpha, temperature, ..plan.distillation.unwrap() }
    }

    fn any() -> Distillation {
        how(DistillationKind::Soft, 0.5, 1.0)
    }

    #[test]
    fn a_teacher_sees_images_as_it_knows_them() {
        let of = |mean: f64, std: f64| Normalization { mean: vec![mean; 3], std: vec![std, std * 2.0, std] };
        let (student, own) = (of(0.4, 0.2), of(0.5, 0.25));
        let pixels = Tensor::rand([5, 3, 32, 32], (Kind::Float, Device::Cpu));
        let normalized = |by: &Normalization| {
            let channels = |values: &[f64]| Tensor::from_slice(values).to_kind(Kind::Float).view([-1, 1, 1]);
            (&pixels - channels(&by.mean)) / channels(&by.std)
        };
        let expected = teacher(None, any()).logits(&normalized(&own), 5).unwrap();
        let taught = teacher(Some(&[2, 0]), any()).of_images(&student, &own);
        let got = taught.logits(&normalized(&student), 2).unwrap();
        let columns = expected.index_select(1, &Tensor::from_slice(&[2i64, 0]));
        assert_eq!(got.size(), [5, 2]);
        assert!((got - columns).abs().max().double_value(&[]) < 1e-5);
    }
}
