//! The loop: epochs of steps, each epoch evaluated, recorded and saved, until the end or until all ranks agree to stop.

mod buffers;
mod course;
pub(crate) mod evaluate;
mod saving;
pub(crate) mod step;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use dataset::{Batch, Batches, Loader};
use report::{EpochLine, StepLine};
use tch::{Device, Tensor};
use world::{Reduction, World};

use crate::config::plan::{OnNan, Plan};
use crate::data::normalize::Normalize;
use crate::distributed::synchronization::{Agreement, Pass};
use crate::errors::{Ending, Stop, agree, usage};
use crate::observe::clock;
use crate::observe::progress::{Pace, Progress, left_words};
use crate::observe::timers::Work;
use crate::optim::schedule::Schedule;
use crate::run::checkpoint::{DatasetSize, Position, Writer};
use crate::run::results::Results;
use crate::task::loss::Criterion;
use crate::task::loss::Targets;
use crate::task::metrics::{Scores, Tally};
use crate::trainer::step::{Step, Stepper};

use buffers::distribute_buffers;
pub(crate) use course::Course;
use evaluate::evaluate;

/// Steps in a row without a finite loss after which a run that leaves them out ends all the same.
const MOST_SKIPPED: usize = 100;

/// A run, ready to train.
pub(crate) struct Trainer<'a> {
    pub world: &'a World,
    pub plan: &'a Plan,
    pub device: Device,
    pub course: Course,
    pub schedule: Schedule,
    /// Whether only the head is trained at present.
    pub is_frozen: bool,
    pub stepper: Stepper<'a>,
    pub agreement: Agreement<'a>,
    pub train: Loader,
    pub val: Loader,
    pub sizes: DatasetSize,
    pub normalize: Normalize,
    pub criterion: Criterion,
    pub output: &'a Path,
    /// Rank 0's.
    pub results: Option<Results>,
    /// Rank 0's.
    pub writer: Option<Writer>,
    pub position: Position,
    /// This rank's losses, and the learning rates, since the last ones were written down.
    pub losses: Vec<(f64, f64)>,
    /// Batches of the last evaluation that were made, and those that there are; and the time that it took.
    pub evaluated: (usize, usize),
    pub evaluation_time: Duration,
    pub start: Instant,
}

