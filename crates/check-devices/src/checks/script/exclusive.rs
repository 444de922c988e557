//! P17, P18: options that exclude each other.

use sbatch::{Conflict, Origin, Setting, Span, Version};

use super::super::need::{need, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};

pub(crate) const P17: Check = Check {
    id: "P17",
    title: "options that exclude each other",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "sbatch ends on --mem with --mem-per-cpu or --mem-per-gpu, --cpus-per-task with --cpus-per-gpu, \
                  --ntasks-per-gpu with --gpus-per-task, --gpus-per-socket or --ntasks-per-node, and --exclusive with \
                  --oversubscribe. Older releases take some of these pairs: --slurm says which release it is. A variable of the environment yields, except beside --ntasks-per-gpu.",
    source: "Slurm, src/common/slurm_opt.c",
    run: |subject| {
        need!(slurm_script(subject));
        let conflicts = subject.jobs.iter().flat_map(|job| job.request.conflicts());
        Outcome::of(conflicts.map(|conflict| {
            let (first, second) = (conflict.first.option.name, conflict.second.option.name);
            let message = format!("--{first} and --{second} exclude each other");
            let help = format!("keep one of --{first} and --{second}");
            finding(conflict, with_severity(subject.slurm, conflict.since, message)).help(help)
        }))
    },
};

/// An error, unless this release of Slurm is known to be older than `since`.
fn with_severity(slurm: Option<Version>, since: Option<Version>, message: String) -> Finding {
    match (slurm, since) {
        (Some(slurm), Some(since)) if slurm < since => {
            Finding::warning(format!("{message}: Slurm {since} and later refuse it"))
        }
        _ => Finding::error(format!("{message}, and sbatch will end")),
    }
}

pub(crate) const P18: Check = Check {
    id: "P18",
    title: "--gres=gpu beside --gpus-per-node",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "From Slurm 26.05 on sbatch ends where both are given. Before, the controller merges them, and what counts \
                  is hard to see.",
    source: "Slurm, src/common/slurm_opt.c",
    run: |subject| {
        need!(slurm_script(subject));
        let both = subject.jobs.iter().filter_map(|job| job.request.gres_beside_gpus_per_node());
        Outcome::of(both.map(|conflict| {
            let refused = subject.slurm.is_some_and(|version| conflict.since.is_some_and(|since| version >= since));
            let message = "--gpus-per-node and --gres=gpu ask for the same GPUs twice";
            let finding = finding(conflict, if refused { Finding::error(message) } else { Finding::warning(message) });
            let finding = finding.help("keep --gpus-per-node");
            if refused { finding } else { finding.note("Slurm 26.05 and later refuse the job") }
        }))
    },
};

fn finding(conflict: Conflict<'_>, finding: Finding) -> Finding {
    let place = |setting: &Setting| -> Option<Span> {
        match setting.origin {
            Origin::Script(span) => Some(span),
            Origin::Environment(_) | Origin::CommandLine => None,
        }
    };
    // The later one is where the eye should go.
    let (mut one, mut other) = (place(conflict.second), place(conflict.first));
    if other > one {
        std::mem::swap(&mut one, &mut other);
    }
    finding.at(one, "this …").at(other, "… or this")
}
