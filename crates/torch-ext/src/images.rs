//! Bytes of images become what a network takes.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::{Device, Kind, Tensor};

use crate::ffi::{self, new_tensor, scalar_type};
use crate::{MemoryFormat, Result, kernels};

/// `bytes`, N×H×W×3, as N×3×H×W: each times its channel's `scale`, then plus its `shift`. The device of `bytes` computes it, in
/// single precision, and rounds to `kind`. `format` is a wish, which saves a copy where our kernels are
/// [used](kernels::are_used).
///
/// # Errors
/// What libtorch threw.
pub fn normalize_images(
    bytes: &Tensor,
    scale: [f32; 3],
    shift: [f32; 3],
    kind: Kind,
    format: MemoryFormat,
) -> Result<Tensor> {
    if bytes.device() != Device::Cpu && kernels::are_used(bytes.device()) {
        return in_kernels(bytes, scale, shift, kind, format);
    }
    Ok(in_libtorch(bytes, scale, shift).f_to_kind(kind)?.f_contiguous()?)
}

pub(crate) fn in_libtorch(bytes: &Tensor, scale: [f32; 3], shift: [f32; 3]) -> Tensor {
    // Filled by the device itself: a copy of what is not page-locked would wait for it.
    let [scale, shift] = [scale, shift].map(|values| {
        let channels = values.map(|value| Tensor::full([1, 1, 1, 1], f64::from(value), (Kind::Float, bytes.device())));
        Tensor::cat(&channels, 1)
    });
    bytes.permute([0, 3, 1, 2]).to_kind(Kind::Float) * scale + shift
}

/// By a GPU's kernels, wherever the bytes are.
pub(crate) fn in_kernels(
    bytes: &Tensor,
    scale: [f32; 3],
    shift: [f32; 3],
    kind: Kind,
    format: MemoryFormat,
) -> Result<Tensor> {
    let is_last = format == MemoryFormat::ChannelsLast;
    new_tensor("images", |out| {
        // SAFETY: the tensor and the numbers live during the call, and there are three of each.
        unsafe { ffi::te_gpu_images(bytes.as_ptr(), scale.as_ptr(), shift.as_ptr(), scalar_type(kind), is_last, out) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check;

    #[test]
    fn kernels_give_the_bits_of_libtorch() {
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            check::images(Device::Cpu, kind).unwrap();
        }
    }

    #[test]
    fn bytes_of_other_shapes_are_refused() {
        let bytes = Tensor::zeros([2, 3, 4, 4], (Kind::Uint8, Device::Cpu));
        let refused = in_kernels(&bytes, [1.0; 3], [0.0; 3], Kind::Float, MemoryFormat::ChannelsLast).unwrap_err();
        assert!(refused.to_string().contains("N×H×W×3"), "{refused}");
    }
}
