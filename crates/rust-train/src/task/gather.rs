//! What ranks have found, put together.

use world::Channel;

/// The rows of all ranks, which may have unequally many. Collective.
pub(super) fn gather_rows<const N: usize>(channel: &Channel, rows: &[[u64; N]]) -> anyhow::Result<Vec<[u64; N]>> {
    let counts = channel.all_gather(&[rows.len() as u64])?;
    let most = counts.iter().copied().max().unwrap_or(0) as usize;
    let mut padded = rows.concat();
    padded.resize(most * N, 0);
    let all = channel.all_gather(&padded)?;
    let mut gathered = Vec::new();
    for (rank, &count) in counts.iter().enumerate() {
        let own = &all[rank * most * N..][..count as usize * N];
        gathered.extend(own.as_chunks::<N>().0);
    }
    Ok(gathered)
}
