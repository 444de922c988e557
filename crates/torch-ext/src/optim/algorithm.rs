//! The update rules.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::Tensor;

use super::{LearningRate, Slot};
use crate::ffi::{self, Handles, handles};
use crate::{Error, Result};

/// How gradients become steps. `g` is the gradient, `p` the parameter, `wd` its group's weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Algorithm {
    /// `v ← momentum·v + g + wd·p`, `p ← p − lr·v`; Nesterov: `p ← p − lr·(g + wd·p + momentum·v)`. As
    /// `torch.optim.SGD`.
    Sgd {
        /// The share of the last direction that is kept.
        momentum: f64,
        /// Nesterov's form of momentum.
        nesterov: bool,
    },
    /// Kingma and Ba 2015, with `wd·p` added to the gradient. As `torch.optim.Adam`.
    Adam {
        /// The share of the running mean, and of the running mean of squares, that is kept.
        betas: (f64, f64),
        /// Added to the denominator.
        eps: f64,
    },
    /// Loshchilov and Hutter 2019: Adam, with weight decay apart from the gradient (`p ← p − lr·wd·p`). As
    /// `torch.optim.AdamW`.
    AdamW {
        /// As Adam's.
        betas: (f64, f64),
        /// As Adam's.
        eps: f64,
    },
    /// You, Gitman and Ginsburg 2017, for large batches: SGD with momentum whose direction is scaled, tensor by tensor,
    /// by `trust·‖p‖ / (‖g‖ + wd·‖p‖)`. Groups without weight decay are not scaled.
    Lars {
        /// The share of the last direction that is kept.
        momentum: f64,
        /// The trust coefficient.
        trust: f64,
        /// Added to the denominator.
        eps: f64,
    },
    /// You et al. 2020, for large batches: Adam's direction plus `wd·p`, scaled, tensor by tensor, by
    /// `‖p‖ / ‖direction‖`. Groups without weight decay are not scaled.
    Lamb {
        /// As Adam's.
        betas: (f64, f64),
        /// As Adam's.
        eps: f64,
    },
    /// Dozat 2016: Adam that looks ahead, with a momentum that grows to the first of `betas`. As `torch.optim.NAdam`.
    NAdam {
        /// As Adam's.
        betas: (f64, f64),
        /// As Adam's.
        eps: f64,
        /// Whether weight decay is apart from the gradient, as AdamW's.
        decoupled: bool,
    },
    /// Defazio et al. 2024: AdamW that needs no schedule. Gradients are taken at `p`, between where the steps lead, `z`, and their mean,
    /// `x`, in which a step counts by the square of the highest learning rate so far: `p = (1 − β₁)·z + β₁·x`. `x` is what is
    /// [evaluated](super::Optimizer::evaluated). As `AdamWScheduleFree` of the authors' `schedulefree`.
    ScheduleFree {
        /// The share of the mean in `p`, and of the running mean of squares that is kept.
        betas: (f64, f64),
        /// As Adam's.
        eps: f64,
    },
    /// Chen et al. 2023: `p ← p − lr·sign(β₁·m + (1 − β₁)·g)` with AdamW's decay, `m ← β₂·m + (1 − β₂)·g`.
    Lion {
        /// The shares of the running mean that the direction has, and that is kept.
        betas: (f64, f64),
    },
    /// Shazeer and Stern 2018: the mean of squares is kept as that of the rows and of the columns of the last two axes alone. As
    /// `torch.optim.Adafactor`: steps go as far as the parameter is large, and at most `lr`.
    Adafactor,
    /// Jordan 2024: the direction of SGD with Nesterov's momentum, made orthogonal, of matrices and of filters, each of which is a
    /// row. As `torch.optim.Muon` with `match_rms_adamw`, so that AdamW's learning rate fits. Of parameters of one axis it is AdamW.
    Muon {
        /// The share of the last direction that is kept.
        momentum: f64,
    },
}

/// How fast NAdam's momentum grows (PyTorch's `momentum_decay`).
const MOMENTUM_DECAY: f64 = 4e-3;

/// Adafactor's numbers, as PyTorch has them: how fast squares are forgotten, the least size of a parameter, the longest update.
const ADAFACTOR: [f64; 3] = [-0.8, 1e-3, 1.0];

impl Algorithm {
    /// Adam with PyTorch's numbers.
    pub const ADAM: Self = Self::Adam { betas: (0.9, 0.999), eps: 1e-8 };
    /// AdamW with PyTorch's numbers.
    pub const ADAMW: Self = Self::AdamW { betas: (0.9, 0.999), eps: 1e-8 };
    /// LARS with the numbers of its paper.
    pub const LARS: Self = Self::Lars { momentum: 0.9, trust: 0.001, eps: 1e-8 };
    /// LAMB with the numbers of its paper.
    pub const LAMB: Self = Self::Lamb { betas: (0.9, 0.999), eps: 1e-6 };
    /// Schedule-free AdamW with its authors' numbers.
    pub const SCHEDULE_FREE: Self = Self::ScheduleFree { betas: (0.9, 0.999), eps: 1e-8 };
    /// Lion with the numbers of its paper.
    pub const LION: Self = Self::Lion { betas: (0.9, 0.99) };
    /// Muon with PyTorch's momentum.
    pub const MUON: Self = Self::Muon { momentum: 0.95 };

