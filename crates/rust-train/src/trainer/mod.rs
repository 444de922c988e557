//! The loop: epochs of steps, each epoch evaluated, recorded and saved, until the end or until all ranks agree to stop.

mod buffers;
pub(crate) mod epochs;
pub(crate) mod evaluate;
mod failures;
mod features;
mod fixed_parts;
pub(crate) mod hooks;
pub(crate) mod job;
mod memory;
mod out_of_memory;
mod record;
mod recording;
mod saving;
pub(crate) mod step;
mod step_plan;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use dataset::{Batch, Batches, Dataset, Loader};
use model_card::{CardScores, ModelCard};
use report::EpochLine;

use crate::data::normalize::Normalize;
use crate::distributed::synchronization::{Agreed, Agreement, Pass};
use crate::errors::{RunOutcome, Stop, agree};
use crate::machine::fingerprint::Fingerprint;
use crate::model::card;
use crate::observe::activity::{Doing, Row};
use crate::observe::clock;
use crate::observe::progress::{Progress, Throughput, left_words};
use crate::observe::timers::Work;
use crate::optim::schedule::Schedule;
use crate::run::checkpoint::{DatasetSize, Position, Writer};
use crate::run::results::Results;
use crate::task::Task;

use epochs::Epochs;
use hooks::{Hooks, StepEnd};
use job::Job;
use step::{Launched, StepInput, TrainStep};
pub(crate) use step_plan::StepPlan;

/// What a run is made of, beside its job and its data.
pub(crate) struct Parts<'a> {
    pub task: &'a dyn Task,
    pub step: TrainStep<'a>,
    pub agreement: Agreement<'a>,
    pub hooks: &'a RefCell<Box<dyn Hooks>>,
    /// A hash of the model that is learned from, if one is.
    pub teacher: Option<String>,
}

/// A step under way, and what is needed to launch it once more.
struct Flight {
    input: StepInput,
    launched: Launched,
    begun: Instant,
}

/// A run, ready to train.
pub(crate) struct Trainer<'a> {
    job: Job<'a>,
    /// When it began.
    start: Instant,
    task: &'a dyn Task,
    step: TrainStep<'a>,
    /// Whether only the head is trained at present.
    is_frozen: bool,
    agreement: Agreement<'a>,
    hooks: &'a RefCell<Box<dyn Hooks>>,

    step_plan: StepPlan,
    schedule: Schedule,
    train: Loader,
    val: Loader,
    sizes: DatasetSize,
    /// What must be known of the model to use it, but for its scores.
    card: ModelCard,
    normalize: Normalize,
    /// What its bits depend on, of all ranks.
    fingerprint: Fingerprint,
    /// A hash of the model that is learned from, if one is.
    teacher: Option<String>,

    /// Where the run stands.
    position: Position,
    /// What the evaluation after the last epoch found, where no step has been made since.
    scores: Option<CardScores>,
    /// This rank's losses, and the learning rates, since the last ones were written down.
    losses: Vec<(f64, f64)>,
    last_epoch: Option<EpochLine>,
    /// Batches of the last evaluation that were made, and those that there are; and the time that it took.
    evaluated: (usize, usize),
    evaluation_time: Duration,

    output: &'a Path,
    /// Rank 0's.
    results: Option<Results>,
    /// Rank 0's.
    writer: Option<Writer>,
}

