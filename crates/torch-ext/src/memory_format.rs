//! How the four dimensions of images and convolution weights lie in memory.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::Tensor;

use crate::Result;
use crate::ffi::{self, handles, new_tensor};

/// The order in memory of tensors N×C×H×W.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryFormat {
    /// N, C, H, W.
    #[default]
    Contiguous,
    /// N, H, W, C: what tensor cores and oneDNN like best. Shapes stay N×C×H×W.
    ChannelsLast,
}

/// Brings the 4-dimensional ones among `tensors` into `format`, in place. Call it before gradients or optimizers know
/// them.
///
/// # Errors
/// What libtorch threw.
pub fn set_memory_format(tensors: &[Tensor], format: MemoryFormat) -> Result<()> {
    let handles = handles(tensors);
    // SAFETY: the handles are of tensors that live during the call.
    unsafe { ffi::te_set_channels_last(handles.list(), format == MemoryFormat::ChannelsLast) }
        .check("changing the memory format")
}

/// The N×C×H×W `tensor` in channels-last order: a copy, or itself where it is so already.
///
/// # Errors
/// What libtorch threw: a tensor of other than four dimensions.
pub fn to_channels_last(tensor: &Tensor) -> Result<Tensor> {
    // SAFETY: the tensor lives during the call.
    new_tensor("channels_last", |out| unsafe { ffi::te_to_channels_last(tensor.as_ptr(), out) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn values_stay_and_strides_change() {
        let weight = Tensor::randn([4, 3, 2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let bias = Tensor::randn([4], (Kind::Float, Device::Cpu));
        let before = weight.detach().copy();
        set_memory_format(&[weight.shallow_clone(), bias], MemoryFormat::ChannelsLast).unwrap();
        assert_eq!(weight.stride(), [12, 1, 6, 3]);
        assert!(weight.requires_grad() && weight.is_leaf() && weight.detach() == before);
        assert_eq!(to_channels_last(&before).unwrap().stride(), [12, 1, 6, 3]);
        set_memory_format(&[weight.shallow_clone()], MemoryFormat::Contiguous).unwrap();
        assert_eq!(weight.stride(), [12, 4, 2, 1]);
        assert!(to_channels_last(&before.flatten(0, -1)).is_err());
    }
}
