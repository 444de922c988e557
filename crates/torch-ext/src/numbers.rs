//! Numbers on their way from a device, for who has something else to do meanwhile.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ptr::{self, NonNull};

use tch::Tensor;

use crate::Result;
use crate::ffi;
use crate::process_group::no_object;

/// Numbers that a device computes, on their way to the host. Reading a tensor waits for all that the device was given to do,
/// also after it; these are there as soon as they are computed.
#[derive(Debug)]
pub struct Numbers {
    raw: NonNull<ffi::Numbers>,
    count: usize,
}

impl Numbers {
    /// The elements of `tensor`, in single precision, as what the device has been given to do by now makes them. Waits for
    /// nothing.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn on_their_way(tensor: &Tensor) -> Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: the tensor lives during the call; the copy is the numbers' own.
        unsafe { ffi::te_numbers_new(tensor.as_ptr(), &mut raw) }.check("the way of numbers to the host")?;
        Ok(Self { raw: NonNull::new(raw).ok_or_else(|| no_object("numbers"))?, count: tensor.numel() })
    }

    /// Waits until they are there.
    ///
    /// # Errors
    /// What the device failed with.
    pub fn get(&self) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.count];
        // SAFETY: live numbers; there is room for as many as there are.
        unsafe { ffi::te_numbers_get(self.raw.as_ptr(), values.as_mut_ptr(), self.count) }
            .check("numbers from the device")?;
        Ok(values)
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `te_numbers_new` and is freed once.
        unsafe { ffi::te_numbers_free(self.raw.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_they_were() {
        let tensor = Tensor::from_slice(&[2.5f64, 1.0, f64::NAN]);
        let numbers = Numbers::on_their_way(&tensor).unwrap();
        let _ = tensor.shallow_clone().fill_(7.0);
        let values = numbers.get().unwrap();
        assert!(values[..2] == [2.5, 1.0] && values[2].is_nan() && numbers.get().unwrap().len() == 3);
    }
}
