//! L02, L05–L08, L33: GPUs for ranks.

use super::super::need::{exactly, need, script, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::commands::{Launch, Reach, trainer};
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
        let mut outcome = Outcome::skip("no GPUs are asked for");
        for layout in subject.layouts.iter().filter(|layout| !layout.on_cpu) {
            let Some(devices) = layout.known_devices() else { continue };
            match ranks_against_devices(subject, layout, devices) {
                // The other numbers of nodes of a range say the same.
                Outcome::Fail(findings) => return Outcome::Fail(findings),
                judged => outcome = judged,
            }
        }
        outcome
    },
};

fn ranks_against_devices(subject: &Subject<'_>, layout: &Layout, devices: usize) -> Outcome {
    let sharers = subject.training.sharers();
    let listed = match &subject.training.request {
        Some(::layout::DeviceRequest::CudaList(indices)) => indices.len(),
        _ => devices,
    };
    let room = listed.saturating_mul(sharers);
    let ranks = layout.ranks_per_node.value.least();
    let place = |finding: Finding| {
        let launch = subject.main_launch().map(|launch| launch.span);
        let ranks_at = layout.ranks.span().or(layout.ranks_per_node.span()).or(launch);
        let ranks_at = ranks_at.or_else(|| subject.jobs[layout.component].tasks_per_node.as_ref()?.span());
        let devices_at = layout.devices.span().or_else(|| subject.job().gpu_request()?.span());
        finding.at(ranks_at, format!("{} on a node", plural(ranks, "rank"))).at(devices_at, plural(devices, "GPU"))
    };
    // A program that is not known may share devices on purpose, or drive several of them; a training run does not.
    let trains = subject.script.is_none() || is_training(subject);
    if ranks > room {
        let message = format!("{} on a node and {} for them", plural(ranks, "rank"), plural(listed, "CUDA device"));
        let is_python = subject.main_launch().is_some_and(|launch| launch.is_python);
        let finding = match (trains, is_python) {
            (true, _) => Finding::error(message),
            (false, true) => Finding::warning(message),
            (false, false) => {
                return Outcome::unknown("whether the program's ranks share a GPU on purpose is not known");
            }
        };
        return Outcome::of([place(finding).help(match sharers {
            1 => format!("start {listed} on each node, one for each device, or use --device cpu"),
            _ => format!("start {room} on each node, {sharers} for each device, or use --device cpu"),
        })]);
    }
    let ranks = need!(exactly(&layout.ranks_per_node.value));
    // A list of devices leaves the others out on purpose.
    let all_meant = !matches!(subject.training.request, Some(::layout::DeviceRequest::CudaList(_)));
    let taken = ranks.div_ceil(sharers);
    if taken >= listed || !all_meant {
        return Outcome::Pass;
    }
    let side_by_side = subject.launches().iter().filter(|launch| launch.background && !launch.is_bystander()).count();
    if side_by_side > 1 {
        return Outcome::unknown("several commands run side by side, and share the GPUs");
    }
    if !trains {
        return Outcome::unknown("whether the program drives several GPUs from one rank is not known");
    }
    let idle = listed - taken;
    let message = format!("{} on a node and {listed} GPUs: {idle} of them may idle", plural(ranks, "rank"));
    Outcome::of([place(Finding::warning(message))
        .help(format!("start {room} ranks on each node, or ask for {}", plural(taken, "GPU")))])
}

/// Whether the command that trains is known to take one device for each rank.
fn is_training(subject: &Subject<'_>) -> bool {
    let starts_one_each = |launch: &Launch| {
        let inner = launch.steps.last().map(|step| (step.launcher.reach, step.launcher.name));
        matches!(inner, Some((Reach::Node, _) | (_, "deepspeed" | "horovodrun")))
    };
    subject.main_launch().is_some_and(|launch| trainer(launch).is_some() || starts_one_each(launch))
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
        need!(slurm_script(subject));
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
        need!(slurm_script(subject));
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
        need!(slurm_script(subject));
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
                    let tasks = layout.placement.tasks_per_node.exactly()?;
                    let wanted = per_task.value.count.saturating_mul(tasks);
                    let of_partition =
                        || subject.node_kinds(job)?.iter().filter_map(crate::facts::Partition::gpus).max();
                    let (has, whence) = match &job.gpus_per_node {
                        Some(gpus) => (gpus.value.count, "asked for here"),
                        None => (of_partition()?, "in the partition"),
                    };
                    (wanted > has).then(|| {
                        Finding::error(format!(
                            "{} on a node × {} per task are {wanted}, and a node has {has}",
                            plural(tasks, "task"),
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

pub(crate) const L33: Check = Check {
    id: "L33",
    title: "numbers of GPUs contradict each other",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "--gpus is the whole job's: it must be the GPUs of a node × nodes, where both are given, and the GPUs of a task × tasks. \
                  sbatch refuses the job otherwise (Invalid generic resource specification).",
    source: "Slurm, src/interfaces/gres.c (_test_gres_cnt), since 20.11",
    run: |subject| {
        need!(slurm_script(subject));
        Outcome::of(subject.jobs.iter().filter_map(|job| {
            let gpus = job.gpus.as_ref()?;
            let total = gpus.value.count;
            if let Some(per_node) = job.gpus_per_node.as_ref().filter(|per_node| per_node.value.count > 0) {
                let each = per_node.value.count;
                let nodes = job.nodes.as_ref();
                let fits = total % each == 0
                    && nodes.is_none_or(|nodes| (nodes.value.min..=nodes.value.max).contains(&(total / each)));
                if !fits {
                    let of_nodes =
                        nodes.map_or_else(String::new, |nodes| format!(" on {}", plural(nodes.value.min, "node")));
                    return Some(
                        Finding::error(format!("{total} GPUs are not {each} on each node{of_nodes}"))
                            .at(gpus.span(), "of the whole job")
                            .at(per_node.span(), "of each node")
                            .at(nodes.and_then(crate::origin::Sourced::span), "")
                            .help("leave --gpus out: GPUs on each node × nodes are all"),
                    );
                }
            }
            let (per_task, tasks) = (job.gpus_per_task.as_ref()?, job.tasks.as_ref()?);
            let product = per_task.value.count.saturating_mul(tasks.value);
            (product != total).then(|| {
                Finding::error(format!(
                    "{total} GPUs are not {} for each of {}",
                    per_task.value.count,
                    plural(tasks.value, "task")
                ))
                .at(gpus.span(), "of the whole job")
                .at(per_task.span(), "of each task")
                .at(tasks.span(), "")
                .help("leave --gpus out: GPUs of each task × tasks are all")
            })
        }))
    },
};
