//! One optimizer step: forward, backward with the gradients' exchange, what all ranks must know of it, update.
//!
//! ```text
//! launch: forward ─> backward ── exchange ─> flags, of all ranks ─> update, chosen by them ─> Launched: flags on their way
//! the caller launches the next step ...                                                   ... and only then reads them
//! ```
//!
//! Nobody waits for the device between two steps. A step that some rank cannot make, because its loss is no number or its memory does
//! not suffice, goes through the exchange all the same, and changes nothing on any rank; nor does the one that was launched after it.

use std::cell::Cell;
use std::time::Instant;

use anyhow::anyhow;
use dataset::Batch;
use tch::{Device, Kind, Tensor};
use torch_ext::optim::{GradScaler, GradScalerConfig, LearningRate, Optimizer, clip_grad_norm};
use torch_ext::{DistributedDataParallel, Kept, Numbers, Precision, ProcessGroup, ReduceOp, set_memory_format};

use super::fixed_parts::Twins;
use super::job::Job;
use super::out_of_memory::{HINT, is_out_of_memory};
use super::recording::{Next, Recording};
use crate::config::plan::{OnNan, Plan};
use crate::distributed::synchronization::Pass;
use crate::model::numerics::Numerics;
use crate::model::{Model, trained};
use crate::observe::timeline::Timeline;
use crate::observe::timers::Work;
use crate::optim::schedule::Rate;
use crate::optim::{self, average::AveragedWeights};
use crate::run::bits::BitsLine;
use crate::task::{Targets, Task};

/// Everything that turns a batch into better weights.
pub(crate) struct TrainStep<'a> {
    pub model: &'a dyn Model,
    pub ddp: DistributedDataParallel,
    pub group: &'a ProcessGroup,
    pub timeline: &'a Timeline,
    optimizer: Optimizer,
    /// With fp16 alone.
    pub(super) scaler: Option<GradScaler>,
    /// The average of the weights, where one is asked for.
    pub averaged: Option<AveragedWeights>,
    pub(super) numerics: Numerics,
    /// Of the images.
    channels: usize,
    clip_grad_norm: Option<f64>,
    /// In how many parts a step is computed.
    pub micro_batches: usize,
    /// Whether a step that is not made may be followed by another: then it must leave nothing behind.
    undoes_passes: bool,
    /// Those of the model.
    pub(super) buffers: Vec<Tensor>,
    /// Whether ranks wait for each other within a forward pass: then none may leave it.
    meets_in_passes: bool,
    /// Where steps are given to a GPU as one.
    recording: Option<Recording>,
    /// In how many fixed parts the ranks together compute a step, where its bits must not depend on their number.
    virtual_ranks: Option<usize>,
    /// Of the sums that travel together with them.
    pub(super) segment_bytes: usize,
    /// How many of them this rank computes at once.
    pub(super) parts_at_once: usize,
    /// What computes them at once, where the model can be doubled.
    pub(super) twins: Option<Twins>,
    /// What this rank has computed in steps that nobody has written down yet, where it is to be recorded.
    pub(super) bits: Option<Vec<BitsLine>>,
    /// Whether it is known that the model's counters are the same after each of them.
    pub(super) knows_counters: bool,
    pub(super) seed: u64,
}

/// What the name of an average begins with among the [buffers](TrainStep::buffers).
pub(crate) const AVERAGE: &str = "average/";

/// What a step is made of.
pub(crate) struct StepInput {
    /// This rank's part of the global batch, N×3×height×width.
    pub images: Tensor,
    pub targets: Targets,
    /// Steps of the run before it.
    pub number: usize,
    pub rate: Rate,
}

/// What a step is computed from, beside the model.
pub(super) struct Given<'g> {
    pub images: &'g Tensor,
    pub targets: &'g Targets,
    /// Steps of the run before it.
    pub number: usize,
    pub lr: LearningRate<'g>,
    /// Gives this rank's wish, one number of single precision on the device.
    pub wish: Box<dyn Fn() -> Tensor + 'g>,
    /// The flags of the step before, of which nobody knows yet whether it is made.
    pub before: Option<&'g Tensor>,
}

/// What a step leaves on the device.
#[derive(Debug)]
pub(super) struct Made {
    /// Of all ranks: whether it changes nothing, 0 or 1, and the largest wish.
    pub flags: Tensor,
    /// The mean loss over this rank's part of the batch; over all of it where that is of fixed parts, and the step is made.
    pub loss: Tensor,
    pub is_out_of_memory: bool,
}

