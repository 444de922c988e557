//! How many cores a rank may use: those it is bound to, shared with the ranks that are bound to the same.

use rustix::thread::{CpuSet, sched_getaffinity};
use world::World;

/// The cores for this rank. Collective over the node's ranks.
///
/// Launchers bind a rank to one core, to a socket with several ranks on it, or to nothing. Ranks with the same binding
/// share its cores evenly, and each has at least one.
pub(crate) fn per_rank(world: &World) -> world::Result<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    // Cores 0 to 1023, the kernel's fixed-size set, as bits.
    let mut mask = vec![0u8; CpuSet::MAX_CPU / 8];
    for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)) {
        mask[cpu / 8] |= 1 << (cpu % 8);
    }
    let all = world.node_channel().all_gather(&mask)?;
    let sharers = all.chunks_exact(mask.len()).filter(|other| *other == mask).count();
    // The limit of a container counts too, which only the standard library looks up.
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    Ok((cores / sharers).max(1))
}
