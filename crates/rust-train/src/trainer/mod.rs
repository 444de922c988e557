//! The loop: epochs of steps, each epoch evaluated, recorded and saved, until the end or until all ranks agree to stop.

mod course;
mod saving;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use dataset::{Batch, Batches, Loader};
use report::{EpochLine, StepLine};
use tch::{Device, Tensor};
use world::{Reduction, World};

use crate::agreement::{Agreement, Pass, Stop};
use crate::checkpoint::{DatasetSize, Position, Writer};
use crate::evaluate::{Tally, evaluate};
use crate::failure::{Ending, agree, usage};
use crate::loss::Criterion;
use crate::model::{self, Normalize};
use crate::plan::{OnNan, Plan};
use crate::progress::{Pace, Progress, left_words};
use crate::results::Results;
use crate::schedule::Schedule;
use crate::spent::Work;
use crate::step::{Step, Stepper};
use crate::time;

pub(crate) use course::Course;

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
    /// This rank's losses since the last ones were written down.
    pub losses: Vec<f64>,
    pub start: Instant,
}

impl Trainer<'_> {
    /// All epochs that are left, or those until a stop.
    pub(crate) fn fit(&mut self) -> anyhow::Result<Ending> {
        while !self.course.is_over(&self.position) {
            if self.is_frozen && self.course.unfreezes(self.position.epoch) {
                self.unfreeze()?;
            }
            let (pace, stop) = self.train_epoch()?;
            match stop.map_or_else(|| self.evaluate_epoch(pace), |stop| Ok(Err(stop)))? {
                Ok(is_best) => self.save(is_best)?,
                Err(stop) => {
                    self.save_and_wait(stop)?;
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
        let steps = self.course.steps_of(epoch);
        let first = self.position.step;
        let title = format!("epoch {}/{}", epoch + 1, self.course.epochs);
        let progress = Progress::new(self.world, &title, "steps", steps.len() as u64);
        let begin = time::synchronized(self.device);
        let timeline = self.stepper.timeline;
        let spent = timeline.spent();
        let pace = |steps: usize, seconds: f64| {
            Pace::new(timeline.spent() - spent, steps, steps * self.plan.batch.global(), seconds)
        };
        let mut batches = self.batches(epoch, first - steps.start);
        let mut stop = None;
        while self.position.step < steps.end && stop.is_none() {
            let batch = timeline.span(Work::Data, || batches.next()).context("the data ended early")??;
            let loss;
            (loss, stop) = self.step(&batch)?;
            let step = self.position.step;
            progress.update((step - steps.start) as u64, || {
                let pace = pace(step - first, begin.elapsed().as_secs_f64());
                let left = pace.seconds_per_step * (self.course.total_steps - step) as f64;
                let rate = self.schedule.learning_rate(step - 1);
                format!("loss {loss:.3}, lr {rate:.2e}, {}, {} in all", pace.brief(), left_words(left))
            });
            let interval = self.plan.run.checkpoint_steps;
            if self.position.step < steps.end && interval.is_some_and(|steps| self.position.step.is_multiple_of(steps))
            {
                self.write_losses()?;
                self.save(false)?;
            }
        }
        let seconds = (time::synchronized(self.device) - begin).as_secs_f64();
        progress.finish();
        self.position.trained = self.position.step == steps.end;
        self.write_losses()?;
        Ok((pace(self.position.step - first, seconds), stop))
    }

    /// The training batches of an epoch from one on, of the size that pictures have grown to by then.
    fn batches(&self, epoch: usize, first: usize) -> Batches {
        match self.plan.growth.map(|growth| growth.side(epoch)) {
            Some(side) if side != self.plan.pictures.image_size => self.train.at_side(side).train(epoch as u64, first),
            _ => self.train.train(epoch as u64, first),
        }
    }

    /// One step; its loss on this rank, and whether the run is to stop after it.
    fn step(&mut self, batch: &Batch) -> anyhow::Result<(f64, Option<Stop>)> {
        let start = Instant::now();
        let number = self.position.step;
        self.stepper.timeline.activity().enter_step(number + 1);
        let (pictures, targets) = (self.normalize.pictures(batch)?, self.normalize.targets(batch));
        let rate = self.schedule.at(number);
        let Step { loss, agreed } = loop {
            let loss = |logits: &Tensor, start: i64| self.criterion.loss(logits, &targets, start);
            let step = self.stepper.step(&pictures, &loss, number, rate, &mut self.agreement)?;
            match step.agreed.pass {
                Pass::OutOfMemory => self.split_further(step.agreed.rank)?,
                Pass::Good | Pass::BadLoss => break step,
            }
        };
        match agreed.pass {
            Pass::BadLoss => self.leave_out(agreed.rank)?,
            _ => self.position.skipped = 0,
        }
        self.position.step += 1;
        if number == 0 && self.world.rank() == 0 {
            log::info!("first step done, {:.2} s after the run began", self.start.elapsed().as_secs_f64());
        }
        self.losses.push(loss);
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
        let more =
            (parts + 1..=self.plan.batch.per_rank()).find(|parts| self.plan.batch.per_rank().is_multiple_of(*parts));
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

    /// `--batch auto`: finds the largest micro-batch that fits on all ranks. Collective.
    pub(crate) fn fit_memory(&mut self) -> anyhow::Result<()> {
        let whole = self.plan.batch.per_rank();
        let buffers: Vec<_> =
            self.stepper.model.buffers().into_iter().map(|(_, buffer)| (buffer.copy(), buffer)).collect();
        let divisors = (self.plan.batch.accumulation()..=whole).filter(|parts| whole.is_multiple_of(*parts));
        for parts in divisors {
            let fits = self.stepper.fits(whole / parts, self.plan.pictures.image_size)?;
            let mut misfits = [u64::from(!fits)];
            self.world.control().all_reduce(&mut misfits, Reduction::Sum)?;
            if misfits[0] == 0 {
                for (before, buffer) in &buffers {
                    buffer.detach().f_copy_(before)?;
                }
                self.stepper.micro_batches = parts;
                if self.world.rank() == 0 {
                    log::info!("a step is made in {parts} micro-batches of {} pictures a rank", whole / parts);
                }
                return Ok(());
            }
        }
        agree(self.world, Err(usage("--batch auto: the memory does not suffice for a single picture")))
    }

    /// A step whose loss was no number on `rank`: all ranks have left it out, and go on if they may.
    fn leave_out(&mut self, rank: usize) -> anyhow::Result<()> {
        let step = self.position.step + 1;
        let what = format!("the loss of step {step} is no finite number");
        self.position.skipped += 1;
        match self.plan.run.on_nan {
            OnNan::Stop => {
                let hint = "lower --lr, use --clip-norm, or leave such steps out with --on-nan skip";
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
        let tally = match self.evaluate()? {
            Ok(tally) => tally,
            Err(stop) => return Ok(Err(stop)),
        };
        let top1 = tally.scores().top1;
        let is_best = self.position.best.is_none_or(|best| top1 > best);
        if is_best {
            self.position.best = Some(top1);
        }
        self.record(tally, pace)?;
        let position = &mut self.position;
        (position.epoch, position.trained) = (position.epoch + 1, false);
        (position.loss_sum, position.losses) = (0.0, 0);
        Ok(Ok(is_best))
    }

    /// Scores the model as it stands: its moving average, where there is one. A stop in the middle of it leaves everything
    /// as it was.
    fn evaluate(&mut self) -> anyhow::Result<Result<Tally, Stop>> {
        let distribute = self.plan.training.distribute_bn;
        let before: Vec<_> = self.stepper.buffers().iter().map(|(_, buffer)| buffer.detach().copy()).collect();
        model::distribute_buffers(self.stepper.model, self.stepper.group, distribute)?;
        let Self { stepper, agreement, val, normalize, world, .. } = self;
        let mut stop = None;
        let tally = stepper.with_average(|stepper| {
            if stepper.ema.is_some() {
                model::distribute_buffers(stepper.model, stepper.group, distribute)?;
            }
            evaluate(stepper, val, normalize, world.control(), || {
                stop = agreement.meet(Pass::Good)?.stop;
                Ok(stop.is_none())
            })
        })?;
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
        let mut losses = std::mem::take(&mut self.losses);
        self.world.control().all_reduce(&mut losses, Reduction::Sum)?;
        losses.iter_mut().for_each(|loss| *loss /= self.world.size() as f64);
        for loss in losses.iter().filter(|loss| loss.is_finite()) {
            self.position.loss_sum += loss;
            self.position.losses += 1;
        }
        let line = |(&loss, step)| StepLine { step, loss, lr: self.schedule.learning_rate(step) };
        let lines: Vec<_> = losses.iter().zip(self.position.step - losses.len()..).map(line).collect();
        agree(self.world, self.results.as_mut().map_or(Ok(()), |results| results.write_steps(&lines)))
    }

    /// Rank 0 writes down what an epoch brought; all ranks learn whether it could.
    fn record(&mut self, tally: Tally, pace: Pace) -> anyhow::Result<()> {
        let scores = tally.scores();
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
        let Self { results, val, position, .. } = self;
        let written = results.as_mut().map_or(Ok(()), |results| {
            log::info!(
                "epoch {}: train loss {:.4}, val loss {:.4}, top-1 {:.2} %, top-5 {:.2} %, {pace}",
                line.epoch,
                line.train_loss,
                line.val_loss,
                line.top1 * 100.0,
                line.top5 * 100.0,
            );
            results.write_epoch(line, position.step, tally, val)
        });
        agree(self.world, written)
    }

    /// Seconds that the run has taken, before it was stopped too.
    fn elapsed(&self) -> f64 {
        self.position.elapsed + self.start.elapsed().as_secs_f64()
    }
}

/// Ends the run with an error that all ranks know to be that of `rank`.
fn bail_together(world: &World, rank: usize, message: String) -> anyhow::Result<()> {
    agree(world, if world.rank() == rank { Err(anyhow!(message)) } else { Ok(()) })?;
    bail!("rank {rank} did not fail after all")
}
