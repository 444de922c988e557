//! Bytes in host memory and their way to a device.
#![expect(unsafe_code, reason = "makes slices of libtorch's memory, and tensors of a slice's")]

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::ffi::{self, new_tensor};

/// Page-locked host memory, which a CUDA device reads by itself: a batch in it is copied to the device without a detour
/// through the driver's own buffer.
#[derive(Debug)]
pub struct PinnedMemory {
    bytes: Tensor,
}

// SAFETY: nobody else holds the tensor, and all that can be reached of it is its bytes, by the rules of `&` and `&mut`.
unsafe impl Sync for PinnedMemory {}

impl PinnedMemory {
    /// So many bytes, all zero.
    ///
    /// # Errors
    /// What libtorch threw: no CUDA device, or no memory that could be locked.
    pub fn new(bytes: usize) -> Result<Self> {
        // SAFETY: the shim writes a tensor of its own.
        let bytes = new_tensor("page-locked memory", |out| unsafe { ffi::te_pinned(bytes, out) })?;
        Ok(Self { bytes })
    }
}

impl AsRef<[u8]> for PinnedMemory {
    fn as_ref(&self) -> &[u8] {
        if self.bytes.numel() == 0 {
            return &[]; // an empty tensor's pointer may be null
        }
        // SAFETY: a dense tensor of bytes, which lives as long as the borrow, and which nobody writes to meanwhile.
        unsafe { std::slice::from_raw_parts(self.bytes.data_ptr().cast(), self.bytes.numel()) }
    }
}

impl AsMut<[u8]> for PinnedMemory {
    fn as_mut(&mut self) -> &mut [u8] {
        if self.bytes.numel() == 0 {
            return &mut [];
        }
        // SAFETY: as above, and nobody else holds the tensor.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.data_ptr().cast(), self.bytes.numel()) }
    }
}

/// `bytes` as a tensor of this shape on `device`, copied once. It has arrived when the call returns, so that the bytes
/// can be used for the next batch.
///
/// # Errors
/// What libtorch threw: no room on the device, say.
///
/// # Panics
/// If `bytes` are not as many as the shape says.
pub fn to_device(bytes: &[u8], shape: &[i64], device: Device) -> Result<Tensor> {
    assert_eq!(bytes.len() as i64, shape.iter().product::<i64>(), "bytes of a tensor of shape {shape:?}");
    let mut there = Tensor::f_empty(shape, (Kind::Uint8, device))?;
    if bytes.is_empty() {
        return Ok(there); // an empty slice's pointer leads nowhere
    }
    // SAFETY: the slice outlives `here`, which is dense, of its size, and only read; the copy is over when it returns.
    let here = unsafe { Tensor::f_from_blob(bytes.as_ptr(), shape, &[], Kind::Uint8, Device::Cpu)? };
    there.f_copy_(&here)?;
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_their_shape() {
        let bytes: Vec<u8> = (0..24).collect();
        let tensor = to_device(&bytes, &[2, 3, 4], Device::Cpu).unwrap();
        drop(bytes);
        assert_eq!(tensor.size(), [2, 3, 4]);
        assert_eq!(tensor.int64_value(&[1, 2, 3]), 23);
        assert_eq!(to_device(&[], &[0, 3], Device::Cpu).unwrap().size(), [0, 3]);
    }

    #[test]
    fn pinned_memory_is_memory_or_there_is_a_reason() {
        if let Ok(mut none) = PinnedMemory::new(0) {
            assert!(none.as_ref().is_empty() && none.as_mut().is_empty());
        }
        match PinnedMemory::new(100) {
            Ok(mut memory) => {
                memory.as_mut()[99] = 7;
                assert_eq!(memory.as_ref().iter().map(|&byte| u32::from(byte)).sum::<u32>(), 7);
            }
            Err(_) => assert!(!tch::Cuda::is_available()),
        }
    }
}
