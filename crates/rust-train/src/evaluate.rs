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
            let logits = stepper.forward(&normalize.pictures(&batch), false)?.to_kind(Kind::Float);
            let loss = logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Sum, -100, 0.0);
            let best = logits.topk(5.min(logits.size()[1]), 1, true, true).1;
            let hits = best.eq_tensor(&labels.unsqueeze(1));
            sums[0] += loss.double_value(&[]);
            sums[1] += hits.narrow(1, 0, 1).sum(Kind::Double).double_value(&[]);
            sums[2] += hits.sum(Kind::Double).double_value(&[]);
            sums[3] += batch.len() as f64;
        }
        Ok(())
    })?;
    channel.all_reduce(&mut sums, Across::Sum)?;
    let [loss, top1, top5, samples] = sums;
    Ok(Scores { loss: loss / samples, top1: top1 / samples, top5: top5 / samples, samples: samples as usize })
}
