//! What a run, or one measurement of a benchmark, computes with: the same set-up for both.

use std::sync::Arc;

use dataset::{ImageSet, LastBatch, Loader, LoaderConfig};
use flags::{CudaGraph, Recompute};
use layout::Shard;
use tch::Device;
use torch_ext::cuda::{set_device, use_own_stream};
use torch_ext::{ProcessGroup, set_tf32};
use world::World;

use crate::config::plan::{Average, Plan};
use crate::errors::{agree, usage};
use crate::machine::{cores, device, kernels, seed};
use crate::model::Model;
use crate::observe::announce;
use crate::observe::timeline::Timeline;
use crate::trainer::step::TrainStep;

/// The ranks, what they are to do, and what each of them has for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    pub world: &'a World,
    pub plan: &'a Plan,
    pub device: Device,
    /// Cores that a rank may use.
    pub cores: usize,
    /// Threads that compute an operation.
    pub threads: usize,
}

impl<'a> Job<'a> {
    /// Chooses what this rank computes with, says so, and tells libtorch. Collective.
    pub(crate) fn set_up(world: &'a World, plan: &'a Plan) -> anyhow::Result<Self> {
        let device = agree(world, device::select(&plan.device, plan.flags.ranks_per_device, world))?;
        let cores = cores::per_rank(world)?;
        // How libtorch and oneDNN compute something may depend on the number of threads.
        let threads = if plan.flags.virtual_ranks.is_some() { 1 } else { cores };
        announce::announce(world, device, cores)?;
        if let (Some(asked), 0) = (plan.flags.loader_threads, world.rank()) {
            cores::warn_of_threads("--loader-threads", asked, cores);
        }
        tch::set_num_threads(threads as i32);
        // What a GPU computes depends on the algorithm, and which is fastest on what memory is free.
        let is_deterministic = plan.flags.deterministic || plan.flags.virtual_ranks.is_some() && device != Device::Cpu;
        seed::init(world, plan.flags.seed, is_deterministic)?;
        set_tf32(plan.flags.tf32)?;
        if let Device::Cuda(index) = device {
            set_device(index)?;
        }
        if let (Device::Cuda(index), CudaGraph::Auto) = (device, plan.flags.cuda_graph) {
            use_own_stream(index)?;
        }
        kernels::choose(world, device, plan.flags.fused, plan.training.precision)?;
        Ok(Self { world, plan, device, cores, threads })
    }

    /// How many of the fixed parts of a step a rank computes at once, each by one thread: 1 where a step has no such parts.
    pub(crate) fn parts_at_once(&self) -> usize {
        match self.plan.flags.virtual_ranks {
            Some(_) if self.device == Device::Cpu => self.cores.min(self.plan.batch.accumulation()),
            _ => 1,
        }
    }

    /// Makes batches of this rank's part of `images`.
    pub(crate) fn loader(&self, images: Arc<ImageSet>) -> Loader {
        let plan = self.plan;
        let config = LoaderConfig {
            global_batch: plan.batch.global(),
            side: plan.images.image_size,
            resize: plan.images.evaluation.resize,
            evaluation_side: plan.images.evaluation.size,
            fit: plan.images.evaluation.decoding.fit,
            normalization: plan.images.evaluation.normalization.clone(),
            resample: plan.images.evaluation.decoding.resample,
            augmentation: plan.augmentation.clone(),
            sampling: plan.sampling,
            repeats: plan.repeats,
            last_batch: LastBatch::Drop,
            evaluation_parts: plan.flags.virtual_ranks,
            seed: plan.flags.seed,
            threads: cores::loader_threads(plan.flags.loader_threads, self.cores),
            allocate: device::batch_memory(self.device),
        };
        Loader::new(images, Shard::new(self.world.rank(), self.world.size()), config)
    }

    /// Makes `model` ready to be trained, `is_frozen` except for its head. Collective.
    pub(crate) fn train_step(
        &self,
        model: &'a mut dyn Model,
        group: &'a ProcessGroup,
        timeline: &'a Timeline,
        is_frozen: bool,
    ) -> anyhow::Result<TrainStep<'a>> {
        let refuse = |flag: &str, why: &str| agree(self.world, Err(usage(format!("{flag}: this model {why}"))));
        if self.plan.flags.sync_bn && !model.synchronize_batch_norm(group) {
            refuse("--sync-bn", "cannot synchronize its BatchNorm")?;
        }
        if self.plan.flags.recompute == Recompute::Blocks && !model.recompute_blocks() {
            refuse("--recompute blocks", "does not know its blocks")?;
        }
        let is_measured = model.buffers().iter().any(|(_, buffer)| buffer.is_floating_point());
        if self.plan.training.average == Some(Average::OfOptimizer) && is_measured && self.world.rank() == 0 {
            log::warn!(
                "--optimizer adamw-schedule-free evaluates other weights than it trains: if the model's buffers are BatchNorm's \
                 statistics, they are those of the latter"
            );
        }
        if is_frozen && !model.set_backbone_frozen(true) {
            refuse("--freeze backbone", "does not know what its head is")?;
        }
        if self.plan.flags.optimization.backbone_lr_scale != 1.0 && model.head().is_empty() {
            refuse("--backbone-lr-scale", "does not know what its head is")?;
        }
        if self.plan.flags.optimization.layer_decay.is_some() && model.depths().iter().all(|(_, depth)| *depth == 0) {
            refuse("--layer-decay", "does not know its layers, or has no residual ones")?;
        }
        let step = TrainStep::new(self, model, group, timeline);
        agree(self.world, step.map_err(anyhow::Error::from))
    }
}
