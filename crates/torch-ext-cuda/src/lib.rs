//! The CUDA half of torch-ext, `libtorch_ext_cuda.so`: what needs CUDA's headers to be compiled, and libtorch's CUDA half to be
//! loaded. `torch_ext::cuda` opens it, where there is a GPU and the libtorch at hand knows CUDA; so one program serves
//! machines with and without. Without the feature `cuda` it is empty, so that the workspace builds where CUDA is not.
#![cfg_attr(feature = "cuda", expect(unsafe_code, reason = "gives what C++ has to offer a name"))]

#[cfg(feature = "cuda")]
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
