//! One optimizer step: forward, step synchronization, backward with the gradients' exchange, update.

use std::time::Instant;

use dataset::Batch;
use tch::{Device, Kind, Tensor};
use torch_ext::optim::{GradScaler, GradScalerConfig, Optimizer, clip_grad_norm};
use torch_ext::{DistributedDataParallel, Precision, ProcessGroup, set_memory_format};

use crate::config::plan::{OnNan, Plan};
use crate::distributed::synchronization::{Agreed, Agreement, Pass};
use crate::model::numerics::Numerics;
use crate::model::{Model, trained};
use crate::observe::timeline::Timeline;
use crate::observe::timers::Work;
use crate::optim::schedule::Rate;
use crate::optim::{self, ema::Ema};
use crate::task::{Targets, Task};

/// Everything that turns a batch into better weights.
pub(crate) struct TrainStep<'a> {
    pub model: &'a dyn Model,
    pub ddp: DistributedDataParallel,
    pub group: &'a ProcessGroup,
    pub timeline: &'a Timeline,
    optimizer: Optimizer,
    /// With fp16 alone.
    scaler: Option<GradScaler>,
    /// The average of the weights, where one is asked for.
    pub ema: Option<Ema>,
    numerics: Numerics,
    clip_grad_norm: Option<f64>,
    /// In how many parts a step is computed.
    pub micro_batches: usize,
    /// Whether a step that is not made may be followed by another: then it must leave nothing behind.
    undoes_passes: bool,
    seed: u64,
}

/// What the name of an average begins with among the [buffers](TrainStep::buffers).
pub(crate) const AVERAGE: &str = "average/";

/// What came of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepOutcome {
    /// The mean loss over this rank's part of the batch.
    pub loss: f64,
    /// What all ranks agreed on. Unless all passes were good the weights are what they were.
    pub agreed: Agreed,
}

impl<'a> TrainStep<'a> {
    pub(crate) fn new(
        plan: &Plan,
        model: &'a dyn Model,
        device: Device,
        group: &'a ProcessGroup,
        timeline: &'a Timeline,
    ) -> torch_ext::Result<Self> {
        let training = &plan.training;
        let is_half = training.precision == Precision::Half;
        Ok(Self {
            ddp: data_parallel(plan, model, group)?,
            optimizer: optim::build(plan, model, group)?,
            ema: training.ema.map(|decay| Ema::new(model, decay)),
            scaler: is_half.then(|| GradScaler::new(GradScalerConfig::default())),
            numerics: Numerics { device, precision: training.precision, memory_format: training.memory_format },
            clip_grad_norm: plan.flags.optimization.clip_grad_norm,
            micro_batches: plan.batch.accumulation(),
            undoes_passes: plan.flags.batch.fit_memory || plan.flags.run.on_nan == OnNan::Skip,
            seed: plan.flags.seed,
            model,
            group,
            timeline,
        })
    }

    /// The outputs for `images` in training, computed in the run's precision.
    fn forward(&self, images: &Tensor) -> torch_ext::Result<Vec<Tensor>> {
        self.numerics.compute(images, |images| self.model.forward(images, true))
    }

    /// Gives the outputs for images in evaluation, computed in the run's precision, with the weights as they are now.
    pub(crate) fn evaluator(&self) -> impl Fn(&Tensor) -> torch_ext::Result<Vec<Tensor>> {
        let evaluator = self.model.evaluator();
        move |images| self.numerics.compute(images, &evaluator)
    }

