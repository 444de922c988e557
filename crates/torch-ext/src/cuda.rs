//! CUDA devices: what they are, and how their memory is used.
#![expect(unsafe_code, reason = "calls the shim")]

use crate::Result;
use crate::ffi;

/// What a CUDA device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// "NVIDIA H100 80GB HBM3".
    pub name: String,
    /// Major and minor number: (9, 0) is Hopper.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of its memory.
    pub total_memory: u64,
    /// Its UUID, which is the same for every process that sees it, under whatever number.
    pub uuid: [u8; 16],
}

/// What CUDA device `index` is.
///
/// # Errors
/// What libtorch threw; [`Error::WithoutCuda`](crate::Error::WithoutCuda) in a build without the feature `cuda`.
#[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "it is for the build with CUDA"))]
pub fn properties(index: usize) -> Result<Properties> {
    #[cfg(feature = "cuda")]
    {
        let mut raw = ffi::DeviceProperties {
            name: [0; 256],
            major: 0,
            minor: 0,
            multiprocessors: 0,
            total_memory: 0,
            uuid: [0; 16],
        };
        // SAFETY: `raw` lives during the call.
        unsafe { ffi::te_device_properties_get(ffi::cuda_index(index), &mut raw) }
            .check("the properties of a CUDA device")?;
        let bytes: Vec<u8> = raw.name.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8).collect();
        return Ok(Properties {
            name: String::from_utf8_lossy(&bytes).into_owned(),
            compute_capability: (raw.major as u32, raw.minor as u32),
            multiprocessors: raw.multiprocessors as u32,
            total_memory: raw.total_memory,
            uuid: raw.uuid,
        });
    }
    #[cfg(not(feature = "cuda"))]
    Err(crate::Error::WithoutCuda { call: "the properties of a CUDA device" })
}

/// How a device's memory is used, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In tensors now.
    pub allocated: u64,
    /// In tensors, at most since [`reset_peak_memory`].
    pub allocated_peak: u64,
    /// Taken from the driver now.
    pub reserved: u64,
    /// Taken from the driver, at most.
    pub reserved_peak: u64,
    /// How often the cache had to be emptied to find room.
    pub retries: u64,
    /// How often there was no room even then.
    pub out_of_memory: u64,
    /// Free, as the driver sees it: other processes count.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// How the memory of CUDA device `index` is used.
///
/// # Errors
/// What libtorch threw: no such device, or no CUDA in libtorch.
pub fn memory_stats(index: usize) -> Result<MemoryStats> {
    let mut raw = ffi::Memory::default();
    // SAFETY: `raw` lives during the call.
    unsafe { ffi::te_memory_stats(ffi::cuda_index(index), &mut raw) }.check("the memory of a CUDA device")?;
    Ok(MemoryStats {
        allocated: raw.allocated as u64,
        allocated_peak: raw.allocated_peak as u64,
        reserved: raw.reserved as u64,
        reserved_peak: raw.reserved_peak as u64,
        retries: raw.retries as u64,
        out_of_memory: raw.out_of_memory as u64,
        free: raw.free,
        total: raw.total,
    })
}

/// Starts the peaks of [`memory_stats`] anew.
///
/// # Errors
/// What libtorch threw: no such device, or no CUDA in libtorch.
pub fn reset_peak_memory(index: usize) -> Result<()> {
    // SAFETY: takes a number.
    unsafe { ffi::te_memory_reset_peak(ffi::cuda_index(index)) }.check("the memory of a CUDA device")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_device_there_is_a_reason() {
        if tch::Cuda::is_available() {
            let stats = memory_stats(0).unwrap();
            assert!(stats.total >= stats.free);
            return;
        }
        assert!(memory_stats(0).is_err());
        // 256 is no other name of 0.
        let refused = memory_stats(256).unwrap_err();
        assert!(refused.to_string().contains("there is no device 256"), "{refused}");
        assert!(reset_peak_memory(0).is_err());
        #[cfg(not(feature = "cuda"))]
        assert!(properties(0).unwrap_err().to_string().contains("built without CUDA"));
    }
}
