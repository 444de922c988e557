//! What one task in the allocation sees: devices, CPUs, limits, interfaces.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use rustix::thread::sched_getaffinity;

use super::devices::devices;
use super::files::size_bytes;
use crate::facts::AllocationFacts;

/// Looks around in this process.
pub(crate) fn allocation() -> AllocationFacts {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let (devices, driver_version, nvml_error) = match devices(visible.as_deref()) {
        Ok((devices, driver)) => (Some(devices), driver, None),
        Err(error) => (None, None, Some(error)),
    };
    let cpus = allowed_cpus();
    AllocationFacts {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        devices,
        nvml_error,
        driver_version,
        cuda_visible_devices: visible,
        numa_nodes: cpus.as_deref().map(numa_nodes).unwrap_or_default(),
        cpus: cpus.map(|cpus| cpus.len()),
        shared_memory_bytes: size_bytes("/dev/shm"),
        open_files: getrlimit(Resource::Nofile).current,
        locked_memory_bytes: getrlimit(Resource::Memlock).current,
        has_rdma: Some(has_entries("/sys/class/infiniband")),
        interfaces: names("/sys/class/net"),
        environment: environment(),
        mpi_cuda: None,
        libtorch_architectures: Vec::new(),
    }
}

fn allowed_cpus() -> Option<Vec<usize>> {
    let set = sched_getaffinity(None).ok()?;
    Some((0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// The NUMA nodes of these CPUs, by the folders that the kernel keeps for each CPU.
fn numa_nodes(cpus: &[usize]) -> Vec<usize> {
    let of_cpu = |cpu: &usize| {
        let names = names(&format!("/sys/devices/system/cpu/cpu{cpu}"));
        names.iter().find_map(|name| name.strip_prefix("node")?.parse().ok())
    };
    let mut nodes: Vec<usize> = cpus.iter().filter_map(of_cpu).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

fn has_entries(folder: impl AsRef<Path>) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// The variables that checks look at.
fn environment() -> BTreeMap<String, String> {
    let matters = |name: &str| {
        const NAMES: [&str; 5] = [
            "OMP_NUM_THREADS",
            "HDF5_USE_FILE_LOCKING",
            "SLURM_CPUS_PER_TASK",
            "ROCR_VISIBLE_DEVICES",
            "HIP_VISIBLE_DEVICES",
        ];
        name.starts_with("NCCL_") || NAMES.contains(&name)
    };
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| matters(name))
        .collect()
}