    /// The rule that a command line calls `name`, with its usual numbers but for the `momentum` of SGD and LARS, and
    /// SGD's form of it; `None` where there is none of that name.
    pub fn named(name: &str, momentum: f64, nesterov: bool) -> Option<Self> {
        Some(match name {
            "sgd" => Self::Sgd { momentum, nesterov },
            "adam" => Self::ADAM,
            "adamw" => Self::ADAMW,
            "lars" => Self::Lars { momentum, trust: 0.001, eps: 1e-8 },
            "lamb" => Self::LAMB,
            "nadam" | "nadamw" => Self::NAdam { betas: (0.9, 0.999), eps: 1e-8, decoupled: name == "nadamw" },
            "adamw-schedule-free" => Self::SCHEDULE_FREE,
            "lion" => Self::LION,
            "adafactor" => Self::Adafactor,
            "muon" => Self::MUON,
            _ => return None,
        })
    }

    /// The same rule with another momentum, or first of `betas`. SGD without momentum keeps none.
    pub(super) fn with_momentum(mut self, value: f64) -> Self {
        match &mut self {
            Self::Sgd { momentum, .. } if *momentum == 0.0 => {}
            Self::Sgd { momentum, .. } => *momentum = value.max(LEAST_MOMENTUM),
            Self::Lars { momentum, .. } => *momentum = value,
            Self::Muon { momentum } => *momentum = value,
            Self::Adam { betas, .. }
            | Self::AdamW { betas, .. }
            | Self::Lamb { betas, .. }
            | Self::NAdam { betas, .. }
            | Self::ScheduleFree { betas, .. }
            | Self::Lion { betas } => betas.0 = value,
            Self::Adafactor => {}
        }
        self
    }

    /// The rule for a parameter of so many axes.
    pub(super) fn of_axes(self, axes: usize) -> Self {
        match self {
            Self::Muon { .. } if axes < 2 => Self::ADAMW,
            other => other,
        }
    }

    /// Whether parameters of one axis are treated otherwise than those of several.
    pub(super) fn depends_on_axes(&self) -> bool {
        self.moments(1) != self.moments(2)
    }

    /// What it keeps of a parameter of so many axes besides the count of its steps, by PyTorch's names.
    pub fn moments(&self, axes: usize) -> &'static [&'static str] {
        match self.of_axes(axes) {
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } | Self::Lars { .. } | Self::Muon { .. } => &["momentum_buffer"],
            Self::Adam { .. } | Self::AdamW { .. } | Self::Lamb { .. } => &["exp_avg", "exp_avg_sq"],
            Self::NAdam { .. } => &["exp_avg", "exp_avg_sq", "mu_product"],
            Self::ScheduleFree { .. } => &["z", "exp_avg_sq", "step_weights"],
            Self::Lion { .. } => &["exp_avg"],
            Self::Adafactor if axes > 1 => &["row_var", "col_var"],
            Self::Adafactor => &["variance"],
        }
    }

    /// What people call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sgd { momentum, .. } if *momentum == 0.0 => "SGD without momentum",
            Self::Sgd { .. } => "SGD with momentum",
            Self::Adam { .. } => "Adam",
            Self::AdamW { .. } => "AdamW",
            Self::Lars { .. } => "LARS",
            Self::Lamb { .. } => "LAMB",
            Self::NAdam { decoupled: false, .. } => "NAdam",
            Self::NAdam { decoupled: true, .. } => "NAdamW",
            Self::ScheduleFree { .. } => "schedule-free AdamW",
            Self::Lion { .. } => "Lion",
            Self::Adafactor => "Adafactor",
            Self::Muon { .. } => "Muon",
        }
    }
}

/// Whose state it is, as far as it shows, where each parameter has one of these sets of moments.
pub(super) const FAMILIES: [(&[&[&str]], &str); 8] = [
    (&[&[]], "SGD without momentum"),
    (&[&["momentum_buffer"]], "SGD with momentum or LARS"),
    (&[&["exp_avg", "exp_avg_sq"]], "Adam, AdamW or LAMB"),
    (&[&["exp_avg", "exp_avg_sq", "mu_product"]], "NAdam or NAdamW"),
    (&[&["z", "exp_avg_sq", "step_weights"]], "schedule-free AdamW"),
    (&[&["exp_avg"]], "Lion"),
    (&[&["row_var", "col_var"], &["variance"]], "Adafactor"),
    (&[&["momentum_buffer"], &["exp_avg", "exp_avg_sq"]], "Muon"),
];

