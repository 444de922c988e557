//! How the learning rate goes over the epochs of a run, as the flags say it.

use flags::{LrScaling, OptimizationArgs, OptimizerKind, ScheduleKind};
use serde::{Deserialize, Serialize};

use crate::config::bounds::{at_least, at_least_one};
use crate::errors::usage;

/// How the learning rate goes, in epochs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LearningRate {
    pub shape: Shape,
    /// The highest rate.
    pub peak: f64,
    /// The rate at the end, or the least there is.
    pub floor: f64,
    /// Epochs in which the rate rises.
    pub warmup_epochs: f64,
    /// The least and the highest momentum of one-cycle; `None` where it stays as it is.
    pub momentum: Option<(f64, f64)>,
    /// The weight decay at the end as a share of that at the start; `None` where it stays as it is.
    pub decay_at_end: Option<f64>,
}

/// How the rate goes on after the warm-up. Epochs are counted from the run's first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Half a cosine down to the floor. As `CosineAnnealingLR`, step by step.
    Cosine,
    /// A line down to the floor. As `LinearLR`, step by step.
    Linear,
    /// Times `gamma` every so many epochs. As `StepLR`.
    Step { every: usize, gamma: f64 },
    /// Times `gamma` after each of these epochs. As `MultiStepLR`.
    MultiStep { milestones: Vec<usize>, gamma: f64 },
    /// The share of the run that is left, to this power, of the way to the floor. As `PolynomialLR`, step by step.
    Polynomial { power: f64 },
    /// Times `gamma` after more than `patience` epochs whose validation loss was no lower. As `ReduceLROnPlateau`.
    Plateau { patience: usize, gamma: f64 },
    /// Half cosines down to the floor, the first of so many epochs, each `factor` times as long as the one before. As
    /// `CosineAnnealingWarmRestarts`, step by step.
    WarmRestarts { first: usize, factor: usize },
    /// From a 25th up half a cosine, and down another to the floor, while momentum goes down and up. As `OneCycleLR`.
    OneCycle,
    /// The peak.
    Constant,
}

impl LearningRate {
    /// How the learning rate goes in a run of so many `epochs` with this global `batch`.
    pub(super) fn new(args: &OptimizationArgs, epochs: usize, batch: usize) -> anyhow::Result<Self> {
        if !(args.lr.is_finite() && args.lr > 0.0) {
            let hint = if args.lr == 0.0 { "; --eval-only scores a model and trains nothing" } else { "" };
            return Err(usage(format!("--lr {}: must be a number above 0{hint}", args.lr)));
        }
        at_least("--min-lr", args.min_lr, 0.0)?;
        at_least("--lr-gamma", args.lr_gamma, 0.0)?;
        at_least("--lr-power", args.lr_power, 0.0)?;
        at_least("--weight-decay-end", args.weight_decay_end.unwrap_or(0.0), 0.0)?;
        at_least_one("--lr-step", args.lr_step)?;
        let batches = batch as f64 / at_least_one("--lr-reference-batch", args.lr_reference_batch)? as f64;
        let peak = args.lr
            * match args.lr_scaling {
                LrScaling::None => 1.0,
                LrScaling::Linear => batches,
                LrScaling::Sqrt => batches.sqrt(),
            };
        if args.min_lr > peak {
            return Err(usage(format!("--min-lr {}: is more than the highest rate, {peak}", args.min_lr)));
        }
        let warmup_epochs = args.warmup.unwrap_or_else(|| match args.schedule {
            ScheduleKind::OneCycle => 0.3 * epochs as f64,
            _ => (epochs as f64 / 4.0).min(5.0),
        });
        at_least("--warmup", warmup_epochs, 0.0)?;
        if args.schedule == ScheduleKind::OneCycle && warmup_epochs > epochs as f64 {
            return Err(usage(format!(
                "--warmup {warmup_epochs}: one-cycle has to come down again within {epochs} epochs"
            )));
        }
        let shape = match args.schedule {
            ScheduleKind::Cosine => Shape::Cosine,
            ScheduleKind::Linear => Shape::Linear,
            ScheduleKind::Step => Shape::Step { every: args.lr_step, gamma: args.lr_gamma },
            ScheduleKind::MultiStep if args.lr_milestones.is_empty() => {
                return Err(usage("--schedule multistep: needs its epochs, as in --lr-milestones 100,150"));
            }
            ScheduleKind::MultiStep => {
                Shape::MultiStep { milestones: args.lr_milestones.clone(), gamma: args.lr_gamma }
            }
            ScheduleKind::Polynomial => Shape::Polynomial { power: args.lr_power },
            ScheduleKind::Plateau if args.lr_gamma >= 1.0 => {
                return Err(usage(format!("--lr-gamma {}: must be below 1 for --schedule plateau", args.lr_gamma)));
            }
            ScheduleKind::Plateau => Shape::Plateau { patience: args.lr_patience, gamma: args.lr_gamma },
            ScheduleKind::WarmRestarts => Shape::WarmRestarts {
                first: at_least_one("--lr-restart", args.lr_restart)?,
                factor: at_least_one("--lr-restart-factor", args.lr_restart_factor)?,
            },
            ScheduleKind::OneCycle => Shape::OneCycle,
            ScheduleKind::Constant => Shape::Constant,
        };
        let momentum = match args.min_momentum {
            None => None,
            Some(_) if args.optimizer == OptimizerKind::Adafactor => {
                return Err(usage("--min-momentum: Adafactor has no momentum"));
            }
            Some(_) if args.schedule != ScheduleKind::OneCycle => {
                return Err(usage("--min-momentum: only --schedule one-cycle changes the momentum"));
            }
            Some(least) if (0.0..=args.momentum).contains(&least) && least > 0.0 => Some((least, args.momentum)),
            Some(least) => {
                return Err(usage(format!(
                    "--min-momentum {least}: must be above 0 and at most --momentum {}",
                    args.momentum
                )));
            }
        };
        let decay_at_end = match args.weight_decay_end {
            None => None,
            Some(end) if args.weight_decay > 0.0 => Some(end / args.weight_decay),
            Some(_) => {
                return Err(usage("--weight-decay-end: there is no weight decay to begin with: --weight-decay is 0"));
            }
        };
        Ok(Self { shape, peak, floor: args.min_lr, warmup_epochs, momentum, decay_at_end })
    }
}

/// By how much a validation loss must be lower to count, as a share (`ReduceLROnPlateau`'s `threshold`).
const LOWER_BY: f64 = 1e-4;

/// How the validation loss has gone, as far as the learning rate depends on it: part of where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plateau {
    /// The lowest loss so far.
    best: Option<f64>,
    /// Epochs since that were no lower, since the rate fell.
    without: usize,
    /// How often the rate has fallen.
    pub cuts: usize,
}

impl Plateau {
    /// Takes in the loss of an epoch. Gives whether the rate falls by it: after more than `patience` epochs that were no lower.
    pub(crate) fn observe(&mut self, loss: f64, patience: usize) -> bool {
        if self.best.is_none_or(|best| loss < best * (1.0 - LOWER_BY)) {
            (self.best, self.without) = (Some(loss), 0);
            return false;
        }
        self.without += 1;
        if self.without <= patience {
            return false;
        }
        (self.without, self.cuts) = (0, self.cuts + 1);
        true
    }
}
