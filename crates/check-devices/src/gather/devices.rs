//! CUDA devices, from NVML, which is loaded at run time: a machine without it has none, and that is said.

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::error::NvmlError;

use super::run::run;
use crate::facts::DeviceFacts;

/// The devices, in CUDA's order as far as `CUDA_VISIBLE_DEVICES` (`visible`) says it, and the driver's version.
///
/// # Errors
/// Why NVML does not answer.
pub(super) fn devices(visible: Option<&str>) -> Result<(Vec<DeviceFacts>, Option<String>), String> {
    // The name with the number is in every driver; the one without only in development packages.
    let nvml = Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init().map_err(|error| error.to_string())?;
    let xids = run("dmesg", &[]).map(|printed| xids(&printed.stdout)).unwrap_or_default();
    let read = || -> Result<Vec<DeviceFacts>, NvmlError> {
        (0..nvml.device_count()?).map(|index| device(&nvml, index, &xids)).collect()
    };
    let all = read().map_err(|error| error.to_string())?;
    Ok((chosen(all, visible), nvml.sys_driver_version().ok()))
}

/// The driver's errors in the kernel's log, oldest first: the device's place on the bus, and the number. Most users may not
/// read that log; then there are none.
fn xids(log: &str) -> Vec<(String, u32)> {
    let xid = |line: &str| {
        let (_, rest) = line.split_once("NVRM: Xid (PCI:")?;
        let (place, rest) = rest.split_once("): ")?;
        let number = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        Some((place.to_ascii_lowercase(), number))
    };
    log.lines().filter_map(xid).collect()
}

fn device(nvml: &Nvml, index: u32, xids: &[(String, u32)]) -> Result<DeviceFacts, NvmlError> {
    let device = nvml.device_by_index(index)?;
    // NVML: 00000000:3B:00.0, the kernel's log: 0000:3b:00.
    let place = device.pci_info().map(|pci| pci.bus_id.to_ascii_lowercase()).unwrap_or_default();
    let memory = device.memory_info()?;
    let own = std::process::id();
    let processes = device.running_compute_processes().ok();
    let reasons = device.current_throttle_reasons().ok().unwrap_or(ThrottleReasons::empty());
    Ok(DeviceFacts {
        index: index as usize,
        uuid: device.uuid()?,
        name: device.name()?,
        compute_capability: device
            .cuda_compute_capability()
            .ok()
            .map(|version| format!("{}.{}", version.major, version.minor)),
        memory_bytes: memory.total,
        free_bytes: Some(memory.free),
        foreign_processes: processes.map(|processes| processes.iter().filter(|process| process.pid != own).count()),
        uncorrected_errors: device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).ok(),
        row_remap_pending: None,
        throttle_reasons: throttle_reasons(reasons),
        temperature: device.temperature(TemperatureSensor::Gpu).ok(),
        numa_node: device.numa_node_id().ok().map(|node| node as usize),
        mig: device.mig_mode().ok().map(|mode| mode.current == 1),
        recent_xid: xids.iter().rfind(|(at, _)| place.contains(at.as_str())).map(|&(_, number)| number),
        peers: peers(nvml, index),
    })
}

/// What holds a device back beside idling and settings.
fn throttle_reasons(reasons: ThrottleReasons) -> Vec<String> {
    let named = [
        (ThrottleReasons::SW_POWER_CAP, "its power limit"),
        (ThrottleReasons::HW_SLOWDOWN, "a hardware slowdown"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "its temperature"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "its temperature (hardware)"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "a power brake"),
    ];
    named.iter().filter(|(reason, _)| reasons.contains(*reason)).map(|(_, name)| (*name).to_owned()).collect()
}

fn peers(nvml: &Nvml, index: u32) -> Option<Vec<usize>> {
    let one = nvml.device_by_index(index).ok()?;
    let others = (0..nvml.device_count().ok()?).filter(|&other| other != index);
    let reached = others.filter_map(|other| {
        let device = nvml.device_by_index(other).ok()?;
        let status = one.p2p_status(&device, nvml_wrapper::enum_wrappers::device::P2pCapabilitiesIndex::Read).ok()?;
        (status == nvml_wrapper::enum_wrappers::device::P2pStatus::Ok).then_some(other as usize)
    });
    Some(reached.collect())
}

/// The devices of `all` that `visible` names, in its order. Where the task is confined to its devices, NVML shows only
/// those, numbered from 0 as CUDA numbers them, and the list's numbers fit all the same.
fn chosen(all: Vec<DeviceFacts>, visible: Option<&str>) -> Vec<DeviceFacts> {
    let Some(visible) = visible else { return all };
    let find = |entry: &str| {
        let by_index = entry.parse::<usize>().ok().and_then(|index| all.get(index));
        by_index
            .or_else(|| all.iter().find(|device| entry.starts_with("GPU-") && device.uuid.starts_with(entry)))
            .cloned()
    };
    // CUDA stops at the first entry that it does not know.
    visible.split(',').map(|entry| find(entry.trim())).take_while(Option::is_some).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_the_kernels_log() {
        let log = "[1.0] usb 1-1: new\n[9.1] NVRM: Xid (PCI:0000:3B:00): 79, pid=12, GPU has fallen off the bus.\n";
        assert_eq!(xids(log), [("0000:3b:00".to_owned(), 79)]);
    }

    #[test]
    fn the_visible_ones_in_their_order() {
        let all: Vec<_> = ["GPU-aa", "GPU-bb", "GPU-cc"]
            .iter()
            .enumerate()
            .map(|(index, uuid)| DeviceFacts { index, uuid: (*uuid).to_owned(), ..DeviceFacts::default() })
            .collect();
        let cases: &[(Option<&str>, &[usize])] = &[
            (None, &[0, 1, 2]),
            (Some("2,0"), &[2, 0]),
            (Some("GPU-bb"), &[1]),
            (Some("0,-1,1"), &[0]),
            (Some(""), &[]),
        ];
        for (visible, expected) in cases {
            let got: Vec<_> = chosen(all.clone(), *visible).iter().map(|device| device.index).collect();
            assert_eq!(got, *expected, "{visible:?}");
        }
    }
}
