//! The CUDA half of torch-ext, `libtorch_ext_cuda.so`: what needs CUDA's headers to be compiled, and libtorch's CUDA half to be
//! loaded. `torch_ext::cuda` opens it, where there is a GPU and the libtorch at hand knows CUDA; so one program serves
//! machines with and without. With the feature `hip` it is the same for AMD's GPUs, which libtorch calls CUDA devices, too. Without
//! either it is empty, so that the workspace builds where neither is.
#![cfg_attr(any(feature = "cuda", feature = "hip"), expect(unsafe_code, reason = "gives what C++ has to offer a name"))]

#[cfg(any(feature = "cuda", feature = "hip"))]
mod functions {
    use std::ffi::c_void;

    unsafe extern "C" {
        static te_cuda_functions: c_void;
    }

    /// The functions of cuda.cpp: a `te_cuda` of cuda.h.
    #[unsafe(no_mangle)]
    pub extern "C" fn te_cuda() -> *const c_void {
        &raw const te_cuda_functions
    }
}
