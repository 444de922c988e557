//! The task of telling the class of each pixel: cross-entropy and soft Dice, intersection over union.

mod loss;
mod overlap;

use dataset::Batch;
use flags::LossKind;
use model_card::SEGMENTATION;
use tch::{Device, Kind, Tensor};

use super::{Scorer, Targets, Task};
use loss::Criterion;
use overlap::Overlap;

/// Images have a mask; the first output of a model is a logit for each class at each pixel, N×classes×H×W.
#[derive(Debug)]
pub(crate) struct Segmentation {
    classes: usize,
    criterion: Criterion,
}

impl Segmentation {
    /// The task of telling so many classes apart.
    pub(crate) fn new(loss: Option<LossKind>, label_smoothing: f64, classes: usize) -> Self {
        Self { classes, criterion: Criterion { kind: loss.unwrap_or(LossKind::Ce), label_smoothing } }
    }
}

impl Task for Segmentation {
    fn name(&self) -> &str {
        SEGMENTATION
    }

    /// Bytes, which travel as they are; without masks, where images are made up to see whether they fit, all of class 0.
    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        let shape = [batch.len(), batch.side, batch.side].map(|length| length as i64);
        let masks = match &batch.masks {
            Some(masks) => Tensor::from_slice(masks).view(shape),
            None => Tensor::zeros(shape, (Kind::Uint8, Device::Cpu)),
        };
        Targets::of(vec![masks.to_device_(device, Kind::Uint8, true, false)])
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        self.criterion.each(&outputs[0], &classes_of(targets)).mean(Kind::Float)
    }

    /// Scores know no smoothing.
    fn scorer(&self) -> Box<dyn Scorer> {
        Box::new(Overlap::new(self.classes, Criterion { label_smoothing: 0.0, ..self.criterion }))
    }
}

/// The classes of pixels as libtorch's loss wants them.
fn classes_of(targets: &Targets) -> Tensor {
    targets.tensors[0].to_kind(Kind::Int64)
}