impl<'a> Trainer<'a> {
    /// Makes a run of `job` on `dataset`, which began at `start`, with all but the head frozen or not, and leaves its files in `output`. It stands at its
    /// beginning until it is told otherwise ([`restore`](Self::restore)).
    pub(crate) fn new(
        job: Job<'a>,
        fingerprint: Fingerprint,
        start: Instant,
        Parts { task, step, agreement, hooks, teacher }: Parts<'a>,
        is_frozen: bool,
        dataset: Dataset,
        output: &'a Path,
    ) -> Self {
        let plan = job.plan;
        let step_plan = StepPlan::new(plan, dataset.train.len());
        Self {
            fingerprint,
            teacher,
            start,
            task,
            step,
            is_frozen,
            agreement,
            hooks,
            schedule: plan.training.learning_rate.in_steps(step_plan.steps_per_epoch, step_plan.total_steps()),
            step_plan,
            card: card::of_plan(plan, task, &dataset.classes),
            sizes: DatasetSize { train: dataset.train.len(), val: dataset.val.len(), classes: dataset.classes },
            train: job.loader(Arc::new(dataset.train)),
            val: job.loader(Arc::new(dataset.val)),
            normalize: Normalize::new(job.device, plan.training.memory_format),
            position: Position::default(),
            scores: None,
            losses: Vec::new(),
            last_epoch: None,
            evaluated: (0, 0),
            evaluation_time: Duration::ZERO,
            output,
            results: None,
            writer: (job.world.rank() == 0).then(|| Writer::new(output, plan.flags.run.keep_checkpoints)),
            job,
        }
    }

