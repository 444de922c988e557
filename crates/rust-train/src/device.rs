//! Which device this rank computes on.

use dataset::{Allocate, HostMemory, heap};
use layout::DeviceRequest;
use tch::Device;
use torch_ext::PinnedMemory;
use world::World;

use crate::failure::usage;

/// Chooses this rank's device. Collective over the node's ranks.
pub(crate) fn select(request: &DeviceRequest, world: &World) -> anyhow::Result<Device> {
    let visible = tch::Cuda::device_count().max(0) as usize;
    let ranks = world.local_size();
    // A launcher that gives each rank a GPU of its own makes it device 0 of every rank.
    let masks = world.node_channel().all_gather_text(&std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default())?;
    let own = masks.iter().enumerate().all(|(rank, mask)| !mask.is_empty() && !masks[..rank].contains(mask));
    choose(request, visible, world.local_rank(), ranks, own && ranks > 1)
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
fn choose(
    request: &DeviceRequest,
    visible: usize,
    local_rank: usize,
    ranks: usize,
    own: bool,
) -> anyhow::Result<Device> {
    let wanted = match request {
        DeviceRequest::Cpu => return Ok(Device::Cpu),
        DeviceRequest::Auto if visible == 0 => return Ok(Device::Cpu),
        DeviceRequest::Cuda if visible == 0 => {
            return Err(usage("--device cuda: no CUDA device is visible here; use --device cpu, or ask for a GPU"));
        }
        DeviceRequest::Auto | DeviceRequest::Cuda if own => return Ok(Device::Cuda(0)),
        DeviceRequest::Auto | DeviceRequest::Cuda => (0..visible).collect(),
        DeviceRequest::CudaList(indices) => indices.clone(),
    };
    if let Some(index) = wanted.iter().find(|&&index| index >= visible) {
        return Err(usage(format!("--device {request}: there is no CUDA device {index} here ({visible} visible)")));
    }
    match wanted.get(local_rank) {
        Some(&index) if ranks <= wanted.len() => Ok(Device::Cuda(index)),
        _ => Err(usage(format!(
            "--device '{request}': {ranks} ranks on this node and {} CUDA devices for them; start at most one rank per \
             device, or use --device cpu",
            wanted.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rank_gets_a_device_of_its_own_or_a_reason() {
        let cases = [
            ("", 0, 1, 4, false, Ok(Device::Cpu)),
            ("", 4, 1, 4, false, Ok(Device::Cuda(1))),
            ("", 1, 3, 4, true, Ok(Device::Cuda(0))),
            ("", 2, 3, 4, false, Err("4 ranks on this node and 2 CUDA devices")),
            ("", 2, 0, 4, false, Err("4 ranks on this node and 2 CUDA devices")),
            ("cpu", 4, 1, 4, false, Ok(Device::Cpu)),
            ("cuda", 0, 0, 1, false, Err("no CUDA device is visible")),
            ("2,3", 4, 1, 2, false, Ok(Device::Cuda(3))),
            ("0", 1, 0, 1, false, Ok(Device::Cuda(0))),
            ("0,7", 4, 0, 2, false, Err("there is no CUDA device 7 here (4 visible)")),
            ("0", 4, 1, 2, false, Err("2 ranks on this node and 1 CUDA devices")),
        ];
        for (request, visible, local_rank, ranks, own, expected) in cases {
            let got = choose(&request.parse().unwrap(), visible, local_rank, ranks, own);
            match expected {
                Ok(device) => assert_eq!(got.unwrap(), device, "{request:?}"),
                Err(words) => assert!(got.unwrap_err().to_string().contains(words), "{request:?}"),
            }
        }
    }
}
