//! Max pooling in two dimensions.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::Tensor;

use crate::ffi::{self, new_tensor};
use crate::{Result, kernels};

/// The largest value of each window, as `torch.nn.MaxPool2d`. Windows and strides are as high as wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Pixels of a window, in each direction.
    pub side: i64,
    /// How many pixels lie between two windows.
    pub stride: i64,
    /// Pixels around the image that are smaller than any.
    pub padding: i64,
    /// Whether a window may reach over the image's end.
    pub ceil: bool,
}

impl MaxPool {
    /// The value for `input`, N×C×H×W.
    ///
    /// It is libtorch's. On a GPU, with channels last, in fp32, bf16 and fp16, where our kernels are
    /// [used](kernels::are_used), where each value came from is kept in one byte instead of eight; such a gradient cannot be
    /// differentiated again.
    ///
    /// # Panics
    /// If the shapes do not fit, as tch's operations do.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        // SAFETY: the tensor lives during the call.
        let is_taken = || unsafe { ffi::te_gpu_max_pool_takes(input.as_ptr(), self.side) };
        let value = if kernels::of_a_gpu_are_used(input.device()) && is_taken() {
            self.forward_in_kernels(input)
        } else {
            self.forward_in_libtorch(input)
        };
        value.unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn forward_in_libtorch(&self, input: &Tensor) -> Result<Tensor> {
        let [side, stride, padding] = [self.side, self.stride, self.padding].map(|pixels| [pixels, pixels]);
        Ok(input.f_max_pool2d(side, stride, padding, [1, 1], self.ceil)?)
    }

    /// By a GPU's kernels, wherever the tensor is.
    pub(crate) fn forward_in_kernels(&self, input: &Tensor) -> Result<Tensor> {
        let &Self { side, stride, padding, ceil } = self;
        new_tensor("max pooling", |out| {
            // SAFETY: the tensor lives during the call.
            unsafe { ffi::te_gpu_max_pool(input.as_ptr(), side, stride, padding, ceil, out) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::check, to_channels_last};
    use tch::{Device, Kind};

    #[test]
    fn kernels_give_the_bits_of_libtorch() {
        for shape in [[3, 16, 9, 7], [2, 6, 8, 8], [1, 5, 4, 3], [2, 40, 13, 13]] {
            for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
                check::max_pool(&shape, Device::Cpu, kind).unwrap();
            }
        }
    }

    #[test]
    fn a_nan_is_the_largest() {
        let input = to_channels_last(&check::numbers(&[1, 8, 4, 4], 0.1, Device::Cpu).to_kind(Kind::Float)).unwrap();
        let _ = input.get(0).get(3).get(1).get(1).fill_(f64::NAN);
        let pool = MaxPool { side: 2, stride: 2, padding: 0, ceil: false };
        let [ours, theirs] =
            [pool.forward_in_kernels(&input).unwrap(), pool.forward_in_libtorch(&input).unwrap()].map(|y| y.isnan());
        assert!(ours.equal(&theirs) && ours.any().int64_value(&[]) == 1);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let input = check::numbers(&[1, 8, 4, 4], 0.1, Device::Cpu);
        let pool = MaxPool { side: 2, stride: 2, padding: 0, ceil: false };
        let refused = pool.forward_in_kernels(&input).unwrap_err();
        assert!(refused.to_string().contains("channels last"), "{refused}");
    }
}
