//! The task of telling classes apart: cross-entropy, top-1 and top-5, and which classes are taken for which.

mod counts;
mod loss;

use dataset::Batch;
use model_card::CLASSIFICATION;
use tch::{Device, Kind, Tensor};

use super::{Scorer, Targets, Task, own_targets};

pub use counts::Counts;
pub(crate) use loss::Criterion;

/// Images have one class each, or a share of each; the first output of a model is a logit for each class, N×classes.
#[derive(Debug)]
pub(crate) struct Classification {
    criterion: Criterion,
}

impl Classification {
    /// The task of a run that minimizes this.
    pub(crate) fn new(criterion: Criterion) -> Self {
        Self { criterion }
    }

    /// The task of weights that are only evaluated: scores know neither smoothing nor weights of classes.
    pub(crate) fn to_evaluate() -> Self {
        Self { criterion: Criterion::PLAIN }
    }
}

impl Task for Classification {
    fn name(&self) -> &str {
        CLASSIFICATION
    }

    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        // Without a wait: so few bytes are taken at once.
        let labels = |labels: &[i64]| Tensor::from_slice(labels).to_device_(device, Kind::Int64, true, false);
        let own = labels(&batch.labels);
        match &batch.mixed {
            _ if !batch.targets.is_empty() => {
                let width = batch.targets.len() / batch.len();
                Targets::of(vec![own, own_targets(batch, width, |_, share| share, device)])
            }
            None => Targets::of(vec![own]),
            Some(mixed) => Targets { tensors: vec![own, labels(&mixed.labels)], share: mixed.share },
        }
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        self.criterion.loss(&outputs[0], targets)
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        Box::<Counts>::default()
    }

    fn takes_mixed_images(&self) -> bool {
        true
    }
}
