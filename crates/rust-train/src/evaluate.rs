//! Exact evaluation over all ranks: every sample once, whatever the number of ranks.

use dataset::Loader;
use serde::Serialize;
use tch::{Kind, Reduction, Tensor};
use world::{Channel, Reduction as Across};

use crate::model::Normalize;
use crate::step::Stepper;

/// How good a model is on a set of pictures.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Scores {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of samples whose class has the highest logit, 0–1.
    pub top1: f64,
    /// Share of samples whose class is among the five highest logits, 0–1.
    pub top5: f64,
    /// Samples, over all ranks.
    pub samples: usize,
}

/// Evaluates the model of `stepper` on all pictures of `loader`. Collective.
pub(crate) fn evaluate(
    stepper: &Stepper<'_>,
    loader: &Loader,
    normalize: &Normalize,
    channel: &Channel,
) -> anyhow::Result<Scores> {
    let mut sums = [0.0; 4]; // loss, top-1, top-5, samples
    tch::no_grad(|| -> anyhow::Result<()> {
        for batch in loader.evaluate() {
            let batch = batch?;
            let labels = normalize.labels(&batch.labels);
            let logits = stepper.forward(&normalize.pictures(&batch)?, false)?.to_kind(Kind::Float);
            for (sum, value) in sums.iter_mut().zip(sums_of(&logits, &labels)) {
                *sum += value;
            }
        }
        Ok(())
    })?;
    channel.all_reduce(&mut sums, Across::Sum)?;
    Ok(Scores::of_sums(sums))
}

/// Of a batch: the summed loss, how many classes are right, how many are among the first five, how many pictures.
pub(crate) fn sums_of(logits: &Tensor, labels: &Tensor) -> [f64; 4] {
    let loss = logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Sum, -100, 0.0);
    let best = logits.topk(5.min(logits.size()[1]), 1, true, true).1;
    let hits = best.eq_tensor(&labels.unsqueeze(1));
    let count = |hits: Tensor| hits.sum(Kind::Double).double_value(&[]);
    [loss.double_value(&[]), count(hits.narrow(1, 0, 1)), count(hits), labels.size()[0] as f64]
}

impl Scores {
    /// From what [`sums_of`] gave, over all batches and ranks.
    pub(crate) fn of_sums([loss, top1, top5, samples]: [f64; 4]) -> Self {
        Self { loss: loss / samples, top1: top1 / samples, top5: top5 / samples, samples: samples as usize }
    }
}
