//! How many cores a rank may use: those it is bound to, shared with the ranks that are bound to the same. And how many
//! threads it may start on them, whatever was asked for.

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

/// Threads for each core, at most. More only wait for each other; very many bring the machine down.
const THREADS_PER_CORE: usize = 4;

/// The threads that prepare batches on a rank that may use so many `cores`, where perhaps another number was asked for.
pub(crate) fn loader_threads(asked: Option<usize>, cores: usize) -> usize {
    asked.map_or(cores, |asked| asked.min(most_threads(cores)))
}

fn most_threads(cores: usize) -> usize {
    cores.saturating_mul(THREADS_PER_CORE)
}

/// Says that fewer threads are started than were asked for, where that is so. `cores` are those of this rank.
pub(crate) fn warn_of_threads(flag: &str, asked: usize, cores: usize) {
    let most = most_threads(cores);
    if asked > most {
        log::warn!("{}", words(flag, asked, cores));
    }
}

fn words(flag: &str, asked: usize, cores: usize) -> String {
    format!(
        "{flag} {asked}: {} are started, {THREADS_PER_CORE} for each core that this rank may use ({cores}); more would \
         only wait for each other",
        most_threads(cores)
    )
}

/// Holds the threads that all of the process shares to the same limit: rayon starts as many as `RAYON_NUM_THREADS` says.
pub(crate) fn limit_shared_threads(world: &World) {
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.trim().parse::<usize>().ok());
    let Some(asked) = asked.filter(|&asked| asked > most_threads(cores)) else { return };
    // An error: the program that we are a part of has started them itself.
    if rayon::ThreadPoolBuilder::new().num_threads(most_threads(cores)).build_global().is_ok() && world.rank() == 0 {
        warn_of_threads("RAYON_NUM_THREADS", asked, cores);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_threads_without_end() {
        let cases = [(None, 3, 3), (Some(1), 3, 1), (Some(12), 3, 12), (Some(13), 3, 12), (Some(usize::MAX), 1, 4)];
        for (asked, cores, expected) in cases {
            assert_eq!(loader_threads(asked, cores), expected, "{asked:?} of {cores} cores");
        }
        assert_eq!(loader_threads(Some(usize::MAX), usize::MAX), usize::MAX);
        insta::assert_snapshot!(
            words("--loader-threads", 100_000, 2),
            @"--loader-threads 100000: 8 are started, 4 for each core that this rank may use (2); more would only wait for each other"
        );
    }
}