    /// Trains until the end or until a stop; the epochs are those that `drive` asks for.
    pub(crate) fn fit(
        &mut self,
        drive: &dyn Fn(&mut Epochs<'_, '_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<RunOutcome> {
        let begin = self.position.clone();
        if !self.is_over() {
            self.refuse_no_time()?;
        }
        let mut epochs = Epochs::new(self);
        drive(&mut epochs)?;
        let Some(stop) = epochs.stopped() else {
            self.finish()?;
            if !self.is_over() && self.job.world.rank() == 0 {
                let epoch = self.position.epoch;
                log::warn!(
                    "the program's loop ended after epoch {epoch}; the run is not over, and --resume auto goes on with it"
                );
            }
            return Ok(RunOutcome::Complete);
        };
        self.save_and_wait(stop)?;
        self.refuse_no_progress(stop, &begin)?;
        agree(self.job.world, self.hooks.borrow_mut().stop(stop.words(), self.position.step))?;
        Ok(RunOutcome::Stopped(stop))
    }

    /// One epoch, or what is left of it: trained, scored, written down, saved. Or why the run is to stop.
    fn epoch(&mut self) -> anyhow::Result<Option<Stop>> {
        if self.is_frozen && self.step_plan.unfreezes(self.position.epoch) {
            self.unfreeze()?;
        }
        let is_probe = self.job.plan.flags.linear_probe;
        let (throughput, stop) = if is_probe { self.probe_epoch()? } else { self.train_epoch()? };
        if stop.is_some() {
            return Ok(stop);
        }
        let is_best = match self.evaluate_epoch()? {
            Ok(scored) => self.record(scored, throughput)?,
            Err(stop) => return Ok(Some(stop)),
        };
        self.save(is_best)?;
        Ok(None)
    }

    fn is_over(&self) -> bool {
        self.position.ended || self.step_plan.is_over(&self.position)
    }

    /// The steps of an epoch that are left, or those until a stop.
    fn train_epoch(&mut self) -> anyhow::Result<(Throughput, Option<Stop>)> {
        let epoch = self.position.epoch;
        let begun = self.position.step;
        let steps = self.step_plan.steps_left(&self.position);
        let of_epoch = self.step_plan.steps_per_epoch.max(steps);
        let title = format!("epoch {}/{}", epoch + 1, self.step_plan.epochs);
        let progress = Progress::new(self.job.world, &title, "steps", of_epoch as u64);
        let begin = clock::synchronized(self.job.device);
        let timeline = self.step.timeline;
        let spent = timeline.spent();
        let throughput = |steps: usize, seconds: f64| {
            Throughput::new(timeline.spent() - spent, steps, steps * self.job.plan.batch.global(), seconds)
        };
        self.scores = self.scores.take().filter(|_| steps == 0);
        let mut batches = self.batches(epoch, self.position.samples);
        let (mut under_way, mut stop) = (None, None);
        for launched in 1..=steps {
            let batch = timeline.span(Work::Data, || batches.next()).context("the data ended early")??;
            let next = self.launch(batch, under_way.as_ref())?;
            let is_last = launched == steps || self.is_looked_at(next.input.number + 1);
            under_way = match under_way {
                None => Some(next),
                Some(earlier) => self.settle(earlier, Some(next), &mut stop)?,
            };
            if is_last || stop.is_some() {
                while let Some(last) = under_way {
                    under_way = self.settle(last, None, &mut stop)?;
                }
            }
            let made = self.position.step - begun;
            if let Some(&(loss, rate)) = self.losses.last().filter(|_| made > 0) {
                progress.update((of_epoch - steps + made) as u64, || {
                    let throughput = throughput(made, begin.elapsed().as_secs_f64());
                    let left = self.step_plan.total_steps() as f64 - self.step_plan.progress(&self.position);
                    let left = left_words(throughput.seconds_per_step * left);
                    format!("{left} in all, loss {loss:.3}, {}, lr {rate:.2e}", throughput.brief())
                });
            }
            if stop.is_some() {
                break;
            }
            if launched < steps && self.is_checkpoint(self.position.step) && under_way.is_none() {
                self.write_losses()?;
                self.save(false)?;
            }
        }
        let seconds = (clock::synchronized(self.job.device) - begin).as_secs_f64();
        progress.finish();
        let is_trained = self.step_plan.steps_left(&self.position) == 0;
        let was_trained = std::mem::replace(&mut self.position.trained, is_trained);
        if let (Some(average), true, false) = (&mut self.step.averaged, is_trained, was_trained) {
            average.end_epoch(self.position.epoch)?;
        }
        self.write_losses()?;
        Ok((throughput(self.position.step - begun, seconds), stop))
    }

    /// The training batches of an epoch from a sample on, of the size that images have grown to by then.
    fn batches(&self, epoch: usize, first: usize) -> Batches {
        match self.job.plan.progressive_resize.map(|resize| resize.side(epoch)) {
            Some(side) if side != self.job.plan.images.image_size => {
                self.train.at_side(side).train(epoch as u64, first)
            }
            _ => self.train.train(epoch as u64, first),
        }
    }

    /// Gives the device the step after `before`, which is under way, or after the last one that was made.
    fn launch(&mut self, batch: Batch, before: Option<&Flight>) -> anyhow::Result<Flight> {
        let begun = Instant::now();
        let mut position = self.position.clone();
        if before.is_some() {
            self.step_plan.advance(&mut position);
        }
        let number = position.step;
        self.step.timeline.activity().enter_step(number + 1);
        let batch = Rc::new(batch);
        let images = self.normalize.images(&batch)?;
        let targets = self.step.targets(self.task, &batch, &images)?;
        let rate = self.schedule.at(self.step_plan.progress(&position), position.plateau.cuts);
        let input = StepInput { images, targets, number, rate };
        let launched = self.submit(&input, before)?;
        Ok(Flight { input, launched, begun })
    }

    /// Gives the device a step, for the first time or once more.
    fn submit(&mut self, input: &StepInput, before: Option<&Flight>) -> anyhow::Result<Launched> {
        let agreement = &self.agreement;
        self.step.launch(self.task, input, || agreement.wish(), before.map(|flight| &flight.launched))
    }

    /// Waits for `flight`, and draws the consequences; `next` was launched after it, and comes back, launched anew if need be.
    /// Whether the run is to stop is left in `stop`.
    fn settle(
        &mut self,
        mut flight: Flight,
        mut next: Option<Flight>,
        stop: &mut Option<Stop>,
    ) -> anyhow::Result<Option<Flight>> {
        let (agreed, loss) = loop {
            if self.step.is_on_device() {
                self.agreement.meet()?;
            }
            let outcome = {
                let _waiting = self.step.timeline.activity().begin(Row::Main, Doing::new("waiting for the device"));
                flight.launched.outcome()?
            };
            let agreed = self.agreement.agree(outcome.pass, outcome.is_made, outcome.wish)?;
            if agreed.pass != Pass::OutOfMemory {
                break (agreed, outcome.loss);
            }
            self.split_further(agreed.rank)?;
            flight.launched = self.submit(&flight.input, None)?;
            if let Some(next) = &mut next {
                next.launched = self.submit(&next.input, Some(&flight))?;
            }
        };
        match agreed.pass {
            Pass::BadLoss => self.leave_out(agreed.rank)?,
            _ => self.position.skipped = 0,
        }
        self.step_plan.advance(&mut self.position);
        if let (Pass::BadLoss, Some(next)) = (agreed.pass, &mut next) {
            next.launched = self.submit(&next.input, None)?; // its flags said that the step before it was not made
        }
        *stop = stop.or(agreed.stop);
        self.note(&flight, agreed, loss)?;
        Ok(next)
    }

    /// A step was made, or left out.
    fn note(&mut self, flight: &Flight, agreed: Agreed, loss: f64) -> anyhow::Result<()> {
        let &Flight { input: StepInput { number, rate, .. }, begun, .. } = flight;
        if number == 0 && self.job.world.rank() == 0 {
            log::info!("first step done, {:.2} s after the run began", self.start.elapsed().as_secs_f64());
        }
        self.losses.push((loss, rate.lr));
        self.write_bits(number)?;
        self.compare_replicas()?;
        self.step.timeline.activity().beat();
        self.agreement.note_step(begun.elapsed());
        let kept = if agreed.pass == Pass::Good { loss } else { f64::NAN };
        let ended = StepEnd { step: number + 1, epoch: self.position.epoch + 1, loss: kept, lr: rate.lr };
        self.hooks.borrow_mut().step_end(&ended)
    }

    /// Whether somebody looks at the weights after this step: none may be under way then.
    fn is_looked_at(&self, step: usize) -> bool {
        self.is_checkpoint(step) || self.is_comparison(step)
    }

    fn is_checkpoint(&self, step: usize) -> bool {
        self.job.plan.flags.run.checkpoint_steps.is_some_and(|interval| step.is_multiple_of(interval))
    }

    fn is_comparison(&self, step: usize) -> bool {
        self.job.plan.compare_replicas.is_some_and(|interval| step.is_multiple_of(interval))
    }

    /// From here on everything is trained.
    fn unfreeze(&mut self) -> anyhow::Result<()> {
        let TrainStep { model, group, timeline, .. } = self.step;
        model.set_backbone_frozen(false);
        // Gradients travel and move in other groups now. What the optimizer knows of the head it keeps.
        let (optimizer, scaler) = self.step.state()?;
        let all = TrainStep::new(&self.job, model, group, timeline).map_err(anyhow::Error::from);
        let averaged = self.step.averaged.take();
        self.step = agree(self.job.world, all)?;
        self.step.averaged = averaged;
        self.step.load_state(&optimizer, scaler)?;
        self.is_frozen = false;
        // What fits is another question now: activations of everything are kept for the backward pass.
        self.fit_memory()?;
        if self.job.world.rank() == 0 {
            log::info!("everything is trained from here on");
        }
        Ok(())
    }

    /// Now and then makes sure that all ranks still train the same model.
    fn compare_replicas(&self) -> anyhow::Result<()> {
        let step = self.position.step;
        if !self.is_comparison(step) {
            return Ok(());
        }
        match self.step.ddp.compare_replicas()? {
            None => Ok(()),
            Some(difference) => agree(self.job.world, Err(anyhow!("after step {step} {difference}"))),
        }
    }

    /// Seconds that the run has taken, before it was stopped too.
    fn elapsed(&self) -> f64 {
        self.position.elapsed + self.start.elapsed().as_secs_f64()
    }
}
