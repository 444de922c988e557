//! How it is known that memory did not suffice: by the words of those who wanted it.

/// What libtorch and the libraries below it say where memory does not suffice. cuBLAS and cuDNN ask for their own, beside
/// libtorch's, and cuDNN says that it has no way to compute something where it has none with the memory that is left.
const OUT_OF_MEMORY: [&str; 9] = [
    "out of memory",
    "can't allocate memory",
    "std::bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "Unable to find a valid cuDNN algorithm",
];

/// What to do then.
pub(super) const HINT: &str = "--accumulate computes in smaller parts";

/// Whether libtorch, or a device, could not have the memory it asked for.
pub(super) fn is_out_of_memory(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    OUT_OF_MEMORY.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_does_not_suffice_is_known_by_its_words() {
        let cases = [
            ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB", true),
            ("CUDA error: out of memory", true),
            ("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory", true),
            ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", true),
            ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", true),
            ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", true),
            ("CUDA error: an illegal memory access was encountered", false),
            ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", false),
            ("The size of tensor a (3) must match the size of tensor b (4)", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_out_of_memory(&anyhow::anyhow!(text)), expected, "{text}");
        }
    }
}
