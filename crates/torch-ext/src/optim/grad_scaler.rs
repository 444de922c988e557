//! Loss scaling for fp16: small gradients would vanish in its narrow range.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::{Device, Kind, Tensor};

use super::gradients::unscale;
use super::{LearningRate, Optimizer};
use crate::ffi;
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
/// (`torch.amp.GradScaler`). The scale is a number on the device, and nobody waits for it.
///
/// For each step: [`scale`](Self::scale) the loss, backward, [`unscale`](Self::unscale) (then clip, if you like), and
/// [`step`](Self::step).
#[derive(Debug)]
pub struct GradScaler {
    config: GradScalerConfig,
    /// One number of single precision.
    scale: Tensor,
    /// Good steps since the scale has changed: one whole number of 32 bits.
    good_steps: Tensor,
    /// What [`unscale`](Self::unscale) found, until the step.
    found_inf: Option<Tensor>,
}

impl GradScaler {
    /// A scaler at its first scale, for losses on `device`.
    pub fn new(config: GradScalerConfig, device: Device) -> Self {
        let mut scaler = Self {
            config,
            scale: Tensor::zeros([1], (Kind::Float, device)),
            good_steps: Tensor::zeros([1], (Kind::Int, device)),
            found_inf: None,
        };
        scaler.load_state((config.scale, 0));
        scaler
    }

    /// The scaled loss, to call backward on.
    pub fn scale(&self, loss: &Tensor) -> Tensor {
        loss * self.scale.view([0; 0])
    }

    /// Divides the gradients by the scale, and finds out whether they are finite on all ranks of `group`. Collective.
    ///
    /// # Errors
    /// What libtorch threw or the communication reported.
    pub fn unscale(&mut self, optimizer: &Optimizer, group: &ProcessGroup) -> Result<()> {
        let found_inf = unscale(&optimizer.parameters(), &self.scale)?;
        if group.size() > 1 {
            group.all_reduce(&found_inf, ReduceOp::Max)?;
        }
        self.found_inf = Some(found_inf);
        Ok(())
    }

    /// Steps, unless the gradients were not finite, and adapts the scale; where `skip` is 1 ([`Optimizer::step_unless`]) it does
    /// neither. Gives 1 where it did not step, on the device, and the same on all ranks. Unscales first, where that has not
    /// been done. Collective.
    ///
    /// # Errors
    /// What libtorch threw or the communication reported.
    pub fn step<'a>(
        &mut self,
        optimizer: &mut Optimizer,
        lr: impl Into<LearningRate<'a>>,
        skip: Option<&Tensor>,
        group: &ProcessGroup,
    ) -> Result<Tensor> {
        let found_inf = match self.found_inf.take() {
            Some(found_inf) => found_inf,
            None => {
                self.unscale(optimizer, group)?;
                self.found_inf.take().unwrap_or_else(|| self.scale.zeros_like())
            }
        };
        let skipped = skip.map_or_else(|| found_inf.shallow_clone(), |skip| found_inf.maximum(&skip.view([1])));
        optimizer.step_unless(lr, Some(&skipped))?;
        let GradScalerConfig { growth_factor, backoff_factor, growth_interval, .. } = self.config;
        let (scale, good_steps) = (self.scale.as_ptr(), self.good_steps.as_ptr());
        let (growth, backoff, interval) = (growth_factor, backoff_factor, growth_interval.into());
        // SAFETY: the handles are of tensors that live during the call.
        unsafe {
            let (found_inf, skip) = (found_inf.as_ptr(), ffi::pointer(skip));
            ffi::te_update_scale(scale, good_steps, found_inf, skip, growth, backoff, interval)
        }
        .check("adapting the scale of losses")?;
        Ok(skipped)
    }

    /// The scale and the good steps since it changed, for a checkpoint. Waits for the device.
    pub fn state(&self) -> (f64, u32) {
        (self.scale.double_value(&[0]), self.good_steps.int64_value(&[0]) as u32)
    }

    /// Takes over what [`state`](Self::state) gave.
    pub fn load_state(&mut self, (scale, good_steps): (f64, u32)) {
        let _ = self.scale.fill_(scale);
        let _ = self.good_steps.fill_(i64::from(good_steps));
        self.found_inf = None;
    }
}
