//! Bytes in host memory and their way to a device.
#![expect(unsafe_code, reason = "makes slices of libtorch's memory, and tensors of a slice's")]

use std::collections::VecDeque;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::ffi::{self, device_index, new_tensor};
use crate::process_group::no_object;

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

/// Bytes on their way to devices: each buffer is kept until the device has what was in it.
#[derive(Debug)]
pub struct Copies<B> {
    /// In the order in which they were started. A buffer has a place of its own, so that its bytes stay where they are.
    under_way: VecDeque<(Copy, Box<B>)>,
}

impl<B> Default for Copies<B> {
    fn default() -> Self {
        Self { under_way: VecDeque::new() }
    }
}

// A borrowed buffer could end before its bytes have arrived, where this is forgotten instead of dropped.
impl<B: Deref<Target = [u8]> + 'static> Copies<B> {
    /// The bytes of `buffer` as a tensor of this shape on `device`. On a GPU, from [`PinnedMemory`], they travel while it
    /// computes what it was given before; nobody waits for them but what it is given after this. `buffer` is dropped by a
    /// later call, when its bytes have arrived.
    ///
    /// # Errors
    /// What libtorch threw: no room on the device, say.
    ///
    /// # Panics
    /// If the bytes are not as many as the shape says.
    pub fn start(&mut self, buffer: B, shape: &[i64], device: Device) -> Result<Tensor> {
        while let Some((first, _)) = self.under_way.front()
            && first.has_arrived(false)?
        {
            self.under_way.pop_front();
        }
        let buffer = Box::new(buffer);
        let bytes: &[u8] = &buffer;
        assert_eq!(bytes.len() as i64, shape.iter().product::<i64>(), "bytes of a tensor of shape {shape:?}");
        let mut raw = ptr::null_mut();
        let tensor = new_tensor("bytes on their way to a device", |out| {
            let bytes = bytes.as_ptr().cast();
            // SAFETY: the bytes stay where they are until they have arrived: the buffer is dropped only then.
            unsafe { ffi::te_copy_new(bytes, shape.as_ptr(), shape.len(), device_index(device), &mut raw, out) }
        })?;
        let copy = Copy(NonNull::new(raw).ok_or_else(|| no_object("a copy"))?);
        self.under_way.push_back((copy, buffer));
        Ok(tensor)
    }
}

impl<B> Drop for Copies<B> {
    fn drop(&mut self) {
        for (copy, buffer) in self.under_way.drain(..) {
            if copy.has_arrived(true).is_err() {
                std::mem::forget(buffer); // a device that failed may still read it
            }
        }
    }
}

/// One buffer's way.
#[derive(Debug)]
struct Copy(NonNull<ffi::Copy>);

impl Copy {
    fn has_arrived(&self, waits: bool) -> Result<bool> {
        let mut arrived = false;
        // SAFETY: a live copy, and room for the answer.
        unsafe { ffi::te_copy_arrived(self.0.as_ptr(), waits, &mut arrived) }
            .check("bytes on their way to a device")?;
        Ok(arrived)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `te_copy_new` and is freed once.
        unsafe { ffi::te_copy_free(self.0.as_ptr()) }
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
    use std::sync::Arc;

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
    fn a_buffer_is_kept_until_its_bytes_have_arrived() {
        let mut copies = Copies::default();
        let shared = Arc::new(());
        struct Buffer(Vec<u8>, #[expect(dead_code, reason = "is counted")] Arc<()>);
        impl Deref for Buffer {
            type Target = [u8];
            fn deref(&self) -> &[u8] {
                &self.0
            }
        }
        for round in 0..3u8 {
            let buffer = Buffer(vec![round; 6], shared.clone());
            let tensor = copies.start(buffer, &[2, 3], Device::Cpu).unwrap();
            assert_eq!(tensor.int64_value(&[1, 2]), i64::from(round));
            assert_eq!(Arc::strong_count(&shared), 2, "the one before has arrived, and is gone");
        }
        drop(copies);
        assert_eq!(Arc::strong_count(&shared), 1);
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