/// The shape of Adafactor's variances of a parameter of this `shape`.
pub(super) fn shape_of(moment: &str, shape: &[i64]) -> Vec<i64> {
    let mut shape = shape.to_vec();
    let axes = shape.len();
    match moment {
        "row_var" => shape[axes - 1] = 1,
        "col_var" => shape[axes - 2] = 1,
        _ => {}
    }
    shape
}

/// libtorch's kernel takes a momentum of zero for an optimizer that never had any, and refuses its buffers. Of any gradient
/// this leaves every bit as it is.
const LEAST_MOMENTUM: f64 = 1e-30;

/// The tensors of one call, parameter by parameter: all by one rule, with the same moments.
#[derive(Default)]
pub(super) struct Lists {
    parameters: Vec<Tensor>,
    grads: Vec<Tensor>,
    moments: [Vec<Tensor>; MOST_MOMENTS],
    steps: Vec<Tensor>,
}

/// Moments that a rule keeps at most.
const MOST_MOMENTS: usize = 3;

impl Lists {
    pub(super) fn push(&mut self, slot: &Slot, grad: Tensor) {
        self.parameters.push(slot.parameter.shallow_clone());
        self.grads.push(grad);
        for (list, moment) in self.moments.iter_mut().zip(&slot.moments) {
            list.push(moment.shallow_clone());
        }
        self.steps.extend(slot.steps.as_ref().map(Tensor::shallow_clone));
    }

    /// One step of all tensors in the lists, which are of parameters of so many `axes`.
    pub(super) fn step(
        &self,
        algorithm: Algorithm,
        axes: usize,
        lr: LearningRate<'_>,
        weight_decay: f64,
        is_first_step: bool,
        skip: Option<&Tensor>,
    ) -> Result<()> {
        if self.parameters.is_empty() {
            return Ok(());
        }
        // Where the correction depends on it, steps are counted on the device.
        let counts = !matches!(
            algorithm,
            Algorithm::Sgd { .. } | Algorithm::Lars { .. } | Algorithm::Lion { .. } | Algorithm::Muon { .. }
        );
        let steps = if counts { &self.steps[..] } else { &[] };
        let [first, second, third] = &self.moments;
        let lists = [&self.parameters[..], &self.grads, first, second, third, steps].map(handles);
        let all = self.parameters.len();
        let kept = algorithm.moments(axes).len();
        let moments = [0, 1, 2].map(|index| if index < kept { all } else { 0 });
        let wanted = [all, all, moments[0], moments[1], moments[2], if counts { all } else { 0 }];
        if lists.each_ref().map(Handles::len) != wanted {
            let what =
                format!("{} wants {wanted:?} tensors, got {:?}", algorithm.name(), lists.each_ref().map(Handles::len));
            return Err(Error::State { what });
        }
        let [params, grads, first, second, third, steps] = lists.each_ref().map(Handles::list);
        let skip = ffi::pointer(skip);
        let (rate, lr) = match lr {
            LearningRate::Number(lr) => (None, lr),
            LearningRate::OnDevice(rate) => (Some(rate), 0.0),
        };
        let rate = ffi::pointer(rate);
        let step = ffi::Step { params, grads, first, second, third, steps, skip, rate, lr, weight_decay };
        let [beta2_decay, least_scale, clip] = ADAFACTOR;
        // SAFETY: all handles are of tensors that live during the call; each list carries its length, and the shim checks
        // lengths, shapes, types and places before a kernel sees them.
        unsafe {
            match algorithm {
                Algorithm::Sgd { momentum, nesterov } => ffi::te_sgd(&step, momentum, nesterov, is_first_step),
                Algorithm::Adam { betas, eps } => ffi::te_adam(&step, betas.0, betas.1, eps, false),
                Algorithm::AdamW { betas, eps } => ffi::te_adam(&step, betas.0, betas.1, eps, true),
                Algorithm::Lars { momentum, trust, eps } => ffi::te_lars(&step, momentum, trust, eps),
                Algorithm::Lamb { betas, eps } => ffi::te_lamb(&step, betas.0, betas.1, eps),
                Algorithm::NAdam { betas, eps, decoupled } => {
                    ffi::te_nadam(&step, betas.0, betas.1, eps, MOMENTUM_DECAY, decoupled)
                }
                Algorithm::ScheduleFree { betas, eps } => ffi::te_schedule_free(&step, betas.0, betas.1, eps),
                Algorithm::Lion { betas } => ffi::te_lion(&step, betas.0, betas.1),
                Algorithm::Adafactor => ffi::te_adafactor(&step, beta2_decay, least_scale, clip),
                Algorithm::Muon { momentum } => ffi::te_muon(&step, momentum),
            }
        }
        .check("the optimizer's step")
    }
}
