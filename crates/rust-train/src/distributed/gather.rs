//! What every rank has found, on rank 0.

use world::World;

use crate::errors::agree;

/// The bytes of every rank, in their order, on rank 0: one rank's after the other, so that nobody else has more than two of them.
/// What `take` makes of them, all ranks know. Collective.
pub(crate) fn to_rank_zero(
    world: &World,
    own: Vec<u8>,
    mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut own, mut taken) = (Some(own), Ok(()));
    for rank in 0..world.size() {
        let mut bytes = if rank == world.rank() { own.take().unwrap_or_default() } else { Vec::new() };
        world.control().broadcast_bytes(&mut bytes, rank)?;
        if world.rank() == 0 && taken.is_ok() {
            taken = take(&bytes); // an error waits for the others: they are still sending
        }
    }
    agree(world, taken)
}
