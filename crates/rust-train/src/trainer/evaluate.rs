//! Exact evaluation over all ranks: every sample once, whatever the number of ranks.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use dataset::{Batch, Loader};
use model_card::CardScores;
use tch::Tensor;

use super::Trainer;
use super::buffers::distribute_buffers;
use crate::data::normalize::Normalize;
use crate::data::shown::show;
use crate::errors::{Stop, agree, usage};
use crate::observe::timers::Work;
use crate::run::results;
use crate::task::{Scorer, Task, deciding, words};

/// What an epoch's evaluation found, and whether the model is the best so far.
pub(super) type Scored = (Option<Box<dyn Scorer>>, bool);

impl Trainer<'_> {
    /// Scores the model after an epoch. Or why the run is to stop before the scores are known.
    pub(super) fn evaluate_epoch(&mut self) -> anyhow::Result<Result<Scored, Stop>> {
        if self.sizes.val == 0 {
            // Nobody says how good it is; what is saved is the same on all ranks all the same.
            distribute_buffers(self.step.model, self.step.group, self.job.plan.flags.distribute_bn)?;
            return Ok(Ok((None, false)));
        }
        let scorer = match self.evaluate()? {
            Ok(scorer) => scorer,
            Err(stop) => return Ok(Err(stop)),
        };
        let epoch = self.position.epoch + 1;
        let (loss, scores) = (scorer.loss(), scorer.scores());
        let (metric, value) = deciding(&*scorer);
        let is_better = |best| metric.is_better(value, best);
        let is_best = self.refuse_nan_scores(loss)? && !value.is_nan() && self.position.best.is_none_or(is_better);
        if is_best {
            (self.position.best, self.position.best_epoch) = (Some(value), epoch);
        }
        self.scores = card_scores(epoch, &*scorer);
        agree(self.job.world, self.hooks.borrow_mut().evaluation(epoch, loss, &scores, is_best))?;
        Ok(Ok((Some(scorer), is_best)))
    }

    /// Scores the model as it stands: its moving average, where there is one. A stop in the middle of it leaves everything
    /// as it was.
    fn evaluate(&mut self) -> anyhow::Result<Result<Box<dyn Scorer>, Stop>> {
        let distribute = self.job.plan.flags.distribute_bn;
        let before: Vec<_> = self.step.buffers().iter().map(|(_, buffer)| buffer.detach().copy()).collect();
        distribute_buffers(self.step.model, self.step.group, distribute)?;
        let Self { step, agreement, val, normalize, task, job, .. } = self;
        let (mut stop, begin, mut done) = (None, Instant::now(), 0);
        let scorer = step.with_average(|step| {
            if step.averaged.is_some() {
                distribute_buffers(step.model, step.group, distribute)?;
            }
            let forward = step.evaluator();
            let timed = |images: &Tensor| Ok(step.timeline.span(Work::Evaluation, || forward(images))?);
            evaluate(&timed, *task, val, normalize, &mut |_| {
                step.timeline.activity().beat();
                stop = agreement.stop()?;
                done += 1;
                Ok(stop.is_none())
            })
        })?;
        (self.evaluated, self.evaluation_time) = ((done, self.val.evaluation_steps()), begin.elapsed());
        if let (Some(mut scorer), None) = (scorer, stop) {
            scorer.gather(job.world.control())?;
            return Ok(Ok(scorer));
        }
        for ((_, buffer), before) in self.step.buffers().iter().zip(&before) {
            buffer.detach().f_copy_(before)?;
        }
        Ok(Err(stop.context("an evaluation ends where it is stopped")?))
    }

    /// `--eval-only`: scores the model as it stands, and writes that down; nothing is trained, and what the run wrote
    /// before stays as it is. Collective.
    pub(crate) fn evaluate_alone(&mut self) -> anyhow::Result<()> {
        let world = self.job.world;
        if self.sizes.val == 0 {
            return agree(world, Err(usage("--eval-only: the data have no validation images")));
        }
        let scored = match self.job.plan.flags.knn {
            Some(count) => self.evaluate_neighbours(count)?,
            None => self.evaluate()?,
        };
        let scorer = match scored {
            Ok(scorer) => scorer,
            Err(stop) => return agree(world, Err(anyhow!("{}", stop.words()))),
        };
        let tell = || -> anyhow::Result<()> {
            let words = tell(&*scorer)?;
            let epoch = Some(self.position.scored_epochs()).filter(|&epoch| epoch > 0);
            let evaluation = scorer.evaluation(epoch, &self.sizes.classes, &|worst| show(&self.val, worst));
            results::write_evaluation(self.output, &evaluation)?;
            log::info!("{words}");
            log::info!("results in {}", self.output.display());
            Ok(())
        };
        agree(world, if world.rank() == 0 { tell() } else { Ok(()) })
    }
}

