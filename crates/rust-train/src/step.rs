//! One optimizer step: forward, backward with the gradients' exchange, update.

use backbones::Backbone;
use tch::{Device, Tensor};
use torch_ext::optim::{Algorithm, GradScaler, GradScalerConfig, Optimizer, ParameterGroup, clip_grad_norm};
use torch_ext::{Autocast, DistributedDataParallel, MemoryFormat, Precision, ProcessGroup, to_channels_last};

use crate::model::Targets;
use crate::plan::{OptimizerKind, Plan, Training};
use crate::timeline::Timeline;

/// Everything that turns a batch into better weights.
#[derive(Debug)]
pub(crate) struct Stepper<'a> {
    pub backbone: &'a Backbone,
    pub ddp: DistributedDataParallel,
    pub group: &'a ProcessGroup,
    pub timeline: &'a Timeline,
    optimizer: Optimizer,
    /// With fp16 alone.
    scaler: Option<GradScaler>,
    precision: Precision,
    memory_format: MemoryFormat,
    clip_norm: Option<f64>,
    micro_batches: usize,
    device: Device,
}

impl<'a> Stepper<'a> {
    pub(crate) fn new(
        plan: &Plan,
        backbone: &'a Backbone,
        ddp: DistributedDataParallel,
        group: &'a ProcessGroup,
        timeline: &'a Timeline,
    ) -> torch_ext::Result<Self> {
        let training = &plan.training;
        let is_half = training.precision == Precision::Half;
        Ok(Self {
            optimizer: optimizer(training, backbone, group)?,
            scaler: is_half.then(|| GradScaler::new(GradScalerConfig::default())),
            precision: training.precision,
            memory_format: training.memory_format,
            clip_norm: training.clip_norm,
            micro_batches: plan.batch.accumulation(),
            device: backbone.device(),
            backbone,
            ddp,
            group,
            timeline,
        })
    }

    /// The logits of `pictures`, in the run's precision.
    pub(crate) fn forward(&self, pictures: &Tensor, train: bool) -> torch_ext::Result<Tensor> {
        let _autocast = Autocast::enter(self.device, self.precision)?;
        let pictures = match self.memory_format {
            MemoryFormat::Contiguous => pictures.shallow_clone(),
            MemoryFormat::ChannelsLast => to_channels_last(pictures)?,
        };
        Ok(self.backbone.forward(&pictures, train))
    }

    /// Trains on this rank's part of a global batch; the mean loss over that part. Collective.
    pub(crate) fn step(&mut self, pictures: &Tensor, targets: &Targets, lr: f64) -> anyhow::Result<Tensor> {
        self.ddp.zero_grad()?;
        let micro = pictures.size()[0] / self.micro_batches as i64;
        let mut losses = Vec::with_capacity(self.micro_batches);
        for part in 0..self.micro_batches as i64 {
            let start = part * micro;
            let pictures = pictures.narrow(0, start, micro);
            let pass = || -> torch_ext::Result<Tensor> {
                Ok(targets.loss(&self.forward(&pictures, true)?.to_kind(tch::Kind::Float), start))
            };
            // Gradients travel once a step, with the last part's.
            let is_last = part + 1 == self.micro_batches as i64;
            let loss = self
                .timeline
                .span("forward", || if is_last { self.ddp.forward(pass)? } else { self.ddp.no_sync(pass) })?;
            let share = &loss / self.micro_batches as f64;
            let scaled = self.scaler.as_ref().map_or_else(|| share.shallow_clone(), |scaler| scaler.scale(&share));
            self.timeline.span("backward", || scaled.f_backward())?;
            losses.push(loss.detach());
        }
        let timeline = self.timeline;
        timeline.span("optimizer", || self.update(lr))?;
        Ok(Tensor::stack(&losses, 0).mean(tch::Kind::Float))
    }

    fn update(&mut self, lr: f64) -> torch_ext::Result<()> {
        if let Some(scaler) = &mut self.scaler {
            scaler.unscale(&self.optimizer, self.group)?;
        }
        if let Some(max_norm) = self.clip_norm {
            let _norm = clip_grad_norm(&self.optimizer.parameters(), max_norm)?;
        }
        match &mut self.scaler {
            Some(scaler) => scaler.step(&mut self.optimizer, lr, self.group).map(|_stepped| ()),
            None => self.optimizer.step(lr),
        }
    }

    /// Bytes of optimizer state on this rank.
    pub(crate) fn optimizer_bytes(&self) -> usize {
        self.optimizer.state_bytes()
    }
}

fn optimizer(training: &Training, backbone: &Backbone, group: &ProcessGroup) -> torch_ext::Result<Optimizer> {
    let Training { momentum, nesterov, weight_decay, .. } = *training;
    let algorithm = match training.optimizer {
        OptimizerKind::Sgd => Algorithm::Sgd { momentum, nesterov },
        OptimizerKind::Adam => Algorithm::ADAM,
        OptimizerKind::AdamW => Algorithm::ADAMW,
        OptimizerKind::Lars => Algorithm::Lars { momentum, trust: 0.001, eps: 1e-8 },
        OptimizerKind::Lamb => Algorithm::LAMB,
    };
    let groups = if training.decay_vectors {
        ParameterGroup::all(backbone.trained(), weight_decay)
    } else {
        ParameterGroup::without_decay_on_vectors(backbone.trained(), weight_decay)
    };
    if training.zero { Optimizer::sharded(groups, algorithm, group) } else { Optimizer::new(groups, algorithm) }
}
