//! The flags about what is minimized, and by which steps: optimizer, schedule, loss.

use super::Essential;
use architectures::OptimizerMemory;
use clap::{Args, ValueEnum};
use serde::Serialize;

/// The momentum of a run that names none.
pub const DEFAULT_MOMENTUM: f64 = 0.9;

/// What is minimized, and by which steps.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OptimizationArgs {
    /// Highest learning rate of the schedule
    #[arg(long, default_value_t = 0.1, help_heading = "Optimization", add = Essential)]
    pub lr: f64,

    /// How --lr follows the batch: it is what a batch of --lr-reference-batch would get
    #[arg(long, value_enum, default_value_t = LrScaling::None, help_heading = "Optimization")]
    pub lr_scaling: LrScaling,

    /// The batch that --lr is meant for, where it is scaled
    #[arg(long, value_name = "IMAGES", default_value_t = 256, help_heading = "Optimization")]
    pub lr_reference_batch: usize,

    /// How the learning rate goes on after the warm-up
    #[arg(long, value_enum, default_value_t = ScheduleKind::Cosine, help_heading = "Optimization")]
    pub schedule: ScheduleKind,

    /// Epochs of warm-up, in which the rate rises. Default: a quarter of all, at most 5; of one-cycle 0.3 of all
    #[arg(long, value_name = "EPOCHS", help_heading = "Optimization")]
    pub warmup: Option<f64>,

    /// The rate at the end of cosine, linear, polynomial and one-cycle; the others never fall below it
    #[arg(long, value_name = "LR", default_value_t = 0.0, help_heading = "Optimization")]
    pub min_lr: f64,

    /// Step: epochs after which the rate is multiplied by --lr-gamma, again and again
    #[arg(long, value_name = "EPOCHS", default_value_t = 30, help_heading = "Optimization")]
    pub lr_step: usize,

    /// Multistep: the epochs after which the rate is multiplied by --lr-gamma, as in 100,150
    #[arg(long, value_name = "EPOCHS", value_delimiter = ',', help_heading = "Optimization")]
    pub lr_milestones: Vec<usize>,

    /// Step, multistep and plateau: what the rate is multiplied by
    #[arg(long, value_name = "FACTOR", default_value_t = 0.1, help_heading = "Optimization")]
    pub lr_gamma: f64,

    /// Polynomial: the power by which the rate falls with what is left of the run
    #[arg(long, value_name = "POWER", default_value_t = 0.9, help_heading = "Optimization")]
    pub lr_power: f64,

    /// Plateau: epochs in a row whose validation loss is no lower, after which the rate is multiplied by --lr-gamma
    #[arg(long, value_name = "EPOCHS", default_value_t = 10, help_heading = "Optimization")]
    pub lr_patience: usize,

    /// Warm-restarts: epochs after which the rate is at its highest again
    #[arg(long, value_name = "EPOCHS", default_value_t = 10, help_heading = "Optimization")]
    pub lr_restart: usize,

    /// Warm-restarts: each time lasts this many times as long as the one before
    #[arg(long, value_name = "FACTOR", default_value_t = 1, help_heading = "Optimization")]
    pub lr_restart_factor: usize,

    /// One-cycle: let momentum go down to this while the rate rises, and back up while it falls. Default: it stays
    #[arg(long, value_name = "MOMENTUM", help_heading = "Optimization")]
    pub min_momentum: Option<f64>,

    /// How gradients become steps
    #[arg(long, alias = "opt", value_enum, default_value_t = OptimizerKind::Sgd, help_heading = "Optimization")]
    pub optimizer: OptimizerKind,

    /// Momentum of SGD and LARS
    #[arg(long, default_value_t = DEFAULT_MOMENTUM, help_heading = "Optimization")]
    pub momentum: f64,

    /// Nesterov's form of SGD's momentum. Default: true where there is momentum
    #[arg(long, action = clap::ArgAction::Set, value_name = "BOOL", help_heading = "Optimization")]
    pub nesterov: Option<bool>,

    /// L2 penalty on the weights; of AdamW, LAMB, NAdamW, Lion, Adafactor and Muon the decay
    #[arg(long, default_value_t = 5e-4, help_heading = "Optimization")]
    pub weight_decay: f64,

    /// The weight decay at the end, to which it goes along half a cosine. Default: it stays
    #[arg(long, value_name = "DECAY", help_heading = "Optimization")]
    pub weight_decay_end: Option<f64>,

    /// No weight decay on vectors: biases, and the scales of norms
    #[arg(long, alias = "no-decay-on-vectors", help_heading = "Optimization")]
    pub no_norm_decay: bool,

    /// Everything but the head learns at this multiple of the learning rate
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    #[arg(help_heading = "Optimization")]
    pub backbone_lr_scale: f64,

    /// Each layer, an encoder layer or a residual block, learns at this multiple of the rate of the one after it: 0.75, say. The head
    /// learns at the full rate
    #[arg(long, value_name = "FACTOR", help_heading = "Optimization")]
    pub layer_decay: Option<f64>,

    /// Scale gradients down to this global norm where it is larger
    #[arg(long, alias = "clip-norm", value_name = "NORM", help_heading = "Optimization")]
    pub clip_grad_norm: Option<f64>,

    /// Fraction of the target that is spread over all classes
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0)]
    #[arg(help_heading = "Optimization")]
    pub label_smoothing: f64,

    /// Of --loss bce with mixed images: classes with a larger share count as wholly there, others as absent: 0.2, say. Default: as much
    /// as they are mixed
    #[arg(long, value_name = "SHARE", help_heading = "Optimization")]
    pub bce_threshold: Option<f64>,

    /// How much the classes count in the loss; with --task multilabel balanced weights where a class is there
    #[arg(long, value_enum, default_value_t = ClassWeights::Equal, help_heading = "Optimization")]
    pub class_weights: ClassWeights,

    /// Evaluate and save a moving average of the weights, which keeps this fraction of itself in every step: 0.9999, say.
    /// In the first steps it keeps less
    #[arg(long, value_name = "DECAY", help_heading = "Optimization")]
    pub ema: Option<f64>,

    /// Evaluate and save the mean of the weights at the ends of the last N epochs (stochastic weight averaging); before, the weights
    /// themselves. A schedule that keeps the rate up goes with it: constant, or warm-restarts
    #[arg(long, value_name = "N", help_heading = "Optimization")]
    pub swa: Option<usize>,
}

