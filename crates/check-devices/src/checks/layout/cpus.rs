//! L12, L13: CPUs.

use super::super::need::need;
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
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
        let cpus = subject.job().cpus_per_task.as_ref();
        if subject.script.is_none() {
            return Outcome::skip(Tier::Script.how());
        }
        let has = cpus.map_or(1, |cpus| cpus.value);
        let wanted = threads.value.saturating_add(1);
        if has >= wanted {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning(format!(
            "{} for each task, and a rank with {} wants {wanted}",
            plural(has, "CPU"),
            plural(threads.value, "loader thread")
        ))
        .at(threads.span(), "loader threads")
        .at(cpus.and_then(crate::origin::Sourced::span), "CPUs of each task")
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
            let wanted = layout.placement.tasks_per_node.saturating_mul(per_task);
            let at = job.cpus_per_task.as_ref().or(job.tasks_per_node.as_ref()).or(job.tasks.as_ref());
            // Tasks without a number of nodes spread over as many as they need.
            let pinned = job.nodes.is_some() || job.tasks_per_node.is_some() || job.tasks.is_none();
            (wanted > most && pinned).then(|| {
                Finding::error(format!("{wanted} CPUs on a node, and the partition's nodes have {most}"))
                    .at(at.and_then(crate::origin::Sourced::span), "")
                    .help(format!(
                        "{} × {per_task} must be at most {most}",
                        plural(layout.placement.tasks_per_node, "task")
                    ))
            })
        });
        let findings: Vec<_> = findings.take(1).collect();
        if findings.is_empty() && subject.node_kinds(subject.job()).is_none() {
            return Outcome::unknown("the partition's nodes are not known");
        }
        Outcome::of(findings)
    },
};
