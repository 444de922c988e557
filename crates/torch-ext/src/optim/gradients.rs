//! What is done to all gradients at once.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::ffi::{self, handles, new_tensor};

/// The gradients that `parameters` have.
pub(super) fn gradients(parameters: &[Tensor]) -> Vec<Tensor> {
    parameters.iter().map(Tensor::grad).filter(Tensor::defined).collect()
}

/// Scales the gradients of `parameters` so that their global norm is at most `max_norm`
/// (`torch.nn.utils.clip_grad_norm_`). Gives the norm before, as a scalar on the device: reading it waits for the device.
///
/// # Errors
/// What libtorch threw.
pub fn clip_grad_norm(parameters: &[Tensor], max_norm: f64) -> Result<Tensor> {
    let grads = gradients(parameters);
    if grads.is_empty() {
        return Ok(Tensor::f_zeros([], (Kind::Float, Device::Cpu))?);
    }
    let handles = handles(&grads);
    new_tensor("clipping gradients", |norm| {
        // SAFETY: the handles are of tensors that live during the call.
        unsafe { ffi::te_clip_grad_norm(handles.list(), max_norm, norm) }
    })
}

/// Divides the gradients of `parameters` by `scale`, one number of single precision beside them, in place; whether one of them
/// was not finite, as a 0 or 1 of its kind.
pub(super) fn unscale(parameters: &[Tensor], scale: &Tensor) -> Result<Tensor> {
    let grads = gradients(parameters);
    let found_inf = Tensor::f_zeros([1], (Kind::Float, scale.device()))?;
    if !grads.is_empty() {
        let handles = handles(&grads);
        // SAFETY: the handles are of tensors that live during the call.
        unsafe { ffi::te_unscale(handles.list(), scale.as_ptr(), found_inf.as_ptr()) }.check("unscaling gradients")?;
    }
    Ok(found_inf)
}
