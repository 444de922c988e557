//! Arithmetic only: which devices, how many ranks, how a batch is shared, who gets which samples.
//!
//! Nothing here does I/O or knows MPI, torch or HDF5, so `check-devices` can judge a layout on a login node with the
//! very code that the trainer runs.

mod batch;
mod devices;
mod shard;
mod solve;

pub use batch::{BatchError, BatchLayout, nearest_divisors, nearest_multiples};
pub use devices::{DeviceError, DeviceRequest};
pub use shard::Shard;
pub use solve::{BatchFactors, SolveError};
