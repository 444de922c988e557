//! Time as the device sees it.

use std::time::Instant;

use tch::Device;

/// The time when all work that was given to `device` is done: on CUDA, kernels run behind the program's back.
pub(crate) fn synchronized(device: Device) -> Instant {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
    Instant::now()
}
