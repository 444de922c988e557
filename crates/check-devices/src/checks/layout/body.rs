//! L25–L27: the script's commands against its own directives.

use super::super::need::{need, script};
use crate::check::{Check, Outcome, Tier};
use crate::commands::{Launch, Launcher};
use crate::finding::{Finding, Severity};
use crate::subject::Subject;
use crate::words::plural;

pub(crate) const L25: Check = Check {
    id: "L25",
    title: "a command contradicts the directives",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Numbers in commands (srun -N, torchrun --nproc-per-node, --nnodes, mpirun -np) are typed apart from the \
                  directives and drift: more nodes or GPUs than the job has cannot start, fewer leave some idle. Write \
                  $SLURM_NNODES and $SLURM_GPUS_ON_NODE instead.",
    source: "srun(1), mpirun(1), torchrun",
    run: |subject| {
        need!(script(subject));
        if subject.jobs.len() > 1 {
            return Outcome::skip("a heterogeneous job: which component a command runs on is not followed");
        }
        if subject.layouts.len() > 1 {
            return Outcome::skip("the number of nodes is a range");
        }
        Outcome::of(subject.launches().iter().flat_map(|launch| contradictions(subject, launch)))
    },
};

fn contradictions(subject: &Subject<'_>, launch: &Launch) -> Vec<Finding> {
    let job = subject.job();
    let layout = subject.first_layout();
    let placement = &layout.placement;
    let nodes_at = job.nodes.as_ref().and_then(crate::origin::Sourced::span);
    let gpus_at = job.gpu_request().and_then(crate::origin::Sourced::span);
    let nodes_known = job.nodes.is_some();
    let mut findings = Vec::new();
    for step in &launch.steps {
        match step.launcher {
            Launcher::Srun => {
                if let Some((nodes, at)) = step.number(&["nodes", "N"])
                    && nodes_known
                    && nodes > placement.nodes
                {
                    findings.push(
                        Finding::error(format!("srun asks for {nodes} nodes, and the job has {}", placement.nodes))
                            .at(at, "more than the job has")
                            .at(nodes_at, ""),
                    );
                }
                let cpus =
                    job.cpus_per_task.as_ref().map_or(1, |cpus| cpus.value).saturating_mul(placement.tasks.value);
                let each = step.number(&["cpus-per-task", "c"]).map_or(1, |(cpus, _)| cpus);
                let roomy =
                    job.has("exclusive") || job.has("overcommit") || job.asks_for_gpus() && !job.has("cpus-per-task");
                let overcommits = step.option(&["overcommit", "O", "oversubscribe", "s"]).is_some();
                if let Some((tasks, at)) = step.number(&["ntasks", "n"])
                    && tasks.saturating_mul(each) > cpus
                    && tasks > placement.tasks.value
                    && !roomy
                    && !overcommits
                {
                    let has = format!(
                        "{} × {}",
                        plural(placement.tasks.value, "task"),
                        plural(cpus / placement.tasks.value.max(1), "CPU")
                    );
                    findings.push(
                        Finding::error(format!("srun starts {tasks} tasks, and the job has {has}"))
                            .at(at, "more processors than the job has")
                            .help("ask for them in the directives: --ntasks or --ntasks-per-node"),
                    );
                }
            }
            Launcher::Torchrun | Launcher::Accelerate => {
                if let Some((nodes, at)) = step.number(&["nnodes", "num-machines"])
                    && nodes_known
                    && nodes != placement.nodes
                {
                    let name = step.launcher.name();
                    findings.push(
                        Finding::error(format!("{name} waits for {nodes} nodes, and the job has {}", placement.nodes))
                            .at(at, "")
                            .at(nodes_at, "")
                            .help("write $SLURM_NNODES"),
                    );
                }
                if let Some((processes, at)) = step.number(&["nproc-per-node"])
                    && job.asks_for_gpus()
                    && processes > layout.devices.value
                {
                    findings.push(
                        Finding::error(format!(
                            "torchrun starts {processes} processes on a node with {}",
                            plural(layout.devices.value, "GPU")
                        ))
                        .at(at, "")
                        .at(gpus_at, "")
                        .help("write --nproc-per-node=$SLURM_GPUS_ON_NODE"),
                    );
                }
            }
            Launcher::Mpirun => {
                let tasks_given = job.tasks.is_some() || job.tasks_per_node.is_some();
                if let Some((ranks, at)) = step.number(&["n", "np"])
                    && tasks_given
                    && ranks != placement.tasks.value
                {
                    let message = format!(
                        "mpirun starts {}, and the job has {}",
                        plural(ranks, "rank"),
                        plural(placement.tasks.value, "task")
                    );
                    let oversubscribes = step.option(&["oversubscribe", "map-by", "host", "hostfile"]).is_some();
                    let finding = match ranks > placement.tasks.value && !oversubscribes {
                        true => Finding::error(message).help("leave -np out: mpirun takes the job's tasks"),
                        false => Finding::warning(message),
                    };
                    findings.push(finding.at(at, "").at(placement.tasks.span(), ""));
                }
            }
            Launcher::Deepspeed => {}
        }
    }
    findings
}

