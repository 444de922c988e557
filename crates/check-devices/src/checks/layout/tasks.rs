//! L01, L04, L10: nodes and tasks.

use super::super::need::{need, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::subject::Subject;
use crate::words::plural;

pub(crate) const L01: Check = Check {
    id: "L01",
    title: "fewer tasks than nodes",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "With --ntasks below --nodes sbatch prints a warning that scrolls by and shrinks the job: --nodes=8 \
                  --ntasks=4 gets 4 nodes and 4 ranks.",
    source: "Slurm, src/sbatch/opt.c (can't run %d processes on %d nodes)",
    run: |subject| {
        need!(slurm_script(subject));
        let shrunk = subject.jobs.iter().filter_map(|job| {
            let (nodes, tasks) = (job.nodes.as_ref()?, job.tasks.as_ref()?);
            if tasks.value >= nodes.value.min {
                return None;
            }
            let (wanted, got) = (nodes.value.min, tasks.value);
            let world = world_note(subject);
            let finding = Finding::error(format!(
                "{} cannot cover {wanted} nodes; Slurm will shrink the job to {}",
                plural(got, "task"),
                plural(got, "node")
            ))
            .at(tasks.span(), format!("only {}", plural(got, "task")))
            .at(nodes.span(), format!("{wanted} nodes requested here"))
            .help(format!("use --ntasks-per-node=N ({wanted}×N ranks), --ntasks={wanted} or more, or --nodes={got}"));
            Some(if let Some(world) = world { finding.note(world) } else { finding })
        });
        Outcome::of(shrunk)
    },
};

/// What the layout comes to: `effective: world 4, batch 64 -> 16 per rank`.
fn world_note(subject: &Subject<'_>) -> Option<String> {
    let layout = subject.first_layout();
    let batch = layout.shares()?;
    Some(format!("effective: world {}, batch {} -> {} per rank", layout.ranks.value, batch.global(), batch.per_rank()))
}

pub(crate) const L04: Check = Check {
    id: "L04",
    title: "tasks are not nodes × tasks per node",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "With --ntasks given, --ntasks-per-node is only an upper limit: some nodes get fewer tasks, and with them \
                  fewer ranks than GPUs.",
    source: "sbatch(1), --ntasks-per-node",
    run: |subject| {
        need!(slurm_script(subject));
        Outcome::of(subject.jobs.iter().filter_map(|job| {
            let (nodes, tasks, per_node) = (job.nodes.as_ref()?, job.tasks.as_ref()?, job.tasks_per_node.as_ref()?);
            let product = nodes.value.min.checked_mul(per_node.value)?;
            if !nodes.value.is_exact() || product == tasks.value {
                return None;
            }
            Some(
                Finding::warning(format!(
                    "{} nodes × {} per node are {product} tasks, and --ntasks says {}",
                    nodes.value.min, per_node.value, tasks.value
                ))
                .at(tasks.span(), "counts")
                .at(per_node.span(), "only an upper limit beside --ntasks")
                .help(format!("leave --ntasks out, or write --ntasks={product}")),
            )
        }))
    },
};

pub(crate) const L10: Check = Check {
    id: "L10",
    title: "some numbers of nodes in the range do not work",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "With --nodes=MIN-MAX the job may get any number in between, so each of them must work. An error where none \
                  of them can share the batch evenly, a warning where some cannot.",
    source: "sbatch(1), --nodes",
    run: range,
};

fn range(subject: &Subject<'_>) -> Outcome {
    need!(slurm_script(subject));
    let nodes =
        need!(subject.job().nodes.as_ref().filter(|nodes| !nodes.value.is_exact()), "the number of nodes is fixed");
    let judged: Vec<_> =
        subject.layouts.iter().filter(|layout| layout.component == 0 && layout.batch.is_some()).collect();
    if judged.is_empty() {
        return Outcome::skip("no batch is given");
    }
    if let Some(reason) = judged.iter().find_map(|layout| layout.batch.as_ref()?.as_ref().err()) {
        return Outcome::Unknown(reason.clone());
    }
    let (working, failing): (Vec<_>, Vec<_>) = judged.iter().partition(|layout| layout.shares().is_some());
    if failing.is_empty() {
        return Outcome::Pass;
    }
    let list = |layouts: &[&&crate::subject::Layout]| {
        let shown: Vec<_> = layouts.iter().take(8).map(|layout| layout.placement.nodes.to_string()).collect();
        let dots = if layouts.len() > 8 { ", …" } else { "" };
        format!("{}{dots}", shown.join(", "))
    };
    let finding = if working.is_empty() {
        Finding::error("no number of nodes in the range can share the batch evenly")
    } else {
        Finding::warning(format!("the batch cannot be shared evenly on {} nodes", list(&failing)))
            .help(format!("on {} nodes it can", list(&working)))
    };
    Outcome::of([finding.at(nodes.span(), "the job may get any of these").at(subject.batch_span(), "this batch")])
}
