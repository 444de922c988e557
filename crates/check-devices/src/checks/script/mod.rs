//! P: the script as Slurm reads it.

pub(super) mod exclusive;
pub(super) mod file;
pub(super) mod options;
pub(super) mod output;
pub(super) mod placement;
pub(super) mod values;
