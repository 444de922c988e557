//! Does it fit into the accelerator's memory? What a rank needs, by `architectures`' account of the network, and what an
//! accelerator has. No libtorch: the network is walked as data.

mod accelerators;
mod estimate;

pub(crate) use accelerators::{Accelerator, accelerator};
pub(crate) use estimate::{Bytes, Estimate, Recipe, estimate};