impl Trainer<'_> {
    /// All epochs that are left, or those until a stop.
    pub(crate) fn fit(&mut self) -> anyhow::Result<Ending> {
        let begin = self.position.clone();
        if !self.course.is_over(&begin) {
            self.refuse_no_time()?;
        }
        while !self.course.is_over(&self.position) {
            if self.is_frozen && self.course.unfreezes(self.position.epoch) {
                self.unfreeze()?;
            }
            let (pace, stop) = self.train_epoch()?;
            match stop.map_or_else(|| self.evaluate_epoch(pace), |stop| Ok(Err(stop)))? {
                Ok(is_best) => self.save(is_best)?,
                Err(stop) => {
                    self.save_and_wait(stop)?;
                    self.refuse_no_progress(stop, &begin)?;
                    return Ok(Ending::Stopped(stop));
                }
            }
        }
        self.finish()?;
        Ok(Ending::Complete)
    }

    /// The steps of an epoch that are left, or those until a stop.
    fn train_epoch(&mut self) -> anyhow::Result<(Pace, Option<Stop>)> {
        let epoch = self.position.epoch;
        let begun = self.position.step;
        let steps = self.course.steps_left(&self.position);
        let of_epoch = self.course.steps_per_epoch.max(steps);
        let title = format!("epoch {}/{}", epoch + 1, self.course.epochs);
        let progress = Progress::new(self.world, &title, "steps", of_epoch as u64);
        let begin = clock::synchronized(self.device);
        let timeline = self.stepper.timeline;
        let spent = timeline.spent();
        let pace = |steps: usize, seconds: f64| {
            Pace::new(timeline.spent() - spent, steps, steps * self.plan.batch.global(), seconds)
        };
        let mut batches = self.batches(epoch, self.position.samples);
        let mut stop = None;
        for made in 1..=steps {
            let batch = timeline.span(Work::Data, || batches.next()).context("the data ended early")??;
            let loss;
            (loss, stop) = self.step(&batch)?;
            progress.update((of_epoch - steps + made) as u64, || {
                let pace = pace(made, begin.elapsed().as_secs_f64());
                let left = self.course.total_steps() as f64 - self.course.progress(&self.position);
                let rate = self.losses.last().map_or(0.0, |(_, rate)| *rate);
                let left = left_words(pace.seconds_per_step * left);
                format!("loss {loss:.3}, lr {rate:.2e}, {}, {left} in all", pace.brief())
            });
            if stop.is_some() {
                break;
            }
            let interval = self.plan.run.checkpoint_steps;
            if made < steps && interval.is_some_and(|steps| self.position.step.is_multiple_of(steps)) {
                self.write_losses()?;
                self.save(false)?;
            }
        }
        let seconds = (clock::synchronized(self.device) - begin).as_secs_f64();
        progress.finish();
        self.position.trained = self.course.steps_left(&self.position) == 0;
        self.write_losses()?;
        Ok((pace(self.position.step - begun, seconds), stop))
    }

    /// The training batches of an epoch from a sample on, of the size that images have grown to by then.
    fn batches(&self, epoch: usize, first: usize) -> Batches {
        match self.plan.growth.map(|growth| growth.side(epoch)) {
            Some(side) if side != self.plan.images.image_size => self.train.at_side(side).train(epoch as u64, first),
            _ => self.train.train(epoch as u64, first),
        }
    }

    /// One step; its loss on this rank, and whether the run is to stop after it.
    fn step(&mut self, batch: &Batch) -> anyhow::Result<(f64, Option<Stop>)> {
        let start = Instant::now();
        let number = self.position.step;
        self.stepper.timeline.activity().enter_step(number + 1);
        let (images, targets) = (self.normalize.images(batch)?, Targets::of(batch, self.device));
        let rate = self.schedule.at(self.course.progress(&self.position));
        let Step { loss, agreed } = loop {
            let loss = |logits: &Tensor, start: i64| self.criterion.loss(logits, &targets, start);
            let step = self.stepper.step(&images, &loss, number, rate, &mut self.agreement)?;
            match step.agreed.pass {
                Pass::OutOfMemory => self.split_further(step.agreed.rank)?,
                Pass::Good | Pass::BadLoss => break step,
            }
        };
        match agreed.pass {
            Pass::BadLoss => self.leave_out(agreed.rank)?,
            _ => self.position.skipped = 0,
        }
        self.course.advance(&mut self.position);
        if number == 0 && self.world.rank() == 0 {
            log::info!("first step done, {:.2} s after the run began", self.start.elapsed().as_secs_f64());
        }
        self.losses.push((loss, rate.lr));
        self.compare_replicas()?;
        self.stepper.timeline.activity().beat();
        self.agreement.note_step(start.elapsed());
        Ok((loss, agreed.stop))
    }

    /// The memory of `rank` did not suffice for a step, which nobody has made: it is tried again in smaller parts, if it
    /// may.
    fn split_further(&mut self, rank: usize) -> anyhow::Result<()> {
        let step = self.position.step + 1;
        let parts = self.stepper.micro_batches;
        let more = self.micro_batches(parts + 1).first().copied();
        let hint = "--batch auto finds what fits, --accumulate computes in smaller parts";
        let Some(more) = more.filter(|_| self.plan.fit_memory) else {
            return bail_together(self.world, rank, format!("step {step}: out of memory; {hint}"));
        };
        self.stepper.reconnect(self.plan)?;
        self.stepper.micro_batches = more;
        if self.world.rank() == 0 {
            log::warn!(
                "step {step}: out of memory on rank {rank}; from here on in {more} micro-batches instead of {parts}"
            );
        }
        Ok(())
    }

    /// `--batch auto`: finds the largest micro-batch that fits on all ranks, of what is trained at present. Collective.
    pub(crate) fn fit_memory(&mut self) -> anyhow::Result<()> {
        if !self.plan.fit_memory {
            return Ok(());
        }
        // A rank whose memory does not suffice leaves its pass in the middle: no other may wait for it there.
        self.stepper.model.pause_batch_norm_synchronization(true);
        let fitted = self.find_what_fits();
        self.stepper.model.pause_batch_norm_synchronization(false);
        fitted
    }

    fn find_what_fits(&mut self) -> anyhow::Result<()> {
        let whole = self.plan.batch.per_rank();
        let buffers: Vec<_> =
            self.stepper.model.buffers().into_iter().map(|(_, buffer)| (buffer.copy(), buffer)).collect();
        for parts in self.micro_batches(self.plan.batch.accumulation()) {
            let fits = self.stepper.fits(whole / parts, self.plan.images.image_size)?;
            let mut misfits = [u64::from(!fits)];
            self.world.control().all_reduce(&mut misfits, Reduction::Sum)?;
            if misfits[0] == 0 {
                for (before, buffer) in &buffers {
                    buffer.detach().f_copy_(before)?;
                }
                self.stepper.micro_batches = parts;
                if self.world.rank() == 0 {
                    log::info!("a step is made in {parts} micro-batches of {} images a rank", whole / parts);
                }
                return Ok(());
            }
        }
        let least = self.micro_batches(1).last().map_or(1, |parts| whole / parts);
        agree(self.world, Err(usage(format!("--batch auto: the memory does not suffice for a micro-batch of {least}"))))
    }

    /// In how many equal micro-batches a rank may compute its part of a batch: in `least` or more, none too small for
    /// BatchNorm.
    fn micro_batches(&self, least: usize) -> Vec<usize> {
        let whole = self.plan.batch.per_rank();
        let may = |parts: &usize| whole.is_multiple_of(*parts) && whole / parts >= self.plan.least_micro_batch;
        (least..=whole).filter(may).collect()
    }

    /// A step whose loss was no number on `rank`: all ranks have left it out, and go on if they may.
    fn leave_out(&mut self, rank: usize) -> anyhow::Result<()> {
        let step = self.position.step + 1;
        let what = format!("the loss of step {step} is NaN or infinite");
        self.position.skipped += 1;
        match self.plan.run.on_nan {
            OnNan::Stop => {
                let hint = "lower --lr, use --clip-grad-norm, or leave such steps out with --on-nan skip";
                bail_together(self.world, rank, format!("{what}; {hint}"))
            }
            OnNan::Skip if self.position.skipped > MOST_SKIPPED => {
                bail_together(self.world, rank, format!("{what}, as those of {MOST_SKIPPED} steps before it"))
            }
            OnNan::Skip => {
                if self.world.rank() == 0 {
                    let host = self.world.host_of(rank);
                    log::warn!("{what} on rank {rank} on {host}: the step is left out");
                }
                Ok(())
            }
        }
    }

    /// Scores the model after an epoch, and writes that down. Gives whether it is the best so far; or why the run is to
    /// stop before the scores are known.
    fn evaluate_epoch(&mut self, pace: Pace) -> anyhow::Result<Result<bool, Stop>> {
        let tally = if self.sizes.val == 0 {
            // Nobody says how good it is; what is saved is the same on all ranks all the same.
            distribute_buffers(self.stepper.model, self.stepper.group, self.plan.training.distribute_bn)?;
            None
        } else {
            match self.evaluate()? {
                Ok(tally) => Some(tally),
                Err(stop) => return Ok(Err(stop)),
            }
        };
        let mut is_best = false;
        if let Some(Scores { loss, top1, .. }) = tally.as_ref().map(Tally::scores) {
            let is_finite = self.refuse_nan_scores(loss)?;
            is_best = is_finite && self.position.best.is_none_or(|best| top1 > best);
            if is_best {
                self.position.best = Some(top1);
            }
        }
        self.record(tally, pace)?;
        self.course.score(&mut self.position);
        (self.position.loss_sum, self.position.losses) = (0.0, 0);
        Ok(Ok(is_best))
    }

    /// A validation loss that is NaN is the weights' fault, or BatchNorm's statistics': training is over. Gives whether it
    /// is finite, where the run may go on all the same.
    fn refuse_nan_scores(&self, loss: f64) -> anyhow::Result<bool> {
        if loss.is_finite() {
            return Ok(true);
        }
        let what = format!("the validation loss of epoch {} is {loss}", self.position.epoch + 1);
        let bad: Vec<_> = self.stepper.model.state().into_iter().filter(|(_, tensor)| !is_finite(tensor)).collect();
        let cause = match bad.first() {
            Some((name, _)) => format!("{name} holds NaN or infinity, and {} more tensors do", bad.len() - 1),
            None => "the weights are finite, and what they make of some image is not".to_owned(),
        };
        match self.plan.run.on_nan {
            OnNan::Stop => {
                let hint = "lower --lr, use --clip-grad-norm, or continue all the same with --on-nan skip";
                agree(self.world, Err(anyhow!("{what}: {cause}; {hint}")))
            }
            OnNan::Skip => {
                if self.world.rank() == 0 {
                    log::warn!("{what}: {cause}; this epoch cannot be the best");
                }
                Ok(false)
            }
        }
    }

    /// Scores the model as it stands: its moving average, where there is one. A stop in the middle of it leaves everything
    /// as it was.
    fn evaluate(&mut self) -> anyhow::Result<Result<Tally, Stop>> {
        let distribute = self.plan.training.distribute_bn;
        let before: Vec<_> = self.stepper.buffers().iter().map(|(_, buffer)| buffer.detach().copy()).collect();
        distribute_buffers(self.stepper.model, self.stepper.group, distribute)?;
        let Self { stepper, agreement, val, normalize, world, .. } = self;
        let (mut stop, begin, mut done) = (None, Instant::now(), 0);
        let tally = stepper.with_average(|stepper| {
            if stepper.ema.is_some() {
                distribute_buffers(stepper.model, stepper.group, distribute)?;
            }
            evaluate(stepper, val, normalize, world.control(), || {
                stop = agreement.meet(Pass::Good)?.stop;
                done += 1;
                Ok(stop.is_none())
            })
        })?;
        (self.evaluated, self.evaluation_time) = ((done, self.val.evaluation_steps()), begin.elapsed());
        if let (Some(tally), None) = (tally, stop) {
            return Ok(Ok(tally));
        }
        for ((_, buffer), before) in self.stepper.buffers().iter().zip(&before) {
            buffer.detach().f_copy_(before)?;
        }
        Ok(Err(stop.context("an evaluation ends where it is stopped")?))
    }

    /// From here on everything is trained.
    fn unfreeze(&mut self) -> anyhow::Result<()> {
        let Stepper { model, group, timeline, .. } = self.stepper;
        model.set_backbone_frozen(false);
        // Gradients travel and move in other groups now. What the optimizer knows of the head it keeps.
        let (optimizer, scaler) = self.stepper.state()?;
        let stepper = Stepper::new(self.plan, model, self.device, group, timeline).map_err(anyhow::Error::from);
        let ema = self.stepper.ema.take();
        self.stepper = agree(self.world, stepper)?;
        self.stepper.ema = ema;
        self.stepper.load_state(&optimizer, scaler)?;
        self.is_frozen = false;
        // What fits is another question now: activations of everything are kept for the backward pass.
        self.fit_memory()?;
        if self.world.rank() == 0 {
            log::info!("everything is trained from here on");
        }
        Ok(())
    }

    /// Now and then makes sure that all ranks still train the same model.
    fn compare_replicas(&self) -> anyhow::Result<()> {
        let step = self.position.step;
        if self.plan.compare_replicas.is_none_or(|interval| !step.is_multiple_of(interval)) {
            return Ok(());
        }
        match self.stepper.ddp.compare_replicas()? {
            None => Ok(()),
            Some(difference) => agree(self.world, Err(anyhow!("after step {step} {difference}"))),
        }
    }

    /// Writes down each step's loss over the global batch: the mean of the ranks' equal parts.
    fn write_losses(&mut self) -> anyhow::Result<()> {
        let (mut losses, rates): (Vec<_>, Vec<_>) = std::mem::take(&mut self.losses).into_iter().unzip();
        self.world.control().all_reduce(&mut losses, Reduction::Sum)?;
        losses.iter_mut().for_each(|loss| *loss /= self.world.size() as f64);
        for loss in losses.iter().filter(|loss| loss.is_finite()) {
            self.position.loss_sum += loss;
            self.position.losses += 1;
        }
        let first = self.position.step - losses.len();
        let line = |(index, (loss, lr))| StepLine { step: first + index, loss, lr };
        let lines: Vec<_> = losses.into_iter().zip(rates).enumerate().map(line).collect();
        agree(self.world, self.results.as_mut().map_or(Ok(()), |results| results.write_steps(&lines)))
    }

    /// Rank 0 writes down what an epoch brought; all ranks learn whether it could.
    fn record(&mut self, tally: Option<Tally>, pace: Pace) -> anyhow::Result<()> {
        let scores = tally.as_ref().map_or(Scores::NONE, Tally::scores);
        let line = EpochLine {
            epoch: self.position.epoch + 1,
            train_loss: self.position.loss_sum / self.position.losses as f64,
            val_loss: scores.loss,
            top1: scores.top1,
            top5: scores.top5,
            images_per_second: pace.images_per_second,
            data_wait: pace.data_wait,
            communication_wait: pace.communication_wait,
            elapsed_seconds: self.elapsed(),
        };
        let mut after = self.position.clone();
        self.course.score(&mut after);
        let is_last = self.course.is_over(&after);
        let Self { results, val, position, .. } = self;
        let written = results.as_mut().map_or(Ok(()), |results| {
            let validation = match &tally {
                None => String::new(),
                Some(_) => format!(
                    " val loss {:.4}, top-1 {:.2} %, top-5 {:.2} %,",
                    line.val_loss,
                    line.top1 * 100.0,
                    line.top5 * 100.0
                ),
            };
            log::info!("epoch {}: train loss {:.4},{validation} {pace}", line.epoch, line.train_loss);
            results.write_epoch(line, position.step, tally, val, is_last)
        });
        agree(self.world, written)
    }

    /// Refuses to begin where the time limit leaves no time for a step. Collective.
    fn refuse_no_time(&mut self) -> anyhow::Result<()> {
        let (stop, needed) = (self.agreement.meet(Pass::Good)?.stop, self.agreement.time_needed(Duration::ZERO));
        let refused = match (stop, needed) {
            (Some(Stop::TimeLimit), Some(needed)) if self.world.rank() == 0 => Err(anyhow!(
                "the time limit leaves no time for a step: {:.0} s went by before the first one, and some are kept for saving; \
                 give at least {needed} s",
                self.start.elapsed().as_secs_f64()
            )),
            _ => Ok(()),
        };
        agree(self.world, refused)
    }

    /// Refuses to be called again and again where the time limit has kept this time from coming any further than `begin`.
    /// Collective.
    fn refuse_no_progress(&mut self, stop: Stop, begin: &Position) -> anyhow::Result<()> {
        if stop != Stop::TimeLimit || self.position.is_beyond(begin) {
            return Ok(());
        }
        // What was evaluated says how long the rest would have taken.
        let (done, all) = self.evaluated;
        let rest = self.evaluation_time.mul_f64((all.saturating_sub(done)) as f64 / done.max(1) as f64);
        let refused = match self.agreement.time_needed(rest) {
            Some(needed) => Err(anyhow!(
                "the time limit ended the evaluation of epoch {} after {done} of {all} batches, and nothing was achieved: give \
                 at least {needed} s",
                self.position.epoch + 1
            )),
            None => Ok(()), // rank 0 knows
        };
        agree(self.world, refused)
    }

    /// Seconds that the run has taken, before it was stopped too.
    fn elapsed(&self) -> f64 {
        self.position.elapsed + self.start.elapsed().as_secs_f64()
    }
}

fn is_finite(tensor: &Tensor) -> bool {
    !tensor.is_floating_point() || tensor.isfinite().all().int64_value(&[]) == 1
}

/// Ends the run with an error that all ranks know to be that of `rank`.
fn bail_together(world: &World, rank: usize, message: String) -> anyhow::Result<()> {
    agree(world, if world.rank() == rank { Err(anyhow!(message)) } else { Ok(()) })?;
    bail!("rank {rank} did not fail after all")
}
