//! CUDA devices: what they are, and how their memory is used.
#![expect(unsafe_code, reason = "calls the shim")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::Result;
use crate::cuda_library::functions;
use crate::ffi;

pub use crate::cuda_library::{has_driver, is_amd, libtorch_folder, open};

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
/// What libtorch threw; [`Error::WithoutCuda`](crate::Error::WithoutCuda) where the CUDA half is not there.
pub fn properties(index: usize) -> Result<Properties> {
    let call = "the properties of a CUDA device";
    let functions = functions(call)?;
    let mut raw = ffi::DeviceProperties {
        name: [0; 256],
        major: 0,
        minor: 0,
        multiprocessors: 0,
        total_memory: 0,
        uuid: [0; 16],
    };
    // SAFETY: `raw` lives during the call.
    unsafe { (functions.device_properties)(ffi::cuda_index(index), &mut raw) }.check(call)?;
    let bytes: Vec<u8> = raw.name.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8).collect();
    Ok(Properties {
        name: String::from_utf8_lossy(&bytes).into_owned(),
        compute_capability: (raw.major as u32, raw.minor as u32),
        multiprocessors: raw.multiprocessors as u32,
        total_memory: raw.total_memory,
        uuid: raw.uuid,
    })
}

/// Makes CUDA device `index` that of this thread, so that nothing is put on device 0 unasked.
///
/// # Errors
/// What libtorch threw: no such device, or no CUDA in libtorch.
pub fn set_device(index: usize) -> Result<()> {
    // SAFETY: takes a number.
    unsafe { ffi::te_set_device(ffi::cuda_index(index)) }.check("choosing a device")
}

/// From here on this thread's work for CUDA device `index` goes to a stream of its own, which can be [recorded](Graph).
///
/// # Errors
/// What libtorch threw; [`Error::WithoutCuda`](crate::Error::WithoutCuda) where the CUDA half is not there.
pub fn use_own_stream(index: usize) -> Result<()> {
    // SAFETY: takes a number.
    unsafe { (functions("a stream")?.own_stream)(ffi::cuda_index(index)) }.check("a stream")
}

/// Makes an error of every call that waits for a device, or no longer: for tests.
///
/// # Errors
/// [`Error::WithoutCuda`](crate::Error::WithoutCuda) where the CUDA half is not there.
pub fn refuse_waits(refused: bool) -> Result<()> {
    // SAFETY: sets a switch.
    unsafe { (functions("refusing waits")?.refuse_waits)(refused) }.check("waits")
}

/// Work for a CUDA device that was recorded once, and is given to it again as one: the same operations, on the same memory.
pub struct Graph {
    raw: std::ptr::NonNull<ffi::Graph>,
    functions: &'static ffi::CudaFunctions,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph({:p})", self.raw)
    }
}

impl Graph {
    /// Records what `work` gives the device, on [a stream of this thread's own](use_own_stream). None of it is computed; what
    /// `work` gives are the places where each [replay](Self::replay) leaves its results.
    ///
    /// # Errors
    /// What `work` failed with; work that cannot be recorded, such as that which waits for the device;
    /// [`Error::WithoutCuda`](crate::Error::WithoutCuda) where the CUDA half is not there.
    pub fn record<T, E: From<crate::Error>>(
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(Self, T), E> {
        let functions = functions("recording")?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: room for what it makes.
        unsafe { (functions.graph_begin)(&mut raw) }.check("recording")?;
        let raw = std::ptr::NonNull::new(raw).ok_or_else(|| crate::process_group::no_object("a graph"))?;
        let graph = Self { raw, functions };
        let done = catch_unwind(AssertUnwindSafe(work));
        // SAFETY: a live graph. A recording is ended whatever became of it.
        let ended = unsafe { (functions.graph_end)(graph.raw.as_ptr()) }.check("recording");
        let done = done.unwrap_or_else(|panic| resume_unwind(panic))?;
        ended?;
        Ok((graph, done))
    }

    /// Gives the device all of it once more, and waits for nothing.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: a live graph.
        unsafe { (self.functions.graph_replay)(self.raw.as_ptr()) }.check("recorded work")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `graph_begin` and is freed once.
        unsafe { (self.functions.graph_free)(self.raw.as_ptr()) }
    }
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
        let refused = properties(0).unwrap_err();
        assert!(matches!(refused, crate::Error::WithoutCuda { .. }), "{refused}");
    }
}
