//! Loss scaling for fp16: small gradients would vanish in its narrow range.

use tch::Tensor;

use super::Optimizer;
use super::gradients::unscale;
use crate::host::ReduceOp;
use crate::{ProcessGroup, Result};

/// The numbers of a [`GradScaler`]; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradScalerConfig {
    /// The first scale.
    pub scale: f64,
    /// The scale is multiplied by this after `growth_interval` good steps in a row.
    pub growth_factor: f64,
    /// The scale is multiplied by this when a gradient was not finite.
    pub backoff_factor: f64,
    /// Good steps before the scale grows.
    pub growth_interval: u32,
}

impl Default for GradScalerConfig {
    fn default() -> Self {
        Self { scale: 65_536.0, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2000 }
    }
}

/// Multiplies the loss, divides the gradients, and skips the step where they were not finite: on all ranks, if on any
/// (`torch.amp.GradScaler`).
///
/// For each step: [`scale`](Self::scale) the loss, backward, [`unscale`](Self::unscale) (then clip, if you like), and
/// [`step`](Self::step).
#[derive(Clone, Debug, PartialEq)]
pub struct GradScaler {
    config: GradScalerConfig,
    scale: f64,
    good_steps: u32,
    /// What [`unscale`](Self::unscale) found, until the step.
    is_finite: Option<bool>,
}

impl GradScaler {
    /// A scaler at its first scale.
    pub fn new(config: GradScalerConfig) -> Self {
        Self { config, scale: config.scale, good_steps: 0, is_finite: None }
    }

    /// The scaled loss, to call backward on.
    pub fn scale(&self, loss: &Tensor) -> Tensor {
        loss * self.scale
    }

    /// Divides the gradients by the scale, and finds out whether they are finite on all ranks of `group`. Collective.
    ///
    /// # Errors
    /// What libtorch threw or the communication reported.
    pub fn unscale(&mut self, optimizer: &Optimizer, group: &ProcessGroup) -> Result<()> {
        let found_inf = unscale(&optimizer.parameters(), self.scale)?;
        if group.size() > 1 {
            group.all_reduce(&found_inf, ReduceOp::Max)?;
        }
        self.is_finite = Some(found_inf.f_double_value(&[0])? == 0.0);
        Ok(())
    }

    /// Steps, unless the gradients were not finite, and adapts the scale. Gives whether it stepped: the same on all
    /// ranks. Unscales first, where that has not been done. Collective.
    ///
    /// # Errors
    /// What libtorch threw or the communication reported.
    pub fn step(&mut self, optimizer: &mut Optimizer, lr: f64, group: &ProcessGroup) -> Result<bool> {
        if self.is_finite.is_none() {
            self.unscale(optimizer, group)?;
        }
        let is_finite = self.is_finite.take() == Some(true);
        if is_finite {
            optimizer.step(lr)?;
            self.good_steps += 1;
            if self.good_steps == self.config.growth_interval {
                self.scale *= self.config.growth_factor;
                self.good_steps = 0;
            }
        } else {
            self.scale *= self.config.backoff_factor;
            self.good_steps = 0;
        }
        Ok(is_finite)
    }

    /// The scale and the good steps since it changed, for a checkpoint.
    pub fn state(&self) -> (f64, u32) {
        (self.scale, self.good_steps)
    }

    /// Takes over what [`state`](Self::state) gave.
    pub fn load_state(&mut self, (scale, good_steps): (f64, u32)) {
        (self.scale, self.good_steps, self.is_finite) = (scale, good_steps, None);
    }
}
