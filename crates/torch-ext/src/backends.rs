//! Global switches of libtorch's backends, and its version.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ffi::CStr;

use crate::Result;
use crate::ffi;

/// The version of libtorch that this program was compiled with: "2.11.0".
pub fn version() -> String {
    // SAFETY: a constant that ends in a null byte.
    let version = unsafe { CStr::from_ptr(ffi::te_version()) };
    version.to_string_lossy().into_owned()
}

/// The trade-off between speed and repeatable results on CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CudnnMode {
    /// cuDNN tries its algorithms and keeps the fastest for each shape; results may differ from run to run.
    Benchmark,
    /// Only algorithms whose results repeat bit for bit.
    Deterministic,
}

/// Chooses between the fastest and the repeatable algorithms of cuDNN. Without CUDA it changes nothing.
pub fn set_cudnn_mode(mode: CudnnMode) {
    // SAFETY: sets two flags of libtorch's global context.
    unsafe { ffi::te_set_cudnn(mode == CudnnMode::Benchmark, mode == CudnnMode::Deterministic) }
}

/// Whether matrix products and convolutions on CUDA may round their inputs to TF32's ten bits: several times faster on
/// the tensor cores of Ampere and later. Without CUDA it changes nothing.
///
/// # Errors
/// What libtorch threw.
pub fn set_tf32(allowed: bool) -> Result<()> {
    // SAFETY: sets two flags of libtorch's global context.
    unsafe { ffi::te_set_tf32(allowed) }.check("TF32")
}
