//! What every rank says once, when it starts.

use tch::Device;
use world::{World, idle_tasks};

/// Logs who this rank is and what it computes on, and what is odd about the placement of the ranks. Collective.
pub(crate) fn announce(world: &World, device: Device, cores: usize) -> world::Result<()> {
    let device = match device {
        Device::Cpu => format!("the CPU with {cores} {}", if cores == 1 { "thread" } else { "threads" }),
        Device::Cuda(index) => format!("CUDA device {index}"),
        other => format!("{other:?}"),
    };
    log::info!(
        "pid {}: local rank {} of {} on node {} of {}, on {device}; {} CUDA devices visible",
        std::process::id(),
        world.local_rank(),
        world.local_size(),
        world.node(),
        world.nodes(),
        tch::Cuda::device_count().max(0),
    );
    let nodes = world.control().all_gather(&[world.node() as i64])?;
    if world.rank() == 0 {
        if let Some(words) = uneven(&nodes, |rank| world.host_of(rank)) {
            log::warn!("{words}");
        }
        if let Some(tasks) = idle_tasks() {
            log::warn!("this Slurm job has {tasks} tasks, and only one trains: start rust-train with srun or mpirun");
        }
    }
    Ok(())
}

/// What is to be said where the nodes have unequal numbers of ranks; `nodes` has the node of each rank.
fn uneven<'h>(nodes: &[i64], host_of: impl Fn(usize) -> &'h str) -> Option<String> {
    let mut first_ranks: Vec<usize> = Vec::new();
    for (rank, node) in nodes.iter().enumerate() {
        if !nodes[..rank].contains(node) {
            first_ranks.push(rank);
        }
    }
    let ranks_beside = |rank: usize| nodes.iter().filter(|&&node| node == nodes[rank]).count();
    let fullest = first_ranks.iter().copied().max_by_key(|&rank| ranks_beside(rank))?;
    let emptiest = first_ranks.iter().copied().min_by_key(|&rank| ranks_beside(rank))?;
    let (most, least) = (ranks_beside(fullest), ranks_beside(emptiest));
    (most != least).then(|| {
        format!(
            "{most} ranks on {} and {least} on {}: each computes the same share of the batch, so a node with few ranks \
             waits for those with more",
            host_of(fullest),
            host_of(emptiest)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unequal_nodes_are_named() {
        let hosts = ["n1", "n1", "n1", "n2", "n2"];
        let said = |nodes: &[i64]| uneven(nodes, |rank| hosts[rank]);
        assert_eq!(said(&[0]), None);
        assert_eq!(said(&[0, 0, 1, 1]), None);
        assert!(said(&[0, 0, 0, 1]).unwrap().starts_with("3 ranks on n1 and 1 on n2: "));
        assert!(said(&[0, 1, 1, 2, 2]).unwrap().starts_with("2 ranks on n2 and 1 on n1: "));
    }
}
