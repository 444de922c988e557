//! Randomness: everything follows from one seed.

use torch_ext::{CudnnMode, set_cudnn_mode};

/// Seeds libtorch's generators, and chooses between the fastest algorithms on CUDA and those that repeat bit for bit.
///
/// Every rank uses the same seed: the weights are the same from the start, and the data path keys its randomness by
/// sample, so that no rank repeats another's.
pub(crate) fn init(seed: u64, deterministic: bool) {
    tch::manual_seed(seed as i64);
    set_cudnn_mode(if deterministic { CudnnMode::Deterministic } else { CudnnMode::Benchmark });
}
