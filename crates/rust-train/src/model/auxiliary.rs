//! What a model's auxiliary heads say counts in its loss, in training.

use dataset::Batch;
use model_card::TargetUnit;
use tch::{Device, Tensor};

use crate::config::plan::Plan;
use crate::task::{Scorer, Targets, Task};

/// A task whose loss is that of the first output, and of each of the others so much.
pub(crate) struct WithAuxiliary<'t> {
    task: &'t dyn Task,
    /// Of the outputs after the first.
    weights: Vec<f64>,
}

impl<'t> WithAuxiliary<'t> {
    /// `task` of a run that trains with auxiliary heads; `None` for any other.
    pub(crate) fn of_plan(task: &'t dyn Task, plan: &Plan) -> Option<Self> {
        let known = plan.architecture.filter(|_| plan.flags.aux_loss)?;
        let network = known.network_with_auxiliary(1)?;
        Some(Self { task, weights: network.auxiliary().iter().map(|head| head.weight).collect() })
    }
}

impl Task for WithAuxiliary<'_> {
    fn name(&self) -> &str {
        self.task.name()
    }

    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        self.task.targets(batch, device)
    }

    fn training_targets(&self, batch: &Batch, images: &Tensor, together: usize) -> anyhow::Result<Targets> {
        self.task.training_targets(batch, images, together)
    }

    fn computes_targets(&self) -> bool {
        self.task.computes_targets()
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        let auxiliary = outputs[1..].iter().zip(&self.weights);
        let auxiliary =
            auxiliary.map(|(output, weight)| self.task.loss(std::slice::from_ref(output), targets) * *weight);
        auxiliary.fold(self.task.loss(&outputs[..1], targets), |sum, loss| sum + loss)
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

    #[test]
    fn each_head_counts_as_much_as_it_is_to() {
        let logits = |values: [f32; 6]| Tensor::from_slice(&values).view([2, 3]);
        let outputs =
            [logits([2.0, 0.0, -1.0, 0.5, 1.0, 0.0]), logits([0.0; 6]), logits([1.0, 0.0, 0.0, 0.0, 0.0, 3.0])];
        let targets = Targets::of(vec![Tensor::from_slice(&[0_i64, 1])]);
        let task = Classification::to_evaluate();
        let of = |output: &Tensor| task.loss(std::slice::from_ref(output), &targets).double_value(&[]);
        let expected = of(&outputs[0]) + 0.3 * of(&outputs[1]) + 0.4 * of(&outputs[2]);
        let got = WithAuxiliary { task: &task, weights: vec![0.3, 0.4] }.loss(&outputs, &targets).double_value(&[]);
        assert!((got - expected).abs() < 1e-6, "{got}, not {expected}");
    }
}
