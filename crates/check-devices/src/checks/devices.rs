//! D: the devices, in the allocation.

use std::collections::BTreeMap;

use super::need::{exactly, need};
use crate::check::{Check, Outcome, Tier};
use crate::facts::{AllocationFacts, DeviceFacts, RankFacts};
use crate::finding::{Finding, Severity};
use crate::subject::Subject;
use crate::words::plural;

/// Why nothing is known of the devices.
pub(super) fn nvml_error(facts: &AllocationFacts) -> String {
    format!("NVML does not answer: {}", facts.nvml_error.as_deref().unwrap_or("no reason given"))
}

/// The devices that the task sees, where the job is to compute on devices.
fn devices<'s>(subject: &'s Subject<'_>) -> Result<&'s [DeviceFacts], Outcome> {
    let Some(facts) = subject.allocation() else { return Err(Outcome::skip(Tier::Allocation.how())) };
    let layout = subject.first_layout();
    match &facts.devices {
        Some(devices) => Ok(devices),
        None if layout.on_cpu => Err(Outcome::skip("the ranks compute on the CPU")),
        None => Err(Outcome::unknown(nvml_error(facts))),
    }
}

fn for_each(subject: &Subject<'_>, judge: impl Fn(&DeviceFacts) -> Option<Finding>) -> Outcome {
    let devices = need!(devices(subject));
    if devices.is_empty() {
        return Outcome::skip("the task sees no devices");
    }
    Outcome::of(devices.iter().filter_map(judge))
}

/// `device 0 (NVIDIA A100)`.
fn named(device: &DeviceFacts) -> String {
    format!("device {} ({})", device.index, device.name)
}

pub(crate) const D01: Check = Check {
    id: "D01",
    title: "fewer devices than the job wants",
    severity: Severity::Error,
    tier: Tier::Allocation,
    explanation: "The task must see the devices of its node that the layout counts on. A step that asks for no GPUs of its own \
                  may see none (srun --gres=none), and CUDA_VISIBLE_DEVICES hides the others.",
    source: "NVML; gres.conf(5)",
    run: |subject| {
        let devices = need!(devices(subject));
        let layout = subject.first_layout();
        let wanted = if layout.on_cpu { 0 } else { need!(exactly(&layout.devices.value)) };
        let one_each = subject.jobs.iter().any(|job| job.gpus_per_task.is_some());
        if devices.len() >= wanted || (one_each && !devices.is_empty()) {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!(
            "the task sees {}, and the layout has {wanted}",
            plural(devices.len(), "device")
        ))
        .help("ask for them in the step too: srun --gpus-per-node=N")])
    },
};

/// The device that a rank takes: that of its local rank, or the only one it sees. So many ranks share one.
fn taken(rank: &RankFacts, sharers: usize) -> Option<&DeviceFacts> {
    let devices = rank.allocation.devices.as_ref()?;
    if let [only] = &devices[..] { Some(only) } else { devices.get(rank.local_rank / sharers) }
}

pub(crate) const D02: Check = Check {
    id: "D02",
    title: "two ranks take the same device",
    severity: Severity::Error,
    tier: Tier::Ranks,
    explanation: "Each rank takes the device of its local rank, or the only one it sees. Where two come to the same one, NCCL \
                  ends with \"Duplicate GPU detected\".",
    source: "NCCL, ncclInvalidUsage",
    run: |subject| {
        let ranks = need!(subject.ranks(), Tier::Ranks.how());
        let sharers = subject.training.sharers();
        let mut takers: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for rank in ranks {
            if let Some(device) = taken(rank, sharers) {
                takers.entry((&rank.allocation.host, &device.uuid)).or_default().push(rank.rank);
            }
        }
        if takers.is_empty() {
            return Outcome::skip("no rank sees a device");
        }
        Outcome::of(takers.into_iter().filter(|(_, ranks)| ranks.len() > sharers).map(|((host, uuid), ranks)| {
            let ranks: Vec<_> = ranks.iter().map(ToString::to_string).collect();
            Finding::error(format!("ranks {} on {host} take the same device, {uuid}", ranks.join(", ")))
                .help("start as many ranks on a node as it has devices, and show each rank all or only its own")
        }))
    },
};

