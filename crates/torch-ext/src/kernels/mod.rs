//! Kernels of our own: where they are used, whether they are right, and what a compiler says of a GPU's.
//!
//! Those of the CPU are compiled with this crate. Those of a GPU are compiled when a run first wants them, by the NVRTC (AMD's:
//! hipRTC) that lies beside libtorch, for the GPU that is there; a host compiler takes the same text, and tests run that.
#![expect(unsafe_code, reason = "calls the shim")]

pub(crate) mod check;

use std::cell::Cell;
use std::ffi::{CString, c_char};
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Device, Kind};

use crate::Result;
use crate::ffi;

pub use check::check;

static ON_CPU: AtomicBool = AtomicBool::new(true);
static ON_GPU: AtomicBool = AtomicBool::new(false);
static FOUND_WRONG: OnceLock<&str> = OnceLock::new();

fn switch(device: Device) -> &'static AtomicBool {
    if device == Device::Cpu { &ON_CPU } else { &ON_GPU }
}

/// Whether the kernels for devices like this one are used from here on, or libtorch's operations one by one. At first those of
/// the CPU are, and those of a GPU, which [`check`] has not seen yet, are not.
pub fn set_used(device: Device, used: bool) {
    switch(device).store(used, Ordering::Relaxed);
}

/// From here on [`check`] finds this process's kernels wrong, for this reason: for tests of what becomes of a job then.
pub fn find_wrong(why: &'static str) {
    let _ = FOUND_WRONG.set(why); // the first reason does
}

/// Whether the kernels for devices like this one are used.
pub fn are_used(device: Device) -> bool {
    switch(device).load(Ordering::Relaxed)
}

thread_local! {
    static ON_HOST: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f`, during which operations of this thread on tensors in host memory take the kernels of a GPU, as operations on a GPU
/// would: slowly, one of its threads after the other, so that what a GPU is to compute can be looked at without one.
pub fn with_those_of_a_gpu<T>(f: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ON_HOST.set(self.0);
        }
    }
    let _before = Before(ON_HOST.replace(true));
    f()
}

/// Whether the kernels of a GPU are used for tensors on this device.
pub fn of_a_gpu_are_used(device: Device) -> bool {
    ON_HOST.get() || (device != Device::Cpu && are_used(device))
}

/// Calls `check`, which wants kernels of this type on a GPU, while these are compiled, all at once: one after the other they take seconds.
/// What goes wrong is said by who wants them. None is compiled any more when it returns.
pub(crate) fn while_compiled<T>(device: usize, kind: Kind, check: impl FnOnce() -> Result<T>) -> Result<T> {
    let of = |kind: Kind, lanes: &[i32]| lanes.iter().map(|&lanes| (ffi::scalar_type(kind), lanes)).collect::<Vec<_>>();
    let mut variants = of(Kind::Float, &[4, 2]);
    if kind != Kind::Float {
        variants.extend(of(kind, &[8, 4, 2]));
    }
    let (types, lanes): (Vec<_>, Vec<_>) = variants.into_iter().unzip();
    struct Ended;
    impl Drop for Ended {
        fn drop(&mut self) {
            // SAFETY: takes nothing.
            unsafe { ffi::te_gpu_end() }
        }
    }
    let _ended = Ended;
    // SAFETY: both live during the call, and are as long as it is told.
    unsafe { ffi::te_gpu_begin(ffi::cuda_index(device), types.as_ptr(), lanes.as_ptr(), types.len()) }
        .check("compiling kernels")?;
    check()
}

/// What a compiler made of the kernels of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Bytes of code.
    pub bytes: usize,
    /// What the compiler said: NVRTC, for each kernel, its registers, and what it spilled; hipRTC nothing.
    pub log: String,
}

/// Compiles all kernels for an architecture ("sm_90", "gfx942"), of elements of `kind`, `lanes` of which travel in one. No GPU is
/// needed. `compiler` is a libnvrtc.so or a libhiprtc.so; without one it is that of libtorch.
///
/// # Errors
/// No compiler; what it refused.
///
/// # Panics
/// If `architecture` or `compiler` has a null byte.
pub fn compile(architecture: &str, kind: Kind, lanes: usize, compiler: Option<&Path>) -> Result<Compiled> {
    let text = |text: &[u8]| CString::new(text).expect("no null byte");
    let architecture = text(architecture.as_bytes());
    let compiler = compiler.map(|path| text(path.as_os_str().as_encoded_bytes()));
    let (mut log, mut bytes): (*mut c_char, usize) = (ptr::null_mut(), 0);
    let compiler = compiler.as_ref().map_or(ptr::null(), |path| path.as_ptr());
    // SAFETY: texts that end in a null byte and live during the call, and room for what it writes.
    unsafe {
        let kind = ffi::scalar_type(kind);
        ffi::te_gpu_compile(architecture.as_ptr(), kind, lanes as i32, compiler, &mut log, &mut bytes)
            .check("compiling kernels")?;
        Ok(Compiled { bytes, log: ffi::take_text(log) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_compiler_there_is_a_reason() {
        let refused = compile("sm_90", Kind::Float, 4, Some(Path::new("/nowhere/libnvrtc.so"))).unwrap_err();
        assert!(refused.to_string().contains("/nowhere/libnvrtc.so"), "{refused}");
    }
}