/// A step that the device has been given to do.
#[derive(Debug)]
pub(crate) struct Launched {
    /// On the device, of all ranks: whether the step changes nothing, 0 or 1, and the largest wish.
    flags: Tensor,
    /// The flags, and this rank's loss.
    numbers: Numbers,
    is_out_of_memory: bool,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StepOutcome {
    /// How it went on this rank.
    pub pass: Pass,
    /// The mean loss over this rank's part of the batch.
    pub loss: f64,
    /// Whether all ranks have made it. If not, the weights are what they were, on all ranks.
    pub is_made: bool,
    /// The largest wish of all ranks.
    pub wish: u8,
}

impl Launched {
    /// Waits for the device to make it.
    pub(crate) fn outcome(&self) -> torch_ext::Result<StepOutcome> {
        let numbers = self.numbers.get()?;
        let [is_skipped, wish, loss] = numbers[..] else { unreachable!("two flags and a loss") };
        let pass = match self.is_out_of_memory {
            true => Pass::OutOfMemory,
            false if loss.is_finite() => Pass::Good,
            false => Pass::BadLoss,
        };
        Ok(StepOutcome { pass, loss: loss.into(), is_made: is_skipped == 0.0, wish: wish as u8 })
    }
}

/// All passes of a step but the last one's way back.
struct Passes {
    /// The mean over this rank's part of the batch, on the device.
    loss: Tensor,
    /// What the last way back starts from.
    last: Tensor,
    is_out_of_memory: bool,
}

impl<'a> TrainStep<'a> {
    pub(crate) fn new(
        job: &Job<'_>,
        model: &'a dyn Model,
        group: &'a ProcessGroup,
        timeline: &'a Timeline,
    ) -> torch_ext::Result<Self> {
        let Job { plan, device, .. } = *job;
        let training = &plan.training;
        let is_half = training.precision == Precision::Half;
        Ok(Self {
            ddp: data_parallel(plan, model, group)?,
            optimizer: optim::build(plan, model, group)?,
            averaged: training.average.map(|rule| AveragedWeights::new(model, rule)),
            scaler: is_half.then(|| GradScaler::new(GradScalerConfig::default(), device)),
            numerics: Numerics { device, precision: training.precision, memory_format: training.memory_format },
            channels: plan.images.evaluation.decoding.format().channels(),
            clip_grad_norm: plan.flags.optimization.clip_grad_norm,
            micro_batches: plan.batch.accumulation(),
            undoes_passes: plan.flags.batch.fit_memory || plan.flags.run.on_nan == OnNan::Skip,
            meets_in_passes: plan.flags.sync_bn && group.size() > 1,
            recording: Recording::of_run(plan, device, group, timeline),
            buffers: model.buffers().into_iter().map(|(_, buffer)| buffer).collect(),
            virtual_ranks: plan.flags.virtual_ranks,
            segment_bytes: plan.flags.bucket_mb << 20,
            parts_at_once: job.parts_at_once(),
            twins: None,
            bits: plan.flags.record_bits.then(Vec::new),
            knows_counters: false,
            seed: plan.flags.seed,
            model,
            group,
            timeline,
        })
    }

    /// Whether steps are computed, and their gradients exchanged, by something else than this thread.
    pub(crate) fn is_on_device(&self) -> bool {
        self.numerics.device != Device::Cpu
    }

    /// The outputs for `images` in training, computed in the run's precision.
    pub(super) fn forward(&self, images: &Tensor) -> torch_ext::Result<Vec<Tensor>> {
        self.numerics.compute(images, |images| self.model.forward(images, true))
    }

    /// Gives the outputs for images in evaluation, computed in the run's precision, with the weights as they are now.
    pub(crate) fn evaluator(&self) -> impl Fn(&Tensor) -> torch_ext::Result<Vec<Tensor>> {
        let evaluator = self.model.evaluator();
        move |images| self.numerics.compute(images, &evaluator)
    }

    /// What the outputs for `images` are to be, which are those of `batch`.
    pub(crate) fn targets(&self, task: &dyn Task, batch: &Batch, images: &Tensor) -> anyhow::Result<Targets> {
        let mut together = batch.len().div_ceil(self.micro_batches);
        if !task.computes_targets() {
            return task.training_targets(batch, images, together);
        }
        loop {
            // Nobody waits for this rank meanwhile.
            let make = || self.unless_out_of_memory(|| task.training_targets(batch, images, together));
            match self.timeline.span(Work::Forward, make)? {
                Some(targets) => return Ok(targets),
                None if together > 1 => together = together.div_ceil(2),
                None => anyhow::bail!("the memory does not suffice for the targets of one image"),
            }
        }
    }

