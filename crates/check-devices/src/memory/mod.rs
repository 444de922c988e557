//! Does it fit into the accelerator's memory? Parameters, gradients and optimizer states exactly; activations as a range;
//! the rest as stated assumptions. No libtorch: the network is walked as data.

mod accelerators;
mod activations;
mod estimate;

pub(crate) use accelerators::{Accelerator, accelerator};
pub(crate) use estimate::{Bytes, Estimate, Optimizer, Precision, estimate};
