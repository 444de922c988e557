//! Exact evaluation over all ranks: every sample once, whatever the number of ranks.

use dataset::Loader;
use tch::Kind;
use world::Channel;

use super::step::Stepper;
use crate::data::normalize::Normalize;
use crate::observe::timers::Work;
use crate::task::metrics::Tally;

/// Evaluates the model of `stepper` on all images of `loader`. Every rank gets the same, and asks `goes_on` equally
/// often, which must say the same on all; `None` where it said no. Collective.
pub(crate) fn evaluate(
    stepper: &Stepper<'_>,
    loader: &Loader,
    normalize: &Normalize,
    channel: &Channel,
    mut goes_on: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Option<Tally>> {
    let mut tally = Tally::default();
    let mut index = loader.evaluated().start;
    let mut batches = loader.evaluate();
    let evaluator = stepper.evaluator();
    for _ in 0..loader.evaluation_steps() {
        if let Some(batch) = batches.next().transpose()? {
            let forward = || evaluator(&normalize.images(&batch)?);
            let logits = stepper.timeline.span(Work::Evaluation, || tch::no_grad(forward))?.to_kind(Kind::Float);
            tally.add(&logits, &batch.labels, index)?;
            index += batch.len();
        }
        stepper.timeline.activity().beat();
        if !goes_on()? {
            return Ok(None);
        }
    }
    tally.gather(channel).map(Some)
}
