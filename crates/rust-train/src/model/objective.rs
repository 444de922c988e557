//! What is minimized in training: the task's loss, with what auxiliary heads and a teacher add to it.
//!
//! ```text
//! loss = (1 − α)·(loss of the first output + Σ weight·loss of an auxiliary head's) + α·distance from the teacher
//! ```
//!
//! The teacher's logits are the last of the targets. Evaluation knows nothing of either: scores are the task's.

use architectures::Network;
use dataset::Batch;
use model_card::TargetUnit;
use tch::{Device, Tensor};

use super::teacher::Teacher;
use crate::config::plan::Plan;
use crate::task::{Scorer, Targets, Task};

/// A task as a run minimizes it.
pub(crate) struct Objective<'t> {
    task: &'t dyn Task,
    /// What the losses of the outputs after the first are multiplied by, where these are auxiliary heads'.
    auxiliary: Vec<f64>,
    teacher: Option<Teacher>,
}

impl<'t> Objective<'t> {
    /// `task` in a run of this plan, which is learned from `teacher`, too, if there is one.
    pub(crate) fn new(task: &'t dyn Task, plan: &Plan, teacher: Option<Teacher>) -> Self {
        let network = plan.architecture.map(|known| known.network_to_train(1, plan.flags.aux_loss));
        let heads = network.iter().flat_map(Network::auxiliary);
        Self { task, auxiliary: heads.map(|head| head.weight).collect(), teacher }
    }

    /// Without the teacher.
    fn own_loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        if self.auxiliary.is_empty() {
            return self.task.loss(outputs, targets); // further outputs are the task's own affair
        }
        let of_heads = outputs[1..].iter().zip(&self.auxiliary);
        let of_heads = of_heads.map(|(output, weight)| self.task.loss(std::slice::from_ref(output), targets) * *weight);
        of_heads.fold(self.task.loss(&outputs[..1], targets), |sum, loss| sum + loss)
    }
}

impl Task for Objective<'_> {
    fn name(&self) -> &str {
        self.task.name()
    }

    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        self.task.targets(batch, device)
    }

    fn training_targets(&self, batch: &Batch, images: &Tensor, together: usize) -> anyhow::Result<Targets> {
        let mut targets = self.task.training_targets(batch, images, together)?;
        if let Some(teacher) = &self.teacher {
            targets.tensors.push(teacher.logits(images, together)?);
        }
        Ok(targets)
    }

    fn computes_targets(&self) -> bool {
        self.teacher.is_some() || self.task.computes_targets()
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        let Some(teacher) = &self.teacher else { return self.own_loss(outputs, targets) };
        let (taught, own) = targets.tensors.split_last().expect("training targets have the teacher's logits");
        let distance = teacher.distance(&outputs[0], taught) * teacher.alpha();
        if teacher.alpha() == 1.0 {
            return distance;
        }
        let own = Targets { tensors: own.iter().map(Tensor::shallow_clone).collect(), share: targets.share };
        self.own_loss(outputs, &own) * (1.0 - teacher.alpha()) + distance
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
    use crate::model::teacher::tests::{how, teacher};
    use crate::task::classification::Classification;
    use flags::DistillationKind;

    const STUDENT: [f32; 6] = [2.0, 0.0, -1.0, 0.5, 1.0, 0.0];
    const TAUGHT: [f32; 6] = [1.0, 0.5, -2.0, -0.5, 0.25, 3.0];
    const LABELS: [i64; 2] = [0, 1];

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
            let objective = Objective {
                task: &task,
                auxiliary: Vec::new(),
                teacher: Some(teacher(None, how(kind, alpha, temperature))),
            };
            let taught = Tensor::from_slice(&TAUGHT).view([2, 3]);
            let targets = Targets::of(vec![Tensor::from_slice(&LABELS), taught]);
            let got = objective.loss(&[Tensor::from_slice(&STUDENT).view([2, 3])], &targets).double_value(&[]);
            assert!((got - expected).abs() < 1e-6, "{kind:?} {alpha} {temperature}: {got}, not {expected}");
        }
    }

    const SOFT: [f64; 3] = [0.581_365_821, 0.977_235_077, 1.000_269_984];
    const HARD: f64 = 0.675_057_845;

    #[test]
    fn each_head_counts_as_much_as_it_is_to() {
        let logits = |values: [f32; 6]| Tensor::from_slice(&values).view([2, 3]);
        let outputs =
            [logits([2.0, 0.0, -1.0, 0.5, 1.0, 0.0]), logits([0.0; 6]), logits([1.0, 0.0, 0.0, 0.0, 0.0, 3.0])];
        let targets = Targets::of(vec![Tensor::from_slice(&[0_i64, 1])]);
        let task = Classification::to_evaluate();
        let of = |output: &Tensor| task.loss(std::slice::from_ref(output), &targets).double_value(&[]);
        let expected = of(&outputs[0]) + 0.3 * of(&outputs[1]) + 0.4 * of(&outputs[2]);
        let objective = Objective { task: &task, auxiliary: vec![0.3, 0.4], teacher: None };
        let got = objective.loss(&outputs, &targets).double_value(&[]);
        assert!((got - expected).abs() < 1e-6, "{got}, not {expected}");
    }
}
