//! Which device this rank computes on.

use dataset::{Allocate, HostMemory, heap};
use layout::DeviceRequest;
use tch::Device;
use torch_ext::{PinnedMemory, cuda};
use world::World;

use crate::errors::usage;

/// Chooses this rank's device among those that it sees; `shared` ranks take the same one. Collective over the node's ranks.
pub(crate) fn select(request: &DeviceRequest, shared: usize, world: &World) -> anyhow::Result<Device> {
    let visible = visible();
    if visible.is_empty()
        && *request == DeviceRequest::Auto
        && world.local_rank() == 0
        && cuda::has_driver()
        && std::env::var_os("CUDA_VISIBLE_DEVICES").is_none()
    {
        log::warn!("there is a GPU on {}, and the CPU is used: {}", world.host(), no_device());
    }
    choose(request, shared, &visible, world)
}

/// Why no CUDA device is seen.
fn no_device() -> &'static str {
    cuda::open().err().unwrap_or("libtorch sees no CUDA device")
}

/// The CUDA devices that this process sees, in their order, each by a name that every process knows it by. Numbers are
/// no such names: a launcher that shows each rank a GPU of its own makes it number 0 of every rank.
fn visible() -> Vec<String> {
    let mask = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let entries: Vec<_> = mask.split(',').map(str::trim).collect();
    let name = |index: usize| {
        let entry = entries.get(index).copied().unwrap_or_default();
        match cuda::properties(index) {
            // Slices of a GPU share its UUID.
            Ok(properties) if entry.starts_with("MIG-") => format!("{:02x?} {entry}", properties.uuid),
            Ok(properties) => format!("{:02x?}", properties.uuid),
            Err(_) => format!("{entry}#{index}"),
        }
    };
    (0..tch::Cuda::device_count().max(0) as usize).map(name).collect()
}

/// Chooses this rank's device among the CUDA devices `visible` to it, which are named alike by all ranks of the node:
/// the first of its own where each rank sees others, else the one at its local rank, of which `shared` neighbours take the
/// same. Collective over the node's ranks.
///
/// # Errors
/// There are fewer devices than ranks, or none, or not the one that was asked for; and what MPI reported.
pub fn choose(request: &DeviceRequest, shared: usize, visible: &[String], world: &World) -> anyhow::Result<Device> {
    let all = world.node_channel().all_gather_text(&visible.join("\n"))?;
    let ranks = Ranks { own: world.local_rank(), all: world.local_size(), shared };
    of_rank(request, visible.len(), ranks, are_disjoint(&all))
}

/// The ranks of a node.
#[derive(Clone, Copy, Debug)]
struct Ranks {
    /// This one.
    own: usize,
    all: usize,
    /// How many take the same device.
    shared: usize,
}

/// Whether each of several ranks sees devices, and none that another sees. One line a device.
fn are_disjoint(all: &[String]) -> bool {
    let mut seen = std::collections::HashSet::new();
    all.len() > 1 && all.iter().all(|of_rank| !of_rank.is_empty() && of_rank.lines().all(|name| seen.insert(name)))
}

/// Where batches lie on their way to `device`: a CUDA device reads page-locked memory by itself.
pub(crate) fn batch_memory(device: Device) -> Allocate {
    match device {
        Device::Cuda(_) => pinned,
        _ => heap,
    }
}

fn pinned(bytes: usize) -> Box<dyn HostMemory> {
    match PinnedMemory::new(bytes) {
        Ok(memory) => Box::new(memory),
        Err(error) => {
            log::warn!("{bytes} bytes of memory could not be page-locked ({error}); batches take longer to the device");
            heap(bytes)
        }
    }
}

