//! L12, L13, L34: CPUs.

use super::super::need::{exactly, need, script};
use super::body::cpus_of_a_rank;
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::origin::Sourced;
use crate::words::plural;

pub(crate) const L12: Check = Check {
    id: "L12",
    title: "too few CPUs for the loader",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "A rank wants a core for itself and one for each thread that prepares batches; with fewer, the GPU waits \
                  for data.",
    source: "PyTorch, DataLoader's warning on workers",
    run: |subject| {
        let threads = need!(subject.training.loader_threads.as_ref(), "the number of loader threads is not given");
        need!(script(subject));
        let (has, at) = need!(cpus_of_a_rank(subject));
        let wanted = threads.value.saturating_add(1);
        if has >= wanted {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning(format!(
            "{} for each rank, and one with {} wants {wanted}",
            plural(has, "CPU"),
            plural(threads.value, "loader thread")
        ))
        .at(threads.span(), "loader threads")
        .at(at, "CPUs of each task")
        .help(format!("use --cpus-per-task={wanted}, or fewer threads"))])
    },
};

pub(crate) const L13: Check = Check {
    id: "L13",
    title: "more CPUs than a node has",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "Tasks per node × CPUs per task must not exceed the CPUs of a node of the partition; the job would be \
                  refused, or wait for ever.",
    source: "sinfo; Slurm, Requested node configuration is not available",
    run: |subject| {
        let findings = subject.layouts.iter().filter_map(|layout| {
            let job = &subject.jobs[layout.component];
            let most = subject.node_kinds(job)?.iter().filter_map(|kind| kind.cpus).max()?;
            let per_task = job.cpus_per_task.as_ref().map_or(1, |cpus| cpus.value);
            let tasks = layout.placement.tasks_per_node.exactly()?;
            let wanted = tasks.saturating_mul(per_task);
            let at = job.cpus_per_task.as_ref().or(job.tasks_per_node.as_ref()).or(job.tasks.as_ref());
            (wanted > most).then(|| {
                Finding::error(format!("{wanted} CPUs on a node, and the partition's nodes have {most}"))
                    .at(at.and_then(Sourced::span), "")
                    .help(format!("{} × {per_task} must be at most {most}", plural(tasks, "task")))
            })
        });
        let findings: Vec<_> = findings.take(1).collect();
        if findings.is_empty() {
            if subject.node_kinds(subject.job()).is_none() {
                return Outcome::unknown("the partition's nodes are not known");
            }
            need!(exactly(&subject.first_layout().placement.tasks_per_node));
        }
        Outcome::of(findings)
    },
};

pub(crate) const L34: Check = Check {
    id: "L34",
    title: "a rank with a GPU has one CPU",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "Slurm gives a task one CPU unless it is asked for more. A rank that drives a GPU, reads files and prepares batches \
                  on a single one keeps the GPU waiting. Good to know, and no warning, where the partition may give more by itself \
                  (DefCpuPerGPU, whole nodes).",
    source: "sbatch(1), --cpus-per-task: the default is one; slurm.conf(5), DefCpuPerGPU",
    run: |subject| {
        need!(script(subject));
        let job = subject.job();
        let layout = subject.first_layout();
        if layout.on_cpu || layout.known_devices().is_none() {
            return Outcome::skip("no GPUs are asked for");
        }
        let main = need!(subject.main_launch(), "nothing is started");
        if !main.looks_like_training() {
            return Outcome::skip("the program is not known to train");
        }
        let help = "ask for more: --cpus-per-task, with 4 to 16 for each GPU";
        match cpus_of_a_rank(subject) {
            Ok((cpus, at)) if cpus <= 1 => {
                let finding = Finding::warning("each rank with a GPU has one CPU, also for preparing its batches");
                Outcome::of([finding.at(at, "CPUs of each task").help(help)])
            }
            Ok(_) => Outcome::Pass,
            Err(outcome) if job.cpus_per_task.is_some() || job.has("cpus-per-gpu") => outcome,
            Err(_) if subject.has_whole_nodes(job) == Some(true) => Outcome::skip("the job has whole nodes"),
            Err(outcome) => match exactly(&layout.ranks_per_node.value) {
                Ok(_) => Outcome::of([Finding::info(
                    "no CPUs are asked for: each task has one, unless the partition gives more for each GPU",
                )
                .help(help)]),
                Err(_) => outcome,
            },
        }
    },
};
