//! How gradients travel: over MPI in host memory on the CPU, over NCCL on CUDA, and over MPI again between ranks that share a
//! device, which NCCL refuses unless each is told that it has a host of its own (`NCCL_HOSTID`): from the device's memory where that
//! MPI reaches it, else through page-locked memory of the host.

use std::time::Duration;

use anyhow::Context;
use flags::TrainArgs;
use tch::{Device, Kind, Tensor};
use torch_ext::{HostCollectives, ProcessGroup, ReduceOp, Store, cuda};
use world::{Failure, Gpu, Reduction, World};

use crate::distributed::collectives::MpiCollectives;
use crate::errors::{agree, usage};
use crate::observe::timeline::Timeline;

/// Connects all ranks for gradients on `device`, as the flags say. Collective.
pub(crate) fn connect(
    world: &World,
    device: Device,
    flags: &TrainArgs,
    timeline: &Timeline,
) -> anyhow::Result<ProcessGroup> {
    let over_mpi = |make: &dyn Fn(Box<dyn HostCollectives>) -> torch_ext::Result<ProcessGroup>| {
        let collectives = MpiCollectives::new(world.channel("gradients")?);
        let collectives = if flags.virtual_ranks.is_some() { collectives.along_tree() } else { collectives };
        agree(world, make(timeline.of_collectives(collectives)).map_err(anyhow::Error::from))
    };
    match device {
        Device::Cuda(index) if flags.ranks_per_device > 1 && std::env::var_os("NCCL_HOSTID").is_none() => {
            let gpu = if cuda::is_amd() { Gpu::Hip } else { Gpu::Cuda };
            if flags.virtual_ranks.is_none() && world.mpi_reaches(gpu)? {
                if carries(world, device)? {
                    log::info!("MPI carries gradients from the memory of the GPU");
                    return over_mpi(&|collectives| ProcessGroup::direct(collectives, device));
                }
                if world.rank() == 0 {
                    log::warn!(
                        "MPI says that it reaches a GPU's memory, but what it carried from there was wrong: gradients go through host memory"
                    );
                }
            }
            over_mpi(&|collectives| ProcessGroup::staged(collectives, index))
        }
        Device::Cuda(index) => {
            agree(world, cuda::open().map_err(|why| usage(format!("--device: {why}; or use --device cpu"))))?;
            let group = over_nccl(world, index)?;
            Ok(if flags.virtual_ranks.is_some() { group.along_tree() } else { group })
        }
        _ => over_mpi(&ProcessGroup::host),
    }
}

/// Whether what MPI carries from `device` arrives as it was sent, short and long, on every rank. Collective.
///
/// # Errors
/// What MPI reported: it is not fit for anything then.
fn carries(world: &World, device: Device) -> anyhow::Result<bool> {
    let ranks = world.size();
    let numbers = |length: i64, times: usize| -> anyhow::Result<Tensor> {
        Ok((Tensor::f_arange(length, (Kind::Float, device))? + 1.0) * times as f64)
    };
    let lengths = [1, 100_003];
    // All that one rank can fail in comes before or after what they do together.
    let own = lengths.map(|length| anyhow::Ok([numbers(length, world.rank() + 1)?, numbers(length, world.rank())?]));
    let own = agree(world, own.into_iter().collect::<anyhow::Result<Vec<_>>>())?;
    let collectives = MpiCollectives::new(world.channel("trial")?);
    let group = ProcessGroup::direct(Box::new(collectives), device).map_err(anyhow::Error::from);
    let group = agree(world, group)?;
    let mut arrived = Vec::new();
    for [sum, part] in own {
        group.all_reduce(&sum, ReduceOp::Sum)?;
        arrived.push((sum, group.all_gather(&part)?));
    }
    let is_right = |length: i64, (sum, gathered): &(Tensor, Tensor)| -> anyhow::Result<bool> {
        let parts = (0..ranks).map(|rank| numbers(length, rank)).collect::<anyhow::Result<Vec<_>>>()?;
        let is_sum = sum.f_allclose(&numbers(length, ranks * (ranks + 1) / 2)?, 1e-5, 0.0, false)?;
        Ok(is_sum && gathered.f_equal(&Tensor::f_stack(&parts, 0)?)?)
    };
    let mut are_right = lengths.into_iter().zip(&arrived).map(|(length, arrived)| is_right(length, arrived));
    let mut all = [u8::from(are_right.all(|is_right| is_right.unwrap_or(false)))];
    world.control().all_reduce(&mut all, Reduction::Min)?;
    Ok(all != [0])
}

/// Lets go of what connected the ranks, when all is done. What goes wrong now takes nothing back. Collective.
pub(crate) fn disconnect(group: &ProcessGroup) {
    if let Err(error) = group.shutdown() {
        log::warn!("{error}");
    }
}

/// Rank 0 opens c10d's store on a free port, and MPI carries the address: no MASTER_ADDR, no port in a script.
fn over_nccl(world: &World, device: usize) -> anyhow::Result<ProcessGroup> {
    let timeout: Duration = world.control().timeout();
    // A node's name need not lead to it.
    let host = if world.nodes() == 1 { "localhost" } else { world.host_of(0) };
    let mut served = None;
    let port = world.from_rank_zero("opening the store for NCCL", || {
        let store = Store::serve(host, timeout).map_err(Failure::new)?;
        let port = store.port().to_be_bytes().to_vec();
        served = Some(store);
        Ok(port)
    })?;
    let port = u16::from_be_bytes(port.try_into().ok().context("a port has two bytes")?);
    let store = match served {
        Some(store) => Ok(store),
        None => Store::connect(host, port, timeout),
    };
    let store = agree(world, store.with_context(|| format!("the store for NCCL on {host}")))?;
    let group = ProcessGroup::nccl(&store, world.rank(), world.size(), device, timeout);
    agree(world, group.context("setting up NCCL"))
}