    /// Trains on this rank's part of a global batch, as step `number` of the run. Collective.
    pub(crate) fn step(
        &mut self,
        task: &dyn Task,
        images: &Tensor,
        targets: &Targets,
        number: usize,
        rate: Rate,
        agreement: &mut Agreement<'_>,
    ) -> anyhow::Result<StepOutcome> {
        self.ddp.zero_grad()?;
        // What is random in the model follows from seed, step and rank: going on after a stop takes no more state.
        tch::manual_seed(seed_of(self.seed, number, self.group.rank()));
        let timeline = self.timeline;
        let buffers = if self.undoes_passes { self.model.buffers() } else { Vec::new() };
        let buffers: Vec<_> = buffers.into_iter().map(|(_, buffer)| (buffer.detach().copy(), buffer)).collect();
        let passes = self.passes(task, images, targets)?;
        let pass = match &passes {
            None => Pass::OutOfMemory,
            Some((loss, _)) if loss.is_finite() => Pass::Good,
            Some(_) => Pass::BadLoss,
        };
        let agreed = timeline.span(Work::Synchronization, || agreement.synchronize(pass))?;
        // BatchNorm has taken the images in already: one NaN in its running statistics would stay for ever, and reach the
        // other ranks with the next average.
        let undo = || buffers.iter().try_for_each(|(before, buffer)| buffer.detach().f_copy_(before).map(drop));
        let (Some((loss, last)), false) = (passes, agreed.pass == Pass::OutOfMemory) else {
            undo()?;
            return Ok(StepOutcome { loss: f64::NAN, agreed });
        };
        // The exchange has been prepared for on all ranks, so all go through it, whatever the loss is.
        let begin = Instant::now();
        timeline.span(Work::Backward, || last.f_backward())?;
        if let Some(ready) = self.group.last_submitted().filter(|&ready| ready >= begin) {
            timeline.add_part(Work::Exchange, ready);
        }
        if agreed.pass == Pass::Good {
            timeline.span(Work::Optimizer, || self.update(number, rate))?;
        } else {
            undo()?; // not earlier: the backward pass wants to find them as the forward pass left them
        }
        Ok(StepOutcome { loss, agreed })
    }

