//! One file a launcher: its names, its options, and how many ranks follow from them.

pub(super) mod accelerate;
pub(super) mod aprun;
pub(super) mod composer;
pub(super) mod deepspeed;
pub(super) mod fabric;
pub(super) mod flux;
pub(super) mod horovodrun;
pub(super) mod ibrun;
pub(super) mod jsrun;
pub(super) mod mpirun;
pub(super) mod srun;
pub(super) mod torchrun;

pub(crate) use srun::OPTIONS as SRUN_OPTIONS;
