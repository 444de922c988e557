//! L03, L09, L11: launchers inside the job.

use sbatch::Version;

use super::super::need::{need, script};
use crate::check::{Check, Outcome, Tier};
use crate::commands::Launcher;
use crate::finding::{Finding, Severity};
use crate::subject::Subject;

pub(crate) const L03: Check = Check {
    id: "L03",
    title: "torchrun under more than one task on a node",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "torchrun and accelerate start the ranks of a node themselves. Under srun they want one task a node; with N \
                  tasks there are N agents on a node, each of which starts all ranks, and the rendezvous hangs or several \
                  ranks take the same GPU.",
    source: "PyTorch, torchrun; huggingface/accelerate",
    run: |subject| {
        need!(script(subject));
        if !subject.launches().iter().any(|launch| launch.steps.iter().any(|step| step.launcher.is_per_node())) {
            return Outcome::skip("neither torchrun nor accelerate is started");
        }
        let placement = &subject.first_layout().placement;
        Outcome::of(subject.launches().iter().filter_map(|launch| {
            let (srun, inner) =
                (launch.step(Launcher::Srun)?, launch.steps.iter().find(|step| step.launcher.is_per_node())?);
            let processes = inner.option(&["nproc-per-node", "num-processes"]);
            if processes.is_some_and(|processes| processes.known() == Some("1")) {
                return None; // one rank for each agent is how some start one rank for each task
            }
            let nodes = srun.number(&["nodes", "N"]).map_or(placement.nodes, |(nodes, _)| nodes);
            let (per_node, at) = match (srun.number(&["ntasks-per-node"]), srun.number(&["ntasks", "n"])) {
                (Some((per_node, span)), _) => (per_node, Some(span)),
                (None, Some((tasks, span))) => (tasks.div_ceil(nodes.max(1)), Some(span)),
                (None, None) if srun.option(&["ntasks", "n", "ntasks-per-node"]).is_some() => return None,
                (None, None) => {
                    let job = subject.job();
                    let at = job.tasks_per_node.as_ref().or(job.tasks.as_ref()).and_then(crate::origin::Sourced::span);
                    (placement.tasks_per_node, at)
                }
            };
            (per_node > 1).then(|| {
                let name = inner.launcher.name();
                Finding::error(format!(
                    "srun starts {name} {per_node} times on each node, and each starts all the node's ranks"
                ))
                .at(inner.span, "wants to be started once on each node")
                .at(at, format!("{per_node} tasks on each node"))
                .help(format!("srun --ntasks-per-node=1 {name} …"))
            })
        }))
    },
};

pub(crate) const L09: Check = Check {
    id: "L09",
    title: "srun -c without a number of tasks",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "Where neither the job nor srun says how many tasks there are, srun -c N starts as many as fit: the node's \
                  CPUs divided by N.",
    source: "srun(1), --cpus-per-task",
    run: |subject| {
        need!(script(subject));
        let job = subject.job();
        if job.tasks.is_some() || job.tasks_per_node.is_some() || job.tasks_per_gpu.is_some() {
            return Outcome::skip("the job says how many tasks there are");
        }
        Outcome::of(subject.launches().iter().filter_map(|launch| {
            let srun = launch.step(Launcher::Srun)?;
            let cpus = srun.option(&["cpus-per-task", "c"])?;
            let has_tasks = srun.option(&["ntasks", "n", "ntasks-per-node"]).is_some();
            (!has_tasks).then(|| {
                Finding::warning("srun starts as many tasks as fit, because nothing says how many")
                    .at(cpus.span, "CPUs for each of an unknown number of tasks")
                    .help("add --ntasks or --ntasks-per-node to srun or to the job")
            })
        }))
    },
};

pub(crate) const L11: Check = Check {
    id: "L11",
    title: "srun does not inherit --cpus-per-task",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "In Slurm from 22.05 up to, but not including, 23.11 srun does not take --cpus-per-task over from the job: \
                  each task gets one CPU, and its threads share it.",
    source: "Slurm 22.05 release notes; undone in 23.11",
    run: inherits,
};

fn inherits(subject: &Subject<'_>) -> Outcome {
    need!(script(subject));
    let cpus =
        need!(subject.job().cpus_per_task.as_ref().filter(|cpus| cpus.value > 1), "--cpus-per-task is not given");
    let exported = subject.exports("SRUN_CPUS_PER_TASK").is_some();
    let bare = subject.launches().iter().filter_map(|launch| launch.step(Launcher::Srun));
    let bare: Vec<_> = bare.filter(|srun| srun.option(&["cpus-per-task", "c"]).is_none()).collect();
    if bare.is_empty() || exported {
        return Outcome::Pass;
    }
    let Some(version) = subject.slurm else {
        return Outcome::unknown("Slurm's release is not known: --slurm, or slurm_version in the site file");
    };
    if !(Version::new(22, 5)..Version::new(23, 11)).contains(&version) {
        return Outcome::Pass;
    }
    Outcome::of(bare.into_iter().map(|srun| {
        Finding::warning(format!("under Slurm {version} srun gives each task 1 CPU, not {}", cpus.value))
            .at(srun.span, "does not inherit --cpus-per-task")
            .at(cpus.span(), "")
            .help("srun --cpus-per-task=$SLURM_CPUS_PER_TASK, or export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK")
    }))
}
