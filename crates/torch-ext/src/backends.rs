//! Global switches of libtorch's backends, and its version.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ffi::{CStr, c_char};
use std::sync::{Mutex, PoisonError};

use crate::Result;
use crate::ffi;

/// The version of libtorch that this program was compiled with: "2.11.0".
pub fn version() -> String {
    // SAFETY: a constant that ends in a null byte.
    let version = unsafe { CStr::from_ptr(ffi::te_version()) };
    version.to_string_lossy().into_owned()
}

/// The instructions that libtorch's own kernels use on this processor: "AVX2", "AVX512".
pub fn cpu_capability() -> String {
    // SAFETY: a text that ends in a null byte and lives as long as the process.
    let capability = unsafe { CStr::from_ptr(ffi::te_cpu_capability()) };
    capability.to_string_lossy().into_owned()
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

/// Whether only algorithms are used that repeat bit for bit, cuDNN's and all others of libtorch. An operation that has none is
/// computed all the same, and libtorch [warns](on_warning) of it by its name, once.
///
/// # Errors
/// What libtorch threw.
pub fn set_deterministic(deterministic: bool) -> Result<()> {
    set_cudnn_mode(if deterministic { CudnnMode::Deterministic } else { CudnnMode::Benchmark });
    // SAFETY: sets flags of libtorch's global context.
    unsafe { ffi::te_set_deterministic(deterministic) }.check("deterministic algorithms")
}

/// Products of matrices on the CPU give the same bits whatever the number of threads, a little slower where MKL computes them. To be
/// called before there are other threads, and before anything is computed; what the user says by `MKL_CBWR` wins.
pub fn set_same_on_any_threads() {
    // SAFETY: sets a variable of the environment, which MKL reads at its first call.
    unsafe { ffi::te_set_same_on_any_threads() }
}

/// From here on `hear` hears what libtorch warns of on this thread, and in backward passes that this thread starts, instead of
/// stderr.
pub fn on_warning(hear: fn(&str)) {
    *HEAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(hear);
    extern "C" fn warned(text: *const c_char) {
        let hear = *HEAR.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the shim gives a text that ends in a null byte and lives during the call.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        if let Some(hear) = hear {
            hear(&text);
        }
    }
    // SAFETY: the function is there until the end.
    unsafe { ffi::te_on_warning(warned) }
}

static HEAR: Mutex<Option<fn(&str)>> = Mutex::new(None);

/// Whether matrix products and convolutions on CUDA may round their inputs to TF32's ten bits: several times faster on
/// the tensor cores of Ampere and later. Without CUDA it changes nothing.
///
/// # Errors
/// What libtorch threw.
pub fn set_tf32(allowed: bool) -> Result<()> {
    // SAFETY: sets two flags of libtorch's global context.
    unsafe { ffi::te_set_tf32(allowed) }.check("TF32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    #[test]
    fn an_operation_that_may_not_repeat_is_named() {
        static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());
        on_warning(|text| HEARD.lock().unwrap().push(text.to_owned()));
        set_deterministic(true).unwrap();
        // Which of two values is put in the same place?
        let _ = Tensor::from_slice(&[0.0f32; 3]).put_(
            &Tensor::from_slice(&[1i64, 1]),
            &Tensor::from_slice(&[1.0f32, 2.0]),
            false,
        );
        set_deterministic(false).unwrap();
        let heard = HEARD.lock().unwrap();
        assert!(heard.iter().any(|text| text.contains("put_")), "{heard:?}");
    }
}