    /// All passes of a step, up to the last one's backward: the mean loss, and what that backward starts from. `None`
    /// where the memory does not suffice.
    fn passes(&self, task: &dyn Task, images: &Tensor, targets: &Targets) -> anyhow::Result<Option<(f64, Tensor)>> {
        let passes = || -> anyhow::Result<(f64, Tensor)> {
            let micro = images.size()[0] / self.micro_batches as i64;
            let mut losses = Vec::with_capacity(self.micro_batches);
            for part in 0..self.micro_batches as i64 {
                let start = part * micro;
                let (images, targets) = (images.narrow(0, start, micro), targets.part(start, micro));
                let pass = || -> torch_ext::Result<Tensor> { Ok(task.loss(&self.forward(&images)?, &targets)) };
                // Gradients travel once a step, with the last part's.
                let is_last = part + 1 == self.micro_batches as i64;
                let forward = || if is_last { self.ddp.forward(pass)? } else { self.ddp.no_sync(pass) };
                let loss = self.timeline.span(Work::Forward, forward)?;
                losses.push(loss.detach());
                let share = loss / self.micro_batches as f64;
                let scaled = self.scaler.as_ref().map_or_else(|| share.shallow_clone(), |scaler| scaler.scale(&share));
                if is_last {
                    return Ok((Tensor::stack(&losses, 0).mean(Kind::Float).f_double_value(&[])?, scaled));
                }
                self.timeline.span(Work::Backward, || scaled.f_backward())?;
            }
            unreachable!("there is at least one part")
        };
        // tch panics where libtorch throws.
        let outcome = world::catch_panic(passes).map_err(anyhow::Error::msg).flatten();
        match outcome {
            Ok(passes) => Ok(Some(passes)),
            Err(error) if is_out_of_memory(&error) => {
                log::error!("{error:#}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a micro-batch of so many images fits in this rank's memory, beside what the optimizer will keep. No rank
    /// hears of it, and buffers must be restored after it.
    pub(crate) fn fits(&self, task: &dyn Task, images: usize, side: usize) -> anyhow::Result<bool> {
        let try_out = || -> anyhow::Result<()> {
            let kept = trained(self.model).into_iter();
            let kept: Vec<_> = kept.flat_map(|(_, tensor)| (0..2).map(move |_| tensor.detach().zeros_like())).collect();
            let pixels = vec![0; images * side * side * 3].into();
            let batch = Batch { pixels, labels: vec![0; images], mixed: None, side, normalization: Default::default() };
            let targets = task.targets(&batch, self.numerics.device);
            let shape = [images, 3, side, side].map(|length| length as i64);
            let images = Tensor::zeros(shape, (Kind::Float, self.numerics.device));
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

    /// Connects the gradients anew, after a pass that not all ranks have come through. Collective.
    pub(crate) fn reconnect(&mut self, plan: &Plan) -> torch_ext::Result<()> {
        self.ddp = data_parallel(plan, self.model, self.group)?;
        Ok(())
    }

    /// Makes a step that leaves nothing behind but the buckets of gradients in the order in which gradients become
    /// ready. The order in which ranks are added up depends on where in a bucket a gradient lies, and so a run that goes
    /// on must not begin with the buckets of a first step. Weights and buffers must be restored after it. Collective.
    pub(crate) fn rehearse(&mut self, side: usize) -> anyhow::Result<()> {
        let side = side as i64;
        let images = Tensor::zeros([2, 3, side, side], (Kind::Float, self.numerics.device));
        let pass = || -> torch_ext::Result<Tensor> {
            let sums = self.forward(&images)?.into_iter().map(|output| output.sum(Kind::Float));
            Ok(sums.reduce(|one, other| one + other).unwrap_or_else(|| Tensor::from(0.0f32)))
        };
        self.ddp.forward(pass)??.f_backward()?;
        Ok(self.ddp.zero_grad()?)
    }

    fn update(&mut self, number: usize, Rate { lr, momentum }: Rate) -> torch_ext::Result<()> {
        if let Some(momentum) = momentum {
            self.optimizer.set_momentum(momentum);
        }
        if let Some(scaler) = &mut self.scaler {
            scaler.unscale(&self.optimizer, self.group)?;
        }
        if let Some(max_norm) = self.clip_grad_norm {
            let _norm = clip_grad_norm(&self.optimizer.parameters(), max_norm)?;
        }
        match &mut self.scaler {
            Some(scaler) => drop(scaler.step(&mut self.optimizer, lr, self.group)?),
            None => self.optimizer.step(lr)?,
        }
        self.ema.as_mut().map_or(Ok(()), |ema| ema.update(number))
    }

    /// Does `task` with the weights that are evaluated: the averages, where there are some.
    pub(crate) fn with_average<T>(&mut self, task: impl FnOnce(&Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.swap_average()?;
        let done = task(self);
        self.swap_average()?;
        done
    }

    fn swap_average(&mut self) -> torch_ext::Result<()> {
        self.ema.as_mut().map_or(Ok(()), Ema::swap)
    }

    /// What may differ from rank to rank in the middle of an epoch: the model's buffers, and their averages.
    pub(crate) fn buffers(&self) -> Vec<(String, Tensor)> {
        let mut buffers = self.model.buffers();
        if let Some(ema) = &self.ema {
            let of_model = |(name, _): &(String, Tensor)| buffers.iter().any(|(known, _)| known == name);
            let averages: Vec<_> = ema.state().into_iter().filter(of_model).collect();
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

/// Connects the model's gradients over all ranks. Collective.
fn data_parallel(plan: &Plan, model: &dyn Model, group: &ProcessGroup) -> torch_ext::Result<DistributedDataParallel> {
    let tensors: Vec<_> = model.state().into_iter().map(|(_, tensor)| tensor).collect();
    set_memory_format(&tensors, plan.training.memory_format)?;
    let buffers: Vec<_> = model.buffers().into_iter().map(|(_, buffer)| buffer).collect();
    DistributedDataParallel::new(&model.parameters(), &buffers, group, plan.ddp.clone())
}

/// libtorch's seed for a step of a rank: neighbours of either kind have nothing in common (SplitMix64's mixing).
fn seed_of(seed: u64, step: usize, rank: usize) -> i64 {
    let mut bits = seed;
    for word in [step as u64, rank as u64] {
        bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_add(word);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
    }
    bits as i64
}

/// What libtorch and the libraries below it say where memory does not suffice. cuBLAS and cuDNN ask for their own, beside
/// libtorch's, and cuDNN says that it has no way to compute something where it has none with the memory that is left.
const OUT_OF_MEMORY: [&str; 9] = [
    "out of memory",
    "can't allocate memory",
    "std::bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "Unable to find a valid cuDNN algorithm",
];

/// Whether libtorch, or a device, could not have the memory it asked for.
fn is_out_of_memory(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    OUT_OF_MEMORY.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_does_not_suffice_is_known_by_its_words() {
        let cases = [
            ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB", true),
            ("CUDA error: out of memory", true),
            ("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory", true),
            ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", true),
            ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", true),
            ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", true),
            ("CUDA error: an illegal memory access was encountered", false),
            ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", false),
            ("The size of tensor a (3) must match the size of tensor b (4)", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_out_of_memory(&anyhow::anyhow!(text)), expected, "{text}");
        }
    }
}
