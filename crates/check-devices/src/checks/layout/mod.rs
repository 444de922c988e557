//! L: nodes, tasks, CPUs, GPUs, limits, and the commands that use them.

pub(super) mod body;
pub(super) mod cpus;
pub(super) mod gpus;
pub(super) mod launch;
pub(super) mod limits;
pub(super) mod signal;
pub(super) mod site;
pub(super) mod tasks;
pub(super) mod visibility;

pub(super) use body::cpus_of_a_rank;