/// How gradients become steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum
    Sgd,
    /// Adam, weight decay as an L2 penalty
    Adam,
    /// Adam with decoupled weight decay
    #[value(name = "adamw")]
    AdamW,
    /// For large batches: SGD scaled layer by layer
    Lars,
    /// For large batches: Adam scaled layer by layer
    Lamb,
    /// Adam that looks ahead, weight decay as an L2 penalty
    #[value(name = "nadam")]
    NAdam,
    /// The same with decoupled weight decay
    #[value(name = "nadamw")]
    NAdamW,
    /// AdamW that needs no schedule: a mean of its steps is evaluated and saved. With --schedule constant; not for networks with BatchNorm
    #[value(name = "adamw-schedule-free")]
    #[serde(rename = "adamw-schedule-free")]
    AdamWScheduleFree,
    /// The sign of a running mean, decoupled weight decay: half of Adam's memory, about a tenth of its learning rate
    Lion,
    /// Adam that keeps rows and columns of its squares alone: little memory for matrices
    Adafactor,
    /// Momentum made orthogonal, of matrices and filters; AdamW of the rest and the head. AdamW's learning rates fit
    Muon,
}

impl OptimizerKind {
    /// What the command line calls it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether an average of the weights is evaluated and saved, whatever other flags say.
    pub fn evaluates_average(self) -> bool {
        self == Self::AdamWScheduleFree
    }

    /// What it keeps for each trained value.
    pub fn memory(self, momentum: f64) -> OptimizerMemory {
        match self {
            Self::Sgd if momentum == 0.0 => OptimizerMemory::Stateless,
            Self::Sgd | Self::Lars => OptimizerMemory::Momentum,
            Self::Lion => OptimizerMemory::Momentum,
            Self::Adafactor => OptimizerMemory::RowsAndColumns,
            Self::Muon => OptimizerMemory::MomentumOfMatrices,
            Self::Adam | Self::AdamW | Self::Lamb | Self::NAdam | Self::NAdamW | Self::AdamWScheduleFree => {
                OptimizerMemory::Moments
            }
        }
    }
}

/// How the learning rate goes on after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Down along half a cosine
    Cosine,
    /// Down along a line
    Linear,
    /// Multiplied by a factor every so many epochs
    Step,
    /// Multiplied by a factor after the epochs of a list
    #[value(name = "multistep")]
    #[serde(rename = "multistep")]
    MultiStep,
    /// Down with a power of what is left of the run
    Polynomial,
    /// Multiplied by a factor when the validation loss falls no more
    Plateau,
    /// Down along half a cosine, again and again from the top
    WarmRestarts,
    /// Up and down along half cosines (Smith's super-convergence, as PyTorch's OneCycleLR)
    OneCycle,
    /// As it is
    Constant,
}

/// How the learning rate follows the global batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LrScaling {
    /// Not at all
    None,
    /// In proportion: for SGD (Goyal et al., 2017)
    Linear,
    /// By the square root: for Adam and its kin
    Sqrt,
}

/// How much the classes count in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// Every image as much as any other
    Equal,
    /// Every class as much as any other, however few its images
    Balanced,
}