/// How many devices a list of visible ones shows, of `there` where that is known. The run time reads it up to the first entry
/// that it does not know, and ignores all if one is listed twice.
fn shown(list: &str, there: Option<usize>) -> usize {
    let entries: Vec<_> = list.split(',').map(str::trim).collect();
    let is_there = |index: usize| there.is_none_or(|there| index < there);
    let known =
        |entry: &&&str| entry.parse().is_ok_and(is_there) || entry.starts_with("GPU-") || entry.starts_with("MIG-");
    let twice = entries.iter().enumerate().any(|(index, entry)| entries[..index].contains(entry));
    if list.trim().is_empty() || twice { 0 } else { entries.iter().take_while(known).count() }
}

pub(crate) const D03: Check = Check {
    id: "D03",
    title: "a list of visible devices does not mean what it says",
    severity: Severity::Warning,
    tier: Tier::Allocation,
    explanation: "CUDA reads CUDA_VISIBLE_DEVICES up to the first entry that it does not know, and ignores all if one is listed \
                  twice: '0,-1,1' is one device, '0,0' is none, and so is the empty text. So do ROCm's ROCR_VISIBLE_DEVICES \
                  and HIP_VISIBLE_DEVICES, of which the second counts the devices that the first has left.",
    source: "CUDA C++ Programming Guide, CUDA environment variables; ROCm, GPU isolation techniques",
    run: |subject| {
        let facts = need!(subject.allocation(), Tier::Allocation.how());
        let of_amd = |name: &str| facts.environment.get(name).map(String::as_str);
        let left = of_amd("ROCR_VISIBLE_DEVICES").map(|list| shown(list, None));
        let lists = [
            ("CUDA_VISIBLE_DEVICES", facts.cuda_visible_devices.as_deref(), None),
            ("ROCR_VISIBLE_DEVICES", of_amd("ROCR_VISIBLE_DEVICES"), None),
            ("HIP_VISIBLE_DEVICES", of_amd("HIP_VISIBLE_DEVICES"), left),
        ];
        let given: Vec<_> = lists.into_iter().filter_map(|(name, list, there)| Some((name, list?, there))).collect();
        if given.is_empty() {
            return Outcome::skip("no list of visible devices is set");
        }
        let on_cpu = subject.first_layout().on_cpu;
        Outcome::of(given.into_iter().filter_map(|(name, list, there)| {
            let meant = shown(list, there);
            let listed = list.split(',').count();
            let as_it_says = meant == listed && !list.trim().is_empty();
            (!(as_it_says || on_cpu && meant == 0))
                .then(|| Finding::warning(format!("{name}='{list}' shows {}", plural(meant, "device"))))
        }))
    },
};

pub(crate) const D04: Check = Check {
    id: "D04",
    title: "the ranks have different devices",
    severity: Severity::Warning,
    tier: Tier::Ranks,
    explanation: "All ranks wait for the slowest device, and the smallest memory limits the micro-batch of all.",
    source: "PyTorch, DistributedDataParallel",
    run: |subject| {
        let ranks = need!(subject.ranks(), Tier::Ranks.how());
        let mut kinds: BTreeMap<(&str, u64), Vec<usize>> = BTreeMap::new();
        for rank in ranks {
            if let Some(device) = taken(rank, subject.training.sharers()) {
                kinds.entry((&device.name, device.memory_bytes >> 30)).or_default().push(rank.rank);
            }
        }
        match kinds.len() {
            0 => Outcome::skip("no rank sees a device"),
            1 => Outcome::Pass,
            _ => {
                let list: Vec<_> = kinds
                    .iter()
                    .map(|((name, gib), ranks)| format!("{name} with {gib} GiB ({})", plural(ranks.len(), "rank")))
                    .collect();
                Outcome::of([Finding::warning(format!("the ranks have different devices: {}", list.join("; ")))
                    .help("name the type: --gpus-per-node=TYPE:N, or --constraint")])
            }
        }
    },
};