    /// Gives the device a step to do. `before` is the step before it, of which nobody knows yet whether it is made: if it is not,
    /// this one is not either. `wish` is asked for what this rank has to tell the others. Collective.
    pub(crate) fn launch(
        &mut self,
        task: &dyn Task,
        input: &StepInput,
        wish: impl Fn() -> u8,
        before: Option<&Launched>,
    ) -> anyhow::Result<Launched> {
        if let Some(share) = input.rate.decay {
            self.optimizer.set_decay_share(share);
        }
        if let Some(momentum) = input.rate.momentum {
            self.optimizer.set_momentum(momentum);
        }
        if let Some(bits) = &mut self.bits {
            bits.retain(|line| line.step < input.number); // it may be launched anew
        }
        // What is random in the model follows from seed, step and rank: going on after a stop takes no more state.
        tch::manual_seed(seed_of(self.seed, input.number, self.group.rank()));
        let before = before.map(|before| &before.flags);
        let made = match self.recording.take() {
            None => self.compute(task, &self.given(input, LearningRate::Number(input.rate.lr), &wish, before)),
            Some(mut recording) => {
                let made = self.compute_recorded(&mut recording, task, input, &wish, before);
                self.recording = Some(recording);
                made
            }
        };
        let Made { flags, loss, is_out_of_memory } = made.map_err(|error| self.named(error, input.number))?;
        if let Some(averaged) = &mut self.averaged {
            let skip = flags.narrow(0, 0, 1);
            let is_on_device = self.numerics.device != Device::Cpu;
            if is_on_device || skip.double_value(&[0]) == 0.0 {
                let skip = is_on_device.then_some(&skip);
                self.timeline.span(Work::Optimizer, || averaged.update(input.number, skip))?;
            }
        }
        if let (Some(bits), 0) = (&mut self.bits, self.group.rank()) {
            let state = self.model.state();
            bits.push(BitsLine::new(input.number, None, state.iter().map(|(name, tensor)| (name.clone(), tensor))));
        }
        let numbers = Numbers::on_their_way(&Tensor::cat(&[&flags, &loss.view([1])], 0))?;
        Ok(Launched { flags, numbers, is_out_of_memory })
    }

    /// What ends this rank's step `number` where others may wait for it.
    fn named(&self, error: anyhow::Error, number: usize) -> anyhow::Error {
        if !is_out_of_memory(&error) {
            return error;
        }
        log::error!("{}", torch_ext::without_frames(&format!("{error:#}")));
        let why = if self.meets_in_passes { ", and with --sync-bn the others wait in the middle of it" } else { "" };
        anyhow!("step {}: out of memory{why}; {HINT}", number + 1)
    }