/// Scores as a model card has them; none where one of them is no number.
fn card_scores(epoch: usize, scorer: &dyn Scorer) -> Option<CardScores> {
    // The last digits of the loss are those of an order of summation, which the number of ranks decides.
    let loss = (scorer.loss() * 1e6).round() / 1e6;
    let metrics: BTreeMap<_, _> = scorer.scores().0.into_iter().collect();
    let is_finite = loss.is_finite() && metrics.values().all(|value| value.is_finite());
    is_finite.then(|| CardScores { epoch, samples: scorer.samples(), loss, metrics })
}

/// What an evaluation by itself found, in one line: `9 of 10 right: top-1 90.00 %, top-5 100.00 %, loss 0.2000`.
///
/// # Errors
/// A loss that is not finite: no score of such a model is worth a line.
pub(crate) fn tell(scorer: &dyn Scorer) -> anyhow::Result<String> {
    let loss = scorer.loss();
    anyhow::ensure!(
        loss.is_finite(),
        "the validation loss is {loss}: what the model makes of some image is not finite"
    );
    let metrics = scorer.metrics();
    let scores = if metrics.is_empty() { String::new() } else { words(&metrics, &scorer.scores()) + ", " };
    Ok(format!("{}: {scores}loss {loss:.4}", scorer.summary()))
}

/// What has just been seen of an evaluation: the number of the first image in the set, the images, and the outputs for them.
/// `None` where this rank has no more, and others do.
pub(crate) type Seen<'s> = Option<(usize, &'s Batch, &'s [Tensor])>;

/// Evaluates what `evaluator` gives for all images of `loader`: of this rank's part of them, not yet
/// [gathered](Scorer::gather). Every rank asks `goes_on` equally often, which must say the same on all; `None` where it said
/// no.
pub(crate) fn evaluate(
    evaluator: &dyn Fn(&Tensor) -> anyhow::Result<Vec<Tensor>>,
    task: &dyn Task,
    loader: &Loader,
    normalize: &Normalize,
    goes_on: &mut dyn FnMut(Seen<'_>) -> anyhow::Result<bool>,
) -> anyhow::Result<Option<Box<dyn Scorer>>> {
    let mut scorer = task.scorer();
    let mut index = loader.evaluated().start;
    let mut batches = loader.evaluate();
    for _ in 0..loader.evaluation_steps() {
        let goes_on = match batches.next().transpose()? {
            None => goes_on(None)?,
            Some(batch) => {
                let batch = Rc::new(batch);
                let images = normalize.images(&batch)?;
                let targets = task.targets(&batch, images.device());
                let outputs = tch::no_grad(|| evaluator(&images))?;
                tch::no_grad(|| scorer.add(&outputs, &targets, index))?;
                let first = index;
                index += batch.len();
                goes_on(Some((first, &batch, &outputs)))?
            }
        };
        if !goes_on {
            return Ok(None);
        }
    }
    Ok(Some(scorer))
}
