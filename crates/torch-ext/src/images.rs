//! Bytes of images become what a network takes.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::{Kind, Tensor};

use crate::ffi::{self, new_tensor, scalar_type};
use crate::{MemoryFormat, Result, kernels};

/// How bytes of images become what a network takes: each times its channel's factor, then plus its summand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormalizeImages {
    /// The factor of each channel.
    pub scale: [f32; 3],
    /// The summand of each channel.
    pub shift: [f32; 3],
    /// The type of the result; the arithmetic is in single precision.
    pub kind: Kind,
    /// A wish, which saves a copy where our kernels are [used](kernels::are_used).
    pub format: MemoryFormat,
}

impl NormalizeImages {
    /// `bytes`, N×H×W×3, as N×3×H×W. Their device computes it.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn forward(&self, bytes: &Tensor) -> Result<Tensor> {
        if kernels::of_a_gpu_are_used(bytes.device()) {
            return self.forward_in_kernels(bytes);
        }
        self.forward_in_libtorch(bytes)
    }

    pub(crate) fn forward_in_libtorch(&self, bytes: &Tensor) -> Result<Tensor> {
        // Filled by the device itself: a copy of what is not page-locked would wait for it.
        let [scale, shift] = [self.scale, self.shift].map(|values| {
            let channels =
                values.map(|value| Tensor::full([1, 1, 1, 1], f64::from(value), (Kind::Float, bytes.device())));
            Tensor::cat(&channels, 1)
        });
        let images = bytes.permute([0, 3, 1, 2]).to_kind(Kind::Float) * scale + shift;
        Ok(images.f_to_kind(self.kind)?.f_contiguous()?)
    }

    /// By a GPU's kernels, wherever the bytes are.
    pub(crate) fn forward_in_kernels(&self, bytes: &Tensor) -> Result<Tensor> {
        let (scale, shift) = (self.scale.as_ptr(), self.shift.as_ptr());
        let is_last = self.format == MemoryFormat::ChannelsLast;
        new_tensor("images", |out| {
            // SAFETY: the tensor and the numbers live during the call, and there are three of each.
            unsafe { ffi::te_gpu_images(bytes.as_ptr(), scale, shift, scalar_type(self.kind), is_last, out) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check;
    use tch::Device;

    #[test]
    fn kernels_give_the_bits_of_libtorch() {
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            check::images(Device::Cpu, kind).unwrap();
        }
    }

    #[test]
    fn bytes_of_other_shapes_are_refused() {
        let bytes = Tensor::zeros([2, 3, 4, 4], (Kind::Uint8, Device::Cpu));
        let format = MemoryFormat::ChannelsLast;
        let normalize = NormalizeImages { scale: [1.0; 3], shift: [0.0; 3], kind: Kind::Float, format };
        let refused = normalize.forward_in_kernels(&bytes).unwrap_err();
        assert!(refused.to_string().contains("N×H×W×3"), "{refused}");
    }
}
