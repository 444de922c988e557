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
}

impl Algorithm {
    /// Adam with PyTorch's numbers.
    pub const ADAM: Self = Self::Adam { betas: (0.9, 0.999), eps: 1e-8 };
    /// AdamW with PyTorch's numbers.
    pub const ADAMW: Self = Self::AdamW { betas: (0.9, 0.999), eps: 1e-8 };
    /// LARS with the numbers of its paper.
    pub const LARS: Self = Self::Lars { momentum: 0.9, trust: 0.001, eps: 1e-8 };
    /// LAMB with the numbers of its paper.
    pub const LAMB: Self = Self::Lamb { betas: (0.9, 0.999), eps: 1e-6 };

    /// The rule that a command line calls `name`, with its usual numbers but for the `momentum` of SGD and LARS, and
    /// SGD's form of it; `None` where there is none of that name.
    pub fn named(name: &str, momentum: f64, nesterov: bool) -> Option<Self> {
        Some(match name {
            "sgd" => Self::Sgd { momentum, nesterov },
            "adam" => Self::ADAM,
            "adamw" => Self::ADAMW,
            "lars" => Self::Lars { momentum, trust: 0.001, eps: 1e-8 },
            "lamb" => Self::LAMB,
            _ => return None,
        })
    }

    /// The same rule with another momentum, or first of `betas`. SGD without momentum keeps none.
    pub(super) fn with_momentum(mut self, value: f64) -> Self {
        match &mut self {
            Self::Sgd { momentum, .. } if *momentum == 0.0 => {}
            Self::Sgd { momentum, .. } => *momentum = value.max(LEAST_MOMENTUM),
            Self::Lars { momentum, .. } => *momentum = value,
            Self::Adam { betas, .. } | Self::AdamW { betas, .. } | Self::Lamb { betas, .. } => betas.0 = value,
        }
        self
    }

    /// What it keeps of each parameter besides the count of its steps, by PyTorch's names.
    pub fn moments(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { momentum, .. } if *momentum == 0.0 => &[],
            Self::Sgd { .. } | Self::Lars { .. } => &["momentum_buffer"],
            Self::Adam { .. } | Self::AdamW { .. } | Self::Lamb { .. } => &["exp_avg", "exp_avg_sq"],
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
        }
    }
}

/// Whose state a set of moments is, as far as it shows.
pub(super) const FAMILIES: [(&[&str], &str); 3] = [
    (&[], "SGD without momentum"),
    (&["momentum_buffer"], "SGD with momentum or LARS"),
    (&["exp_avg", "exp_avg_sq"], "Adam, AdamW or LAMB"),
];

/// libtorch's kernel takes a momentum of zero for an optimizer that never had any, and refuses its buffers. Of any gradient
/// this leaves every bit as it is.
const LEAST_MOMENTUM: f64 = 1e-30;

/// The tensors of one call, parameter by parameter.
#[derive(Default)]
pub(super) struct Lists {
    parameters: Vec<Tensor>,
    grads: Vec<Tensor>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    steps: Vec<Tensor>,
}

impl Lists {
    pub(super) fn push(&mut self, slot: &Slot, grad: Tensor) {
        self.parameters.push(slot.parameter.shallow_clone());
        self.grads.push(grad);
        self.first.extend(slot.first.as_ref().map(Tensor::shallow_clone));
        self.second.extend(slot.second.as_ref().map(Tensor::shallow_clone));
        self.steps.extend(slot.steps.as_ref().map(Tensor::shallow_clone));
    }

    /// One step of all tensors in the lists.
    pub(super) fn step(
        &self,
        algorithm: &Algorithm,
        lr: LearningRate<'_>,
        weight_decay: f64,
        is_first_step: bool,
        skip: Option<&Tensor>,
    ) -> Result<()> {
        if self.parameters.is_empty() {
            return Ok(());
        }
        // Adam and its kin count on the device.
        let counts = algorithm.moments().len() == 2;
        let steps = if counts { &self.steps[..] } else { &[] };
        let lists = [&self.parameters[..], &self.grads, &self.first, &self.second, steps].map(handles);
        let all = self.parameters.len();
        let moments = [0, 1].map(|index| if index < algorithm.moments().len() { all } else { 0 });
        let wanted = [all, all, moments[0], moments[1], if counts { all } else { 0 }];
        if lists.each_ref().map(Handles::len) != wanted {
            let what =
                format!("{} wants {wanted:?} tensors, got {:?}", algorithm.name(), lists.each_ref().map(Handles::len));
            return Err(Error::State { what });
        }
        let [params, grads, first, second, steps] = lists.each_ref().map(Handles::list);
        let skip = ffi::pointer(skip);
        let (rate, lr) = match lr {
            LearningRate::Number(lr) => (None, lr),
            LearningRate::OnDevice(rate) => (Some(rate), 0.0),
        };
        let rate = ffi::pointer(rate);
        let step = ffi::Step { params, grads, first, second, steps, skip, rate, lr, weight_decay };
        // SAFETY: all handles are of tensors that live during the call; each list carries its length, and the shim checks
        // lengths, shapes, types and places before a kernel sees them.
        unsafe {
            match *algorithm {
                Algorithm::Sgd { momentum, nesterov } => ffi::te_sgd(&step, momentum, nesterov, is_first_step),
                Algorithm::Adam { betas, eps } => ffi::te_adam(&step, betas.0, betas.1, eps, false),
                Algorithm::AdamW { betas, eps } => ffi::te_adam(&step, betas.0, betas.1, eps, true),
                Algorithm::Lars { momentum, trust, eps } => ffi::te_lars(&step, momentum, trust, eps),
                Algorithm::Lamb { betas, eps } => ffi::te_lamb(&step, betas.0, betas.1, eps),
            }
        }
        .check("the optimizer's step")
    }
}
