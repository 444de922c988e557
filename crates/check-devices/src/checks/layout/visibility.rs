//! L22–L24: which GPUs a rank sees.

use super::super::need::{exactly, need, script, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::subject::Subject;

/// The first srun of the script that has one of these options, or the job's own, and where it is.
fn option(subject: &Subject<'_>, name: &str) -> Option<(String, Option<source_text::Span>)> {
    let of_job = subject.job().text(name).map(|text| (text.value.clone(), text.span()));
    let steps = subject.launches().iter().filter_map(|launch| launch.srun());
    let of_srun = || {
        steps
            .into_iter()
            .find_map(|step| step.option(&[name]))
            .map(|value| (value.text.clone().unwrap_or_default(), Some(value.span)))
    };
    of_job.or_else(of_srun)
}

/// Whether several tasks come on a node: torchrun's ranks share what their one task sees.
fn several_tasks_a_node(subject: &Subject<'_>) -> Result<bool, Outcome> {
    let is_agent = subject.main_launch().is_some_and(|launch| launch.agent().is_some());
    let layout = subject.first_layout();
    let tasks = if is_agent { &layout.placement.tasks_per_node } else { &layout.ranks_per_node.value };
    if tasks.least() > 1 {
        return Ok(true);
    }
    Ok(exactly(tasks)? > 1)
}

pub(crate) const L22: Check = Check {
    id: "L22",
    title: "every rank sees only its own GPU",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "With --gpus-per-task, or --gpu-bind=single, each task is shown one device, called 0. NCCL and CUDA-aware MPI \
                  need to see the neighbours' devices for direct transfers, and fall back to slower ones or fail.",
    source: "NVIDIA/nccl#1066, open-mpi/ompi#11949",
    run: |subject| {
        need!(slurm_script(subject));
        let unbound = option(subject, "gpu-bind").is_some_and(|(bind, _)| bind.starts_with("none"));
        let per_task = option(subject, "gpus-per-task").filter(|_| !unbound);
        let single =
            option(subject, "gpu-bind").filter(|(bind, _)| bind.trim_start_matches("verbose,").starts_with("single"));
        let per_gpu =
            subject.job().tasks_per_gpu.as_ref().map(|per_gpu| (String::new(), per_gpu.span())).filter(|_| !unbound);
        let Some((_, at)) = per_task.or(single).or(per_gpu) else { return Outcome::Pass };
        // Other programs may want it so: MPI libraries reach their neighbours' devices in other ways, too.
        if subject.main_launch().is_some_and(|launch| !launch.looks_like_training()) {
            return Outcome::unknown("whether the program's library needs to see the other ranks' GPUs is not known");
        }
        if !need!(several_tasks_a_node(subject)) {
            return Outcome::skip("there is one task on a node");
        }
        Outcome::of([Finding::warning("each rank sees only its own GPU: NCCL and CUDA-aware MPI cannot use direct transfers")
            .at(at, "binds each task to its GPU")
            .help("ask with --gpus-per-node and --ntasks-per-node, or add --gpu-bind=none, and let each rank choose by its local rank")])
    },
};

pub(crate) const L23: Check = Check {
    id: "L23",
    title: "--gpu-bind leaves several ranks with the same devices",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "--gpu-bind=closest shows a rank the GPUs of its own socket, numbered from 0: ranks of one socket see the same \
                  ones, and a rank that takes the device of its local rank finds none (invalid device ordinal).",
    source: "srun(1), --gpu-bind; Lightning-AI/pytorch-lightning#13605",
    run: |subject| {
        need!(slurm_script(subject));
        let (bind, at) = need!(option(subject, "gpu-bind"), "--gpu-bind is not given");
        let closest = bind.split(',').any(|word| word == "closest");
        if option(subject, "gpus-per-task").is_some() || subject.job().tasks_per_gpu.is_some() {
            return Outcome::skip("each task has GPUs of its own");
        }
        if closest && subject.main_launch().is_some_and(|launch| !launch.is_python && !launch.looks_like_training()) {
            return Outcome::unknown("which device the program's ranks take is not known");
        }
        if !closest || !need!(several_tasks_a_node(subject)) {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning("ranks of one socket see the same GPUs, numbered from 0")
            .at(at, "by socket, not by rank")
            .help("use --gpu-bind=none, and let each rank choose by its local rank")])
    },
};

pub(crate) const L24: Check = Check {
    id: "L24",
    title: "the script says which GPUs are visible",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "Slurm sets CUDA_VISIBLE_DEVICES, and for AMD's GPUs ROCR_VISIBLE_DEVICES, to the devices of the job. A script \
                  that sets one of them, or HIP_VISIBLE_DEVICES, takes others, which belong to somebody else or, where devices \
                  are confined, do not exist.",
    source: "gres.conf(5), ConstrainDevices in cgroup.conf(5)",
    run: |subject| {
        need!(script(subject));
        if !subject.jobs.iter().any(crate::job::Job::asks_for_gpus) {
            return Outcome::skip("no GPUs are asked for");
        }
        const NAMES: [&str; 3] = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"];
        let Some(assignment) = NAMES.iter().find_map(|name| subject.exports(name)) else { return Outcome::Pass };
        // Derived from Slurm's own variables it is someone's deliberate choice; empty it hides all on purpose.
        let deliberate = !assignment.value.variables.is_empty() || assignment.value.known() == Some("");
        // As many as the job has on a node, counted from 0: what they are called where devices are confined.
        let devices = subject.first_layout().known_devices();
        let is_all = assignment.value.known().is_some_and(|text| {
            let names: Vec<_> = text.split(',').map(str::trim).collect();
            let in_order = names.iter().enumerate().all(|(device, name)| *name == device.to_string());
            in_order && devices == Some(names.len())
        });
        if deliberate || is_all {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning("the script overrides the devices that Slurm gives to the job")
            .at(assignment.value.span, "these may be another job's")
            .help("leave the variable to Slurm; choose among its devices with --device 0,1")])
    },
};