    fn given<'g>(
        &self,
        input: &'g StepInput,
        lr: LearningRate<'g>,
        wish: &'g dyn Fn() -> u8,
        before: Option<&'g Tensor>,
    ) -> Given<'g> {
        let float = (Kind::Float, self.numerics.device);
        let wish = Box::new(move || Tensor::full([0i64; 0], f64::from(wish()), float));
        Given { images: &input.images, targets: &input.targets, number: input.number, lr, wish, before }
    }

    /// A step as `recording` has it, or one operation at a time where it cannot be recorded, or not yet. Collective.
    fn compute_recorded(
        &mut self,
        recording: &mut Recording,
        task: &dyn Task,
        input: &StepInput,
        wish: &dyn Fn() -> u8,
        before: Option<&Tensor>,
    ) -> anyhow::Result<Made> {
        recording.set_rate(input.rate.lr);
        match recording.next(input, self.micro_batches) {
            Next::OneByOne => {
                let lr = recording.rate();
                self.compute(task, &self.given(input, lr, wish, before))
            }
            Next::Replay => self.timeline.span(Work::Forward, || recording.replay(input, wish(), before)),
            Next::Record => {
                let recorded = recording.record(input, |given| self.compute(task, given));
                let refused = Tensor::full([1], i64::from(recorded.is_err()), (Kind::Float, self.numerics.device));
                self.group.all_reduce(&refused, ReduceOp::Max)?;
                if refused.f_double_value(&[0])? == 0.0
                    && let Ok(recorded) = recorded
                {
                    recording.take(recorded, input, self.micro_batches);
                    if self.group.rank() == 0 {
                        log::info!("step {} was recorded: those like it are given to the GPU as one", input.number + 1);
                    }
                    return self.timeline.span(Work::Forward, || recording.replay(input, wish(), before));
                }
                recording.refuse();
                self.ddp.restart(); // it was to take part, and may have been left in the middle
                let why =
                    recorded.err().map_or_else(|| "another rank could not".to_owned(), |error| format!("{error:#}"));
                if self.group.rank() == 0 {
                    log::info!(
                        "steps are given to the GPU one operation at a time: step {} could not be recorded ({why})",
                        input.number + 1
                    );
                }
                let lr = recording.rate();
                self.compute(task, &self.given(input, lr, wish, before))
            }
        }
    }

    /// Gives the device all of a step but its average: passes, exchange, flags, update. Collective.
    fn compute(&mut self, task: &dyn Task, given: &Given<'_>) -> anyhow::Result<Made> {
        if let Some(parts) = self.virtual_ranks {
            return self.compute_parts(task, given, parts);
        }
        self.ddp.zero_grad()?;
        let timeline = self.timeline;
        let buffers = self.undoes_passes.then(|| Kept::of(&self.buffers)).transpose()?;
        let Passes { loss, last, mut is_out_of_memory } = self.passes(task, given.images, given.targets)?;
        let begin = Instant::now();
        let back = timeline.span(Work::Backward, || self.unless_out_of_memory(|| Ok(last.f_backward()?)))?;
        if back.is_none() {
            is_out_of_memory = true;
            drop(last);
            self.complete_exchange()?;
        }
        if let Some(ready) = self.group.last_submitted().filter(|&ready| ready >= begin) {
            timeline.add_part(Work::Exchange, ready);
        }
        let flags = self.flags(&loss, is_out_of_memory, &(given.wish)(), given.before)?;
        let skip = flags.narrow(0, 0, 1);
        // BatchNorm has taken the images in: one NaN in its running statistics would stay for ever, and reach the other ranks
        // with the next average. Not earlier: the way back wants to find them as the forward pass left them.
        if let Some(buffers) = buffers {
            buffers.restore_where(&skip.ne(0.0))?;
        }
        // On the host the flag is there, and the update need not be chosen by arithmetic.
        if self.is_on_device() || skip.double_value(&[0]) == 0.0 {
            let skip = self.is_on_device().then_some(&skip);
            timeline.span(Work::Optimizer, || self.update(given.lr, skip))?;
        }
        Ok(Made { flags, loss, is_out_of_memory })
    }

    /// Whether a step whose passes ended so on this rank changes nothing, and the largest wish, over all ranks. Collective.
    pub(super) fn flags(
        &self,
        loss: &Tensor,
        is_out_of_memory: bool,
        wish: &Tensor,
        before: Option<&Tensor>,
    ) -> torch_ext::Result<Tensor> {
        let is_bad = match is_out_of_memory {
            true => loss.ones_like(),
            false => loss.isfinite().logical_not().to_kind(Kind::Float),
        };
        let flags = Tensor::stack(&[&is_bad, wish], 0);
        let flags = before.map_or(flags.shallow_clone(), |before| flags.maximum(before));
        if self.group.size() > 1 {
            self.timeline.span(Work::Synchronization, || self.group.all_reduce(&flags, ReduceOp::Max))?;
        }
        Ok(flags)
    }

    /// All passes of a step, up to the last one's way back. Where the memory does not suffice for one, that way back is one that
    /// brings NaN to every gradient: the others' gradients have somebody to meet.
    fn passes(&self, task: &dyn Task, images: &Tensor, targets: &Targets) -> anyhow::Result<Passes> {
        let micro = images.size()[0] / self.micro_batches as i64;
        let mut losses = Vec::with_capacity(self.micro_batches);
        let is_out_of_memory = Cell::new(false);
        for part in 0..self.micro_batches as i64 {
            let start = part * micro;
            let (images, targets) = (images.narrow(0, start, micro), targets.part(start, micro));
            let pass = || -> anyhow::Result<Option<Tensor>> {
                if is_out_of_memory.get() {
                    return Ok(None);
                }
                let loss = self.unless_out_of_memory(|| Ok(task.loss(&self.forward(&images)?, &targets)))?;
                is_out_of_memory.set(loss.is_none());
                Ok(loss)
            };
            let share = |loss: &Tensor| {
                let share = loss / self.micro_batches as f64;
                self.scaler.as_ref().map_or_else(|| share.shallow_clone(), |scaler| scaler.scale(&share))
            };
            // Gradients travel once a step, with the last part's.
            if part + 1 == self.micro_batches as i64 {
                let pass = || -> anyhow::Result<Tensor> { pass()?.map_or_else(|| Ok(self.nothing_but_nan()), Ok) };
                let loss = self.timeline.span(Work::Forward, || self.ddp.forward(pass))??;
                losses.push(loss.detach());
                let mean = Tensor::stack(&losses, 0).mean(Kind::Float);
                return Ok(Passes { loss: mean, last: share(&loss), is_out_of_memory: is_out_of_memory.get() });
            }
            let Some(loss) = self.timeline.span(Work::Forward, || self.ddp.no_sync(pass))? else { continue };
            losses.push(loss.detach());
            let back = || self.unless_out_of_memory(|| Ok(share(&loss).f_backward()?));
            is_out_of_memory.set(self.timeline.span(Work::Backward, back)?.is_none());
        }
        unreachable!("there is at least one part")
    }

    /// What `work` gives; `None` where the memory does not suffice for it, and nobody waits for this rank meanwhile.
    pub(super) fn unless_out_of_memory<T>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        // tch panics where libtorch throws.
        match world::catch_panic(work).map_err(anyhow::Error::msg).flatten() {
            Ok(done) => Ok(Some(done)),
            Err(error) if is_out_of_memory(&error) && !self.meets_in_passes => {
                log::error!("{}", torch_ext::without_frames(&format!("{error:#}")));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A loss that depends on every parameter, and makes its gradient NaN.
    fn nothing_but_nan(&self) -> Tensor {
        nothing_but_nan(trained(self.model).into_iter().map(|(_, parameter)| parameter))
            .unwrap_or_else(|| Tensor::from(f32::NAN))
    }

    /// After a way back that was broken off: gives the other ranks the gradients that they still wait for, all NaN.
    fn complete_exchange(&self) -> anyhow::Result<()> {
        match nothing_but_nan(self.ddp.awaited()?.into_iter()) {
            Some(loss) => Ok(loss.f_backward()?),
            None => Ok(()),
        }
    }

    /// Whether a micro-batch of so many images fits in this rank's memory, beside what the optimizer will keep. No rank
    /// hears of it, and buffers must be restored after it.
    pub(crate) fn fits(&self, task: &dyn Task, images: usize, side: usize) -> anyhow::Result<bool> {
        let try_out = || -> anyhow::Result<()> {
            let kept = trained(self.model).into_iter();
            let kept: Vec<_> = kept.flat_map(|(_, tensor)| (0..2).map(move |_| tensor.detach().zeros_like())).collect();
            let pixels = vec![0; images * side * side * 3].into();
            let batch = Batch::of_rgb8(pixels, vec![0; images], side, Default::default());
            let shape = [images, self.channels, side, side].map(|length| length as i64);
            let count = images;
            let images = Tensor::zeros(shape, (Kind::Float, self.numerics.device));
            let targets = task.training_targets(&batch, &images, count)?;
            let outputs = self.ddp.no_sync(|| self.forward(&images))?;
            task.loss(&outputs, &targets).f_backward()?;
            drop(kept);
            Ok(())
        };
        let outcome = world::catch_panic(try_out).map_err(anyhow::Error::msg).flatten();
        self.ddp.zero_grad()?;
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if is_out_of_memory(&error) => {
                log::debug!("{images} images do not fit: {error:#}");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a step that leaves nothing behind but the buckets of gradients in the order in which gradients become
    /// ready. The order in which ranks are added up depends on where in a bucket a gradient lies, and so a run that goes
    /// on must not begin with the buckets of a first step. Weights and buffers must be restored after it. Collective.
    pub(crate) fn rehearse(&mut self, side: usize) -> anyhow::Result<()> {
        if self.virtual_ranks.is_some() {
            return Ok(()); // sums have one order
        }
        let side = side as i64;
        let images = Tensor::zeros([2, self.channels as i64, side, side], (Kind::Float, self.numerics.device));
        let pass = || -> torch_ext::Result<Tensor> {
            let sums = self.forward(&images)?.into_iter().map(|output| output.sum(Kind::Float));
            Ok(sums.reduce(|one, other| one + other).unwrap_or_else(|| Tensor::from(0.0f32)))
        };
        self.ddp.forward(pass)??.f_backward()?;
        Ok(self.ddp.zero_grad()?)
    }

    /// Moves the weights; where `skip` is 1 nothing changes.
    pub(super) fn update(&mut self, lr: LearningRate<'_>, skip: Option<&Tensor>) -> torch_ext::Result<()> {
        if let Some(scaler) = &mut self.scaler {
            scaler.unscale(&self.optimizer, self.group)?;
        }
        if let Some(max_norm) = self.clip_grad_norm {
            let _norm = clip_grad_norm(&self.optimizer.parameters(), max_norm)?;
        }
        match &mut self.scaler {
            Some(scaler) => scaler.step(&mut self.optimizer, lr, skip, self.group).map(drop),
            None => self.optimizer.step_unless(lr, skip),
        }
    }

    /// Does `task` with the weights that are evaluated: the averages, where there are some.
    pub(crate) fn with_average<T>(&mut self, task: impl FnOnce(&Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.ask_for_average()?;
        self.swap_average()?;
        let done = task(self);
        self.swap_average()?;
        done
    }

    /// The averages, by the names of what is averaged; none where there is no average. Collective.
    pub(crate) fn averages(&mut self) -> torch_ext::Result<Vec<(String, Tensor)>> {
        self.ask_for_average()?;
        Ok(self.averaged.as_ref().map_or_else(Vec::new, AveragedWeights::state))
    }

    fn ask_for_average(&mut self) -> torch_ext::Result<()> {
        self.averaged.as_mut().map_or(Ok(()), |averaged| averaged.ask(&self.optimizer))
    }

    fn swap_average(&mut self) -> torch_ext::Result<()> {
        self.averaged.as_mut().map_or(Ok(()), AveragedWeights::swap)
    }

    /// What may differ from rank to rank in the middle of an epoch: the model's buffers, and their averages.
    pub(crate) fn buffers(&self) -> Vec<(String, Tensor)> {
        let mut buffers = self.model.buffers();
        if let Some(averaged) = &self.averaged {
            let of_model = |(name, _): &(String, Tensor)| buffers.iter().any(|(known, _)| known == name);
            let averages: Vec<_> = averaged.state().into_iter().filter(of_model).collect();
            buffers.extend(averages.into_iter().map(|(name, tensor)| (format!("{AVERAGE}{name}"), tensor)));
        }
        buffers
    }

    /// Bytes of optimizer state on this rank.
    pub(crate) fn optimizer_bytes(&self) -> usize {
        self.optimizer.state_bytes()
    }

    /// What is kept between steps: the optimizer's tensors, and the scale of fp16's losses. Collective.
    pub(crate) fn state(&self) -> torch_ext::Result<(Vec<(String, Tensor)>, Option<(f64, u32)>)> {
        Ok((self.optimizer.state()?, self.scaler.as_ref().map(GradScaler::state)))
    }

    /// Takes over what [`state`](Self::state) gave, at any number of ranks.
    pub(crate) fn load_state(
        &mut self,
        optimizer: &[(String, Tensor)],
        scaler: Option<(f64, u32)>,
    ) -> torch_ext::Result<()> {
        if let (Some(scaler), Some(state)) = (&mut self.scaler, scaler) {
            scaler.load_state(state);
        }
        self.optimizer.load_state(optimizer)
    }
}

/// A loss that depends on `parameters`, and makes their gradients NaN; `None` where there are none.
fn nothing_but_nan(parameters: impl Iterator<Item = Tensor>) -> Option<Tensor> {
    let sums = parameters.map(|parameter| parameter.sum(Kind::Float));
    sums.reduce(|one, other| one + other).map(|sum| sum * f64::NAN)
}

/// Connects the model's gradients over all ranks. Collective.
fn data_parallel(plan: &Plan, model: &dyn Model, group: &ProcessGroup) -> torch_ext::Result<DistributedDataParallel> {
    let tensors: Vec<_> = model.state().into_iter().map(|(_, tensor)| tensor).collect();
    set_memory_format(&tensors, plan.training.memory_format)?;
    let buffers: Vec<_> = model.buffers().into_iter().map(|(_, buffer)| buffer).collect();
    DistributedDataParallel::new(&model.parameters(), &buffers, group, plan.ddp.clone())
}

/// libtorch's seed for a step of a rank: neighbours of either kind have nothing in common (SplitMix64's mixing).
pub(super) fn seed_of(seed: u64, step: usize, rank: usize) -> i64 {
    let mut bits = seed;
    for word in [step as u64, rank as u64] {
        bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_add(word);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
    }
    bits as i64
}