/// The choice, without the machine: `visible` devices, and `own` where each rank of the node sees others.
fn of_rank(request: &DeviceRequest, visible: usize, ranks: Ranks, own: bool) -> anyhow::Result<Device> {
    let wanted = match request {
        DeviceRequest::Cpu => return Ok(Device::Cpu),
        DeviceRequest::Auto if visible == 0 => return Ok(Device::Cpu),
        DeviceRequest::Cuda if visible == 0 => {
            return Err(usage(format!("--device cuda: {}; use --device cpu, or ask for a GPU", no_device())));
        }
        DeviceRequest::Auto | DeviceRequest::Cuda if own => return Ok(Device::Cuda(0)),
        DeviceRequest::Auto | DeviceRequest::Cuda => (0..visible).collect(),
        DeviceRequest::CudaList(indices) => indices.clone(),
    };
    if let Some(index) = wanted.iter().find(|&&index| index >= visible) {
        let why = if visible == 0 { no_device().to_owned() } else { format!("{visible} visible") };
        return Err(usage(format!("--device {request}: there is no CUDA device {index} here ({why})")));
    }
    let Ranks { own, all, shared } = ranks;
    match wanted.get(own / shared) {
        Some(&index) if all <= wanted.len() * shared => Ok(Device::Cuda(index)),
        _ if shared == 1 => Err(usage(format!(
            "--device '{request}': {all} ranks on this node and {} CUDA devices for them; start at most one rank per \
             device, use --device cpu, or let ranks share a device with --ranks-per-device",
            wanted.len()
        ))),
        _ => Err(usage(format!(
            "--device '{request}': {all} ranks on this node and {} CUDA devices for {shared} ranks each; start fewer ranks",
            wanted.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rank_gets_a_device_of_its_own_or_a_reason() {
        let shared = [
            ("", 1, (0, 2, 2), false, Ok(Device::Cuda(0))),
            ("", 2, (3, 4, 2), false, Ok(Device::Cuda(1))),
            ("1", 2, (1, 2, 2), false, Ok(Device::Cuda(1))),
            ("", 1, (0, 3, 2), false, Err("3 ranks on this node and 1 CUDA devices for 2 ranks each")),
            ("", 1, (1, 2, 2), true, Ok(Device::Cuda(0))),
        ];
        let cases = [
            ("", 0, 1, 4, false, Ok(Device::Cpu)),
            ("", 4, 1, 4, false, Ok(Device::Cuda(1))),
            ("", 1, 3, 4, true, Ok(Device::Cuda(0))),
            ("", 2, 3, 4, false, Err("4 ranks on this node and 2 CUDA devices")),
            ("", 2, 0, 4, false, Err("4 ranks on this node and 2 CUDA devices")),
            ("cpu", 4, 1, 4, false, Ok(Device::Cpu)),
            ("cuda", 0, 0, 1, false, Err("there is no NVIDIA GPU")),
            ("2,3", 4, 1, 2, false, Ok(Device::Cuda(3))),
            ("0", 1, 0, 1, false, Ok(Device::Cuda(0))),
            ("0,7", 4, 0, 2, false, Err("there is no CUDA device 7 here (4 visible)")),
            ("0", 4, 1, 2, false, Err("2 ranks on this node and 1 CUDA devices")),
        ];
        let alone =
            cases.map(|(request, visible, own, all, each, expected)| (request, visible, (own, all, 1), each, expected));
        for (request, visible, (own, all, shared), each, expected) in alone.into_iter().chain(shared) {
            let got = of_rank(&request.parse().unwrap(), visible, Ranks { own, all, shared }, each);
            match expected {
                Ok(device) => assert_eq!(got.unwrap(), device, "{request:?}"),
                Err(words) => assert!(got.unwrap_err().to_string().contains(words), "{request:?}"),
            }
        }
    }

    #[test]
    fn numbers_are_no_names() {
        let cases: &[(&[&str], bool)] = &[
            (&["a"], false), // alone, there is nobody to share with
            (&["a", "b"], true),
            (&["a\nb", "c\nd"], true),
            (&["a\nb", "a\nb"], false),
            (&["a\nb", "b\nc"], false),
            (&["", "a"], false),
        ];
        for (all, expected) in cases {
            let all: Vec<_> = all.iter().map(|names| (*names).to_owned()).collect();
            assert_eq!(are_disjoint(&all), *expected, "{all:?}");
        }
    }
}