pub(crate) const L26: Check = Check {
    id: "L26",
    title: "a fixed port",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "A port that is written down (MASTER_PORT=29500) is taken when two jobs share a node, or when the last one \
                  has not quite ended: \"Address already in use\". Derive it from the job's id, or let rank 0 choose: \
                  programs under MPI need none.",
    source: "PyTorch, init_process_group (EADDRINUSE)",
    run: |subject| {
        need!(script(subject));
        if subject.job().has("exclusive") {
            return Outcome::skip("the job has its nodes for itself");
        }
        let assigned = subject.exports("MASTER_PORT").filter(|assignment| {
            assignment.value.variables.is_empty()
                && assignment.value.known().is_some_and(|text| text.parse::<u16>().is_ok_and(|port| port > 0))
        });
        let assigned = assigned.map(|assignment| assignment.value.span);
        let flags = subject.launches().iter().flat_map(|launch| &launch.steps).filter_map(|step| {
            let port = step.option(&["master-port", "main-process-port"])?;
            let literal = port.variables.is_empty()
                && port.known().is_some_and(|text| text.parse::<u16>().is_ok_and(|port| port > 0));
            literal.then_some(port.span)
        });
        Outcome::of(assigned.into_iter().chain(flags).take(1).map(|span| {
            Finding::warning("a fixed port is taken as soon as two jobs share a node")
                .at(span, "")
                .help("derive it from the job: MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))")
        }))
    },
};

pub(crate) const L27: Check = Check {
    id: "L27",
    title: "$SLURM_PROCID is expanded too early",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "The batch shell expands $SLURM_PROCID before srun starts the tasks: all of them get its value, 0. The tasks' \
                  own shell must expand it: srun bash -c '… $SLURM_PROCID …' in single quotes.",
    source: "srun(1), OUTPUT ENVIRONMENT VARIABLES; bash(1), QUOTING",
    run: |subject| {
        need!(script(subject));
        const OF_A_TASK: &[&str] = &["SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"];
        let placement = &subject.first_layout().placement;
        if placement.tasks.value == 1 && subject.launches().iter().all(|launch| launch.steps.len() < 2) {
            return Outcome::skip("there is one task");
        }
        let early = subject.launches().iter().flat_map(|launch| {
            let outer = launch.steps.iter().any(|step| matches!(step.launcher, Launcher::Srun | Launcher::Mpirun));
            let words = launch.program.iter().chain(&launch.arguments);
            let words = words.filter(move |_| outer);
            let inner = launch.steps.iter().skip(1).filter_map(|step| step.option(&["node-rank", "machine-rank"]));
            words.chain(inner)
        });
        Outcome::of(early.filter_map(|word| {
            let variable = word.variables.iter().find(|name| OF_A_TASK.contains(&name.as_str()))?;
            Some(
                Finding::warning(format!("every task gets the batch shell's ${variable}, which is 0"))
                    .at(word.span, "expanded before srun starts the tasks")
                    .help(format!("let each task expand it: srun bash -c '… ${variable} …' in single quotes")),
            )
        }))
    },
};
