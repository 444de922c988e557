//! L02, L05–L08: GPUs for ranks.

use super::super::need::{need, script};
use crate::check::{Check, Outcome, Tier};
use crate::commands::trainer;
use crate::finding::{Finding, Severity};
use crate::subject::{Layout, Subject};
use crate::words::plural;

pub(crate) const L02: Check = Check {
    id: "L02",
    title: "ranks on a node and GPUs on a node differ",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Data-parallel training takes one rank for each GPU. With more ranks, two share a device and NCCL refuses \
                  (\"Duplicate GPU detected\"): an error, unless rust-train's --ranks-per-device says that they are meant to. With fewer, GPUs are reserved and idle: a warning, because one \
                  process may drive several of them.",
    source: "NCCL, ncclInvalidUsage; PyTorch, DistributedDataParallel",
    run: |subject| {
        let judged = subject.layouts.iter().filter(|layout| !layout.on_cpu && layout.devices.value > 0);
        let mut findings: Vec<_> = judged.filter_map(|layout| ranks_against_devices(subject, layout)).collect();
        findings.truncate(1); // the other numbers of nodes of a range say the same
        if findings.is_empty() && subject.layouts.iter().all(|layout| layout.on_cpu || layout.devices.value == 0) {
            return Outcome::skip("no GPUs are asked for");
        }
        Outcome::of(findings)
    },
};

fn ranks_against_devices(subject: &Subject<'_>, layout: &Layout) -> Option<Finding> {
    let sharers = subject.training.sharers();
    let listed = match &subject.training.request {
        Some(::layout::DeviceRequest::CudaList(indices)) => indices.len(),
        _ => layout.devices.value,
    };
    let room = listed.saturating_mul(sharers);
    let ranks = layout.ranks_per_node.value;
    let place = |finding: Finding| {
        let launch = subject.main_launch().map(|launch| launch.span);
        let ranks_at = layout.ranks.span().or(layout.ranks_per_node.span()).or(launch);
        let ranks_at = ranks_at.or_else(|| subject.jobs[layout.component].tasks_per_node.as_ref()?.span());
        let devices_at = layout.devices.span().or_else(|| subject.job().gpu_request()?.span());
        finding
            .at(ranks_at, format!("{} on a node", plural(ranks, "rank")))
            .at(devices_at, plural(layout.devices.value, "GPU"))
    };
    if ranks > room {
        // A program that is not known may share devices on purpose; a training run cannot.
        let trains = subject.training.batch.is_some() || subject.script.is_none() || is_training(subject);
        let message = format!("{} on a node and {} for them", plural(ranks, "rank"), plural(listed, "CUDA device"));
        let finding = if trains { Finding::error(message) } else { Finding::warning(message) };
        return Some(place(finding).help(match sharers {
            1 => format!("start {listed} on each node, one for each device, or use --device cpu"),
            _ => format!("start {room} on each node, {sharers} for each device, or use --device cpu"),
        }));
    }
    // A list of devices leaves the others out on purpose.
    let all_meant = !matches!(subject.training.request, Some(::layout::DeviceRequest::CudaList(_)));
    // A shell, a container or a variable hides the program, and with it how many devices a process drives.
    let hides = |name: &str| {
        matches!(name, "bash" | "sh" | "zsh" | "singularity" | "apptainer" | "podman" | "enroot" | "docker")
    };
    let program = subject.main_launch().and_then(|launch| launch.program_name());
    let knows = subject.script.is_none() || program.is_some_and(|name| !hides(name));
    let taken = ranks.div_ceil(sharers);
    if taken < listed && all_meant && knows {
        let idle = listed - taken;
        let message = format!("{} on a node and {listed} GPUs: {idle} of them may idle", plural(ranks, "rank"));
        return Some(
            place(Finding::warning(message))
                .help(format!("start {room} ranks on each node, or ask for {}", plural(taken, "GPU"))),
        );
    }
    None
}

fn is_training(subject: &Subject<'_>) -> bool {
    subject
        .main_launch()
        .is_some_and(|launch| trainer(launch).is_some() || launch.steps.iter().any(|step| step.launcher.is_per_node()))
}

pub(crate) const L05: Check = Check {
    id: "L05",
    title: "GPUs are not spread evenly over the nodes",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "--gpus counts over the whole job, and Slurm packs: --nodes=2 --gpus=4 may be three GPUs on one node and one \
                  on the other, and what is not a multiple of the nodes cannot be even at all. Launchers with a fixed number of \
                  ranks per node need --gpus-per-node. A warning where the script is not seen to train.",
    source: "sbatch(1), --gpus; tried out with Slurm 22.05 (scripts/slurm-agreement)",
    run: |subject| {
        need!(script(subject));
        let job = subject.job();
        let gpus = need!(job.gpus.as_ref(), "--gpus is not given");
        let nodes = need!(job.nodes.as_ref(), "--nodes is not given");
        let bound = job.gpus_per_node.is_some() || job.gpus_per_task.is_some() || job.tasks_per_gpu.is_some();
        if bound || nodes.value.max == 1 {
            return Outcome::Pass;
        }
        let most = nodes.value.max;
        let message = match gpus.value.count.is_multiple_of(most) {
            true => format!(
                "{} over {most} nodes need not be {} on each",
                plural(gpus.value.count, "GPU"),
                gpus.value.count / most
            ),
            false => format!("{} cannot be spread evenly over {most} nodes", plural(gpus.value.count, "GPU")),
        };
        let severe = nodes.value.is_exact() && (subject.training.batch.is_some() || is_training(subject));
        let finding = if severe { Finding::error(message) } else { Finding::warning(message) };
        let each = gpus.value.count.div_ceil(most);
        Outcome::of([finding
            .at(gpus.span(), "over the whole job, packed")
            .at(nodes.span(), "")
            .help(format!("ask with --gpus-per-node={each}"))])
    },
};

pub(crate) const L06: Check = Check {
    id: "L06",
    title: "GPUs per task without a number of tasks",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "--gpus-per-task needs a number of tasks: --ntasks, --ntasks-per-node, --gpus, from which the tasks follow, or \
                  a fixed --nodes, which means one task for each. Without, and with a range of nodes, Slurm refuses the job.",
    source: "sbatch(1), --gpus-per-task; tried out with Slurm 22.05 (scripts/slurm-agreement)",
    run: |subject| {
        need!(script(subject));
        Outcome::of(subject.jobs.iter().filter_map(|job| {
            let per_task = job.gpus_per_task.as_ref()?;
            let fixed_nodes = job.nodes.as_ref().is_some_and(|nodes| nodes.value.is_exact());
            let has_tasks = job.tasks.is_some() || job.tasks_per_node.is_some() || job.gpus.is_some() || fixed_nodes;
            (!has_tasks).then(|| {
                Finding::error("--gpus-per-task needs a number of tasks")
                    .at(per_task.span(), "for how many tasks?")
                    .help("add --ntasks-per-node or --ntasks; where it stands on the command line: check-devices SCRIPT -- --ntasks=N")
            })
        }))
    },
};

pub(crate) const L07: Check = Check {
    id: "L07",
    title: "GPUs per socket without sockets",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "--gpus-per-socket needs --sockets-per-node: without it Slurm refuses the job.",
    source: "sbatch(1), --gpus-per-socket",
    run: |subject| {
        need!(script(subject));
        Outcome::of(subject.jobs.iter().filter_map(|job| {
            let per_socket = job.gpus_per_socket.as_ref()?;
            let has_sockets = job.has("sockets-per-node") || job.has("extra-node-info");
            (!has_sockets).then(|| {
                Finding::error("--gpus-per-socket needs --sockets-per-node")
                    .at(per_socket.span(), "for how many sockets?")
                    .help("add --sockets-per-node, or ask with --gpus-per-node")
            })
        }))
    },
};

pub(crate) const L08: Check = Check {
    id: "L08",
    title: "tasks want more GPUs than their node has",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Tasks per node × GPUs per task must not exceed the GPUs of a node, as asked for with --gpus-per-node or \
                  --gres, or as the partition has them.",
    source: "sbatch(1), --gpus-per-task",
    run: |subject| {
        need!(script(subject));
        let asked = subject.jobs.iter().any(|job| job.gpus_per_task.is_some());
        if !asked {
            return Outcome::skip("--gpus-per-task is not given");
        }
        Outcome::of(
            subject
                .layouts
                .iter()
                .filter_map(|layout| {
                    let job = &subject.jobs[layout.component];
                    let per_task = job.gpus_per_task.as_ref()?;
                    let wanted = per_task.value.count.saturating_mul(layout.placement.tasks_per_node);
                    let of_partition =
                        || subject.node_kinds(job)?.iter().filter_map(crate::facts::Partition::gpus).max();
                    let (has, whence) = match &job.gpus_per_node {
                        Some(gpus) => (gpus.value.count, "asked for here"),
                        None => (of_partition()?, "in the partition"),
                    };
                    (wanted > has).then(|| {
                        Finding::error(format!(
                            "{} on a node × {} per task are {wanted}, and a node has {has}",
                            plural(layout.placement.tasks_per_node, "task"),
                            plural(per_task.value.count, "GPU")
                        ))
                        .at(per_task.span(), "for each task")
                        .at(job.gpus_per_node.as_ref().and_then(crate::origin::Sourced::span), whence)
                        .help(format!("start at most {} on a node", plural(has / per_task.value.count.max(1), "task")))
                    })
                })
                .take(1),
        )
    },
};