pub(crate) const D05: Check = Check {
    id: "D05",
    title: "others use the device",
    severity: Severity::Warning,
    tier: Tier::Allocation,
    explanation: "Processes of somebody else on the device, or memory that nobody gave back: the job will be slow, or run out \
                  of memory.",
    source: "NVML, nvmlDeviceGetComputeRunningProcesses",
    run: |subject| {
        for_each(subject, |device| {
            if let Some(count @ 1..) = device.foreign_processes {
                return Some(Finding::warning(format!(
                    "{}: {} of others on it",
                    named(device),
                    plural(count, "process")
                )));
            }
            let free = device.free_bytes?;
            // A context of our own, or of the driver's persistence, is a few hundred MiB.
            let held = device.memory_bytes.saturating_sub(free);
            (held > device.memory_bytes / 10).then(|| {
                Finding::warning(format!(
                    "{}: {} of {} are in use",
                    named(device),
                    crate::memory::Bytes(held),
                    crate::memory::Bytes(device.memory_bytes)
                ))
            })
        })
    },
};

pub(crate) const D06: Check = Check {
    id: "D06",
    title: "the device's memory is faulty",
    severity: Severity::Error,
    tier: Tier::Allocation,
    explanation: "Uncorrected memory errors end CUDA programs, now or later. Rows that wait to be remapped want a reset of the \
                  device by an administrator.",
    source: "NVIDIA, GPU Memory Error Management",
    run: |subject| {
        for_each(subject, |device| {
            let errors = device.uncorrected_errors.unwrap_or(0);
            let pending = device.row_remap_pending == Some(true);
            (errors > 0 || pending).then(|| {
                let what = if pending {
                    "rows wait to be remapped".to_owned()
                } else {
                    plural(errors as usize, "uncorrected memory error")
                };
                Finding::error(format!("{}: {what}", named(device)))
                    .help("exclude the node (--exclude), and tell its administrators")
            })
        })
    },
};

pub(crate) const D07: Check = Check {
    id: "D07",
    title: "the driver has reported an error of this device",
    severity: Severity::Warning,
    tier: Tier::Allocation,
    explanation: "Xid errors in the kernel's log tell of faults of hardware, driver or program. 48, 63, 64, 74, 79, 94 and 95 \
                  are hardware.",
    source: "NVIDIA, XID Errors",
    run: |subject| {
        for_each(subject, |device| {
            let xid = device.recent_xid?;
            let hardware = [48, 63, 64, 74, 79, 94, 95].contains(&xid);
            let what = if hardware { "a hardware fault" } else { "maybe of a program" };
            Some(Finding::warning(format!("{}: Xid {xid} in the kernel's log, {what}", named(device))))
        })
    },
};

/// Devices slow themselves down at about 85 to 90 degrees.
const HOT_CELSIUS: u32 = 85;

pub(crate) const D08: Check = Check {
    id: "D08",
    title: "the device is held back",
    severity: Severity::Warning,
    tier: Tier::Allocation,
    explanation: "A device that is too hot, or short of power, runs slower, and all ranks wait for it.",
    source: "NVML, nvmlDeviceGetCurrentClocksThrottleReasons",
    run: |subject| {
        for_each(subject, |device| {
            if !device.throttle_reasons.is_empty() {
                return Some(Finding::warning(format!(
                    "{}: held back by {}",
                    named(device),
                    device.throttle_reasons.join(", ")
                )));
            }
            let hot = device.temperature.filter(|&celsius| celsius >= HOT_CELSIUS)?;
            Some(Finding::warning(format!("{}: {hot} °C before the job has begun", named(device))))
        })
    },
};

pub(crate) const D09: Check = Check {
    id: "D09",
    title: "devices do not reach each other directly",
    severity: Severity::Warning,
    tier: Tier::Allocation,
    explanation: "Without peer access between the devices of a node, gradients go through host memory.",
    source: "NVML, nvmlDeviceGetP2PStatus",
    run: |subject| {
        let devices = need!(devices(subject));
        if devices.len() < 2 {
            return Outcome::skip("the task sees fewer than two devices");
        }
        if devices.iter().any(|device| device.peers.is_none()) {
            return Outcome::unknown("peer access cannot be read");
        }
        let apart = devices.iter().find_map(|device| {
            let peers = device.peers.as_ref()?;
            let other = devices.iter().find(|other| other.index != device.index && !peers.contains(&other.index))?;
            Some((device.index, other.index))
        });
        Outcome::of(apart.map(|(one, other)| {
            Finding::warning(format!("devices {one} and {other} do not reach each other directly"))
        }))
    },
};

