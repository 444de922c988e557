//! What every rank says once, when it starts.

use tch::Device;
use world::World;

/// Logs who this rank is and what it computes on.
pub(crate) fn announce(world: &World, device: Device, cores: usize) {
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
}