pub(crate) const D10: Check = Check {
    id: "D10",
    title: "fewer CPUs than the task asked for",
    severity: Severity::Error,
    tier: Tier::Allocation,
    explanation: "A task that may run on fewer CPUs than --cpus-per-task starves its loader: srun did not inherit the number \
                  (L11), or a launcher bound each rank to one core.",
    source: "sched_getaffinity(2)",
    run: |subject| {
        let facts = need!(subject.allocation(), Tier::Allocation.how());
        let asked = subject.job().cpus_per_task.as_ref().map(|cpus| cpus.value);
        let of_step = || facts.environment.get("SLURM_CPUS_PER_TASK")?.parse().ok();
        let asked: usize = need!(asked.or_else(of_step), "--cpus-per-task is not given");
        let Some(has) = facts.cpus else { return Outcome::unknown("the CPUs of the task cannot be read") };
        if has >= asked {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!("the task may run on {}, and asked for {asked}", plural(has, "CPU")))
            .help("srun --cpus-per-task=$SLURM_CPUS_PER_TASK; mpirun --bind-to none")])
    },
};

pub(crate) const D11: Check = Check {
    id: "D11",
    title: "the task's CPUs are far from its device",
    severity: Severity::Warning,
    tier: Tier::Allocation,
    explanation: "Copies to a device of another NUMA node cross the link between the sockets, and share it with all others.",
    source: "hwloc; nvidia-smi topo -m",
    run: |subject| {
        let facts = need!(subject.allocation(), Tier::Allocation.how());
        let devices = need!(devices(subject));
        let [only] = devices else { return Outcome::skip("the task does not have exactly one device") };
        let numa = need!(only.numa_node, "the device's NUMA node is not known");
        if facts.numa_nodes.is_empty() {
            return Outcome::unknown("the NUMA nodes of the task's CPUs cannot be read");
        }
        if facts.numa_nodes.contains(&numa) {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning(format!(
            "the task's CPUs are on NUMA node {}, its device on {numa}",
            facts.numa_nodes[0]
        ))
        .help("srun --gpu-bind=none --cpu-bind=…, or let Slurm choose: --gres-flags=enforce-binding")])
    },
};

pub(crate) const D12: Check = Check {
    id: "D12",
    title: "slices of a device, and several ranks",
    severity: Severity::Warning,
    tier: Tier::Allocation,
    explanation: "CUDA shows a process one MIG slice at most, and NCCL does not connect slices: MIG is for one rank.",
    source: "NVIDIA, MIG User Guide: no peer-to-peer; NCCL",
    run: |subject| {
        let ranks = need!(exactly(&subject.first_layout().ranks.value));
        if ranks < 2 {
            return Outcome::skip("there is one rank");
        }
        for_each(subject, |device| {
            (device.mig == Some(true)).then(|| {
                Finding::warning(format!("{} is cut into MIG slices, and there are {ranks} ranks", named(device)))
                    .help("ask for whole devices, or use one rank")
            })
        })
    },
};

pub(crate) const D13: Check = Check {
    id: "D13",
    title: "the ranks cannot add up a number",
    severity: Severity::Error,
    tier: Tier::Ranks,
    explanation: "All ranks add up their numbers in a tiny all-reduce whose answer is known, with a short time-out: what fails \
                  here fails in the first step of training, after the queue.",
    source: "MPI_Allreduce",
    run: |subject| {
        let ranks = need!(subject.ranks(), Tier::Ranks.how());
        let failed = ranks.iter().filter_map(|rank| match &rank.all_reduce {
            Some(Err(error)) => {
                Some(Finding::error(format!("rank {} on {}: {error}", rank.rank, rank.allocation.host)))
            }
            _ => None,
        });
        let findings: Vec<_> = failed.collect();
        if findings.is_empty() && ranks.iter().any(|rank| rank.all_reduce.is_none()) {
            return Outcome::unknown("not every rank took part");
        }
        Outcome::of(findings)
    },
};
