//! L25–L27: the script's commands against its own directives.

use sbatch::Version;
use shell::Argument;

use super::super::need::{exactly, need, script};
use crate::check::{Check, Outcome, Tier};
use crate::commands::{Launch, Processes, Step};
use crate::finding::{Finding, Severity};
use crate::number::Number;
use crate::origin::Sourced;
use crate::subject::{Layout, Subject};
use crate::words::plural;

pub(crate) const L25: Check = Check {
    id: "L25",
    title: "a command contradicts the directives",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Numbers in commands (srun -N, --gres, --mem, torchrun --nproc-per-node, --nnodes, mpirun -np) are typed apart from \
                  the directives and drift: more nodes, GPUs or memory than the job has cannot start, fewer leave some idle. Write \
                  $SLURM_NNODES and $SLURM_GPUS_ON_NODE instead. Where the job may have whole nodes and it is not known how many \
                  CPUs those have, more tasks than it asked for are no error.",
    source: "srun(1), mpirun(1), torchrun; Slurm, src/slurmctld/step_mgr.c (More processors requested than permitted)",
    run: contradicts,
};

fn contradicts(subject: &Subject<'_>) -> Outcome {
    need!(script(subject));
    if subject.jobs.len() > 1 {
        return Outcome::skip("a heterogeneous job: which component a command runs on is not followed");
    }
    if subject.layouts.len() > 1 {
        return Outcome::skip("the number of nodes is a range");
    }
    let mut unknown = None;
    let mut findings = Vec::new();
    for (launch, processes) in subject.started() {
        for step in &launch.steps {
            findings.extend(match step.launcher.name {
                "srun" => of_srun(subject, step, processes, &mut unknown),
                "mpirun" => of_mpirun(subject, launch, step),
                _ => of_others(subject, launch, step),
            });
        }
    }
    match (findings.is_empty(), unknown) {
        (true, Some(reason)) => Outcome::unknown(reason),
        _ => Outcome::of(findings),
    }
}

fn of_srun(
    subject: &Subject<'_>,
    step: &Step,
    processes: &Processes,
    unknown: &mut Option<&'static str>,
) -> Vec<Finding> {
    let tasks = processes.tasks_of_srun.as_ref().and_then(Number::exactly);
    let job = subject.job();
    let layout = subject.first_layout();
    let nodes_at = job.nodes.as_ref().and_then(Sourced::span);
    let mut findings = Vec::new();
    if let (Some((nodes, at)), Some(has), true) =
        (step.number(&["nodes", "N"]), layout.placement.nodes.exactly(), job.nodes.is_some())
        // Fewer tasks than nodes: srun takes as many nodes as there are tasks.
        && tasks.is_some_and(|tasks| nodes.min(tasks) > has)
    {
        let message = format!("srun asks for {nodes} nodes, and the job has {has}");
        findings.push(Finding::error(message).at(at, "more than the job has").at(nodes_at, ""));
    }
    findings.extend(more_gpus(subject, step, unknown));
    findings.extend(more_memory(subject, step));
    let overcommits = step.option(&["overcommit", "O", "oversubscribe", "s"]).is_some() || job.has("overcommit");
    if let (Some(tasks), false) = (tasks, overcommits || job.has("cpus-per-gpu")) {
        findings.extend(more_cpus(subject, step, tasks, unknown));
    }
    findings
}

/// CPUs that a step asks for, against those that the job asks for.
fn more_cpus(subject: &Subject<'_>, step: &Step, tasks: usize, unknown: &mut Option<&'static str>) -> Option<Finding> {
    let job = subject.job();
    let layout = subject.first_layout();
    let has_tasks = layout.placement.tasks.value.exactly()?;
    let each = job.cpus_per_task.as_ref().map_or(1, |cpus| cpus.value);
    let own = step.number(&["cpus-per-task", "c"]);
    let counts = step.option(&["ntasks", "n", "nodes", "N", "ntasks-per-node", "tasks-per-node"]);
    let at = own.map(|(_, span)| span).or(counts.map(|word| word.span))?;
    // From Slurm 23.11 on, and before 22.05, srun takes the job's CPUs for each task over.
    let inherits = subject.slurm.map(|slurm| slurm >= INHERITS_CPUS);
    let of_task = match (own, inherits) {
        (Some((cpus, _)), _) => cpus,
        (None, Some(true)) => each,
        (None, _) => 1,
    };
    // On fewer nodes than the job has, their CPUs alone are there: on as many as are asked for, and no more than tasks.
    let on_nodes = step.number(&["nodes", "N"]).map(|(nodes, _)| nodes.min(tasks));
    let on_nodes = on_nodes.or_else(|| layout.placement.nodes.exactly().filter(|nodes| tasks < *nodes).map(|_| tasks));
    let on_a_node = layout.placement.tasks_per_node.exactly();
    let all = has_tasks.saturating_mul(each);
    let room = match (on_nodes, on_a_node) {
        (Some(nodes), Some(on_a_node)) => all.min(nodes.saturating_mul(on_a_node).saturating_mul(each)),
        _ => all,
    };
    let wanted = tasks.saturating_mul(of_task);
    // A task has its CPUs on one node.
    let fitting = layout.placement.nodes.exactly().zip(on_a_node).map(|(nodes, on_a_node)| {
        let on_each = on_a_node.saturating_mul(each) / of_task.max(1);
        on_nodes.unwrap_or(nodes).saturating_mul(on_each)
    });
    if wanted <= room && fitting.is_none_or(|fitting| tasks <= fitting) {
        if own.is_none() && inherits.is_none() && tasks.saturating_mul(each) > room {
            *unknown = Some("whether srun takes --cpus-per-task over depends on Slurm's release (--slurm)");
        }
        return None;
    }
    let has = format!("{} × {}", plural(has_tasks, "task"), plural(each, "CPU"));
    let message = match (tasks > has_tasks, on_nodes.or_else(|| layout.placement.nodes.exactly())) {
        (false, Some(nodes)) if wanted <= all => {
            let on_a_node = on_a_node.unwrap_or(has_tasks);
            let of_cpus = if of_task > 1 { format!(" of {of_task} CPUs") } else { String::new() };
            format!(
                "srun starts {}{of_cpus} on {}, where the job has {on_a_node} × {} on each",
                plural(tasks, "task"),
                plural(nodes, "node"),
                plural(each, "CPU")
            )
        }
        (true, _) => format!("srun starts {tasks} tasks, and the job has {has}"),
        (false, _) => {
            format!("srun asks for {} × {}, and the job has {has}", plural(tasks, "task"), plural(of_task, "CPU"))
        }
    };
    let help = "ask for them in the directives: --ntasks, --ntasks-per-node, --cpus-per-task";
    let is_said = job.tasks.is_some() || job.tasks_per_node.is_some() || job.cpus_per_task.is_some();
    match subject.has_whole_nodes(job) {
        Some(false) => Some(Finding::error(message).at(at, "more processors than the job has").help(help)),
        Some(true) => {
            let kinds = subject.node_kinds(job).unwrap_or_default();
            let most = kinds.iter().filter_map(|kind| kind.cpus).max()?;
            let nodes = layout.placement.nodes.exactly()?;
            let room = most.saturating_mul(on_nodes.unwrap_or(nodes).min(nodes));
            (wanted > room).then(|| {
                let message = format!("srun asks for {}, and the job's nodes have {room}", plural(wanted, "CPU"));
                Finding::error(message).at(at, "more processors than whole nodes have")
            })
        }
        // Typed in both places they contradict each other, whatever the partition gives.
        None if is_said => {
            let said = job.tasks.as_ref().or(job.tasks_per_node.as_ref()).or(job.cpus_per_task.as_ref());
            Some(
                Finding::warning(format!("{message}: it cannot start, unless the partition gives whole nodes"))
                    .at(at, "more processors than the job asks for")
                    .at(said.and_then(Sourced::span), "")
                    .help(help),
            )
        }
        None => {
            *unknown = Some(
                "srun asks for more CPUs than the job, which works where the partition gives whole nodes \
                 (whole_nodes in the site file)",
            );
            None
        }
    }
}

/// The release from which srun takes the job's `--cpus-per-task` over again.
const INHERITS_CPUS: Version = Version::new(23, 11);

/// GPUs on a node that a step asks for, against those that the job asks for.
fn more_gpus(subject: &Subject<'_>, step: &Step, unknown: &mut Option<&'static str>) -> Option<Finding> {
    let job = subject.job();
    let value = step.option(&["gpus-per-node"]).or_else(|| {
        let gres = step.option(&["gres"])?;
        gres.known().is_some_and(|text| text.contains("gpu")).then_some(gres)
    })?;
    let text = value.known()?;
    let wanted = match text.parse::<sbatch::value::Gres>() {
        Ok(gres) if text.contains("gpu") => usize::try_from(gres.gpus()?).ok()?,
        _ => text.rsplit(':').next()?.parse().ok()?,
    };
    if !job.asks_for_gpus() {
        return match subject.has_whole_nodes(job) {
            Some(true) => None,
            Some(false) => Some(
                Finding::error(format!("srun asks for {} on a node, and the job asks for none", plural(wanted, "GPU")))
                    .at(value.span, "Slurm: Invalid generic resource (gres) specification")
                    .help("ask for them in the directives, too: --gpus-per-node"),
            ),
            None => {
                *unknown = Some(
                    "srun asks for GPUs and the job for none, which works where the partition gives whole nodes \
                     (whole_nodes in the site file)",
                );
                None
            }
        };
    }
    let gpus = subject.first_layout().placement.gpus_per_node.as_ref()?;
    let has = gpus.value.exactly().filter(|has| wanted > *has && subject.has_whole_nodes(job) != Some(true))?;
    Some(
        Finding::error(format!("srun asks for {} on a node, and the job has {has}", plural(wanted, "GPU")))
            .at(value.span, "Slurm: Invalid generic resource (gres) specification")
            .at(gpus.span().or_else(|| job.gpu_request()?.span()), "")
            .help("ask for as many in the directives, or leave it to the step's default: all that the job has"),
    )
}

fn more_memory(subject: &Subject<'_>, step: &Step) -> Option<Finding> {
    let value = step.option(&["mem"])?;
    let wanted: sbatch::value::Memory = value.known()?.parse().ok()?;
    let has = subject.job().memory_per_node.as_ref().filter(|has| has.value.mib > 0 && wanted.mib > has.value.mib)?;
    Some(
        Finding::error(format!("srun asks for {wanted} on a node, and the job has {}", has.value))
            .at(value.span, "more than the job has")
            .at(has.span(), ""),
    )
}

fn of_mpirun(subject: &Subject<'_>, launch: &Launch, step: &Step) -> Vec<Finding> {
    let job = subject.job();
    let tasks = &subject.first_layout().placement.tasks;
    let is_said = !job.tasks_are_default && (job.tasks.is_some() || job.tasks_per_node.is_some());
    let Some(has) = tasks.value.exactly().filter(|_| is_said) else {
        return Vec::new();
    };
    let Some((ranks, at)) = step.number(&["n", "np", "c"]) else { return Vec::new() };
    let alone = subject.launches().iter().filter(|other| !other.steps.is_empty()).count() == 1;
    if ranks == has || ranks < has && !alone || launch.steps.len() > 1 {
        return Vec::new();
    }
    let message = format!("mpirun starts {}, and the job has {}", plural(ranks, "rank"), plural(has, "task"));
    // Open MPI refuses more ranks than slots; Hydra, Intel's and PALS' launchers put several on a slot.
    let oversubscribes = [
        "oversubscribe",
        "map-by",
        "mapby",
        "host",
        "hostfile",
        "H",
        "ppn",
        "perhost",
        "npernode",
        "N",
        "machinefile",
        "f",
    ];
    let is_open_mpi = step.option(&["mca", "x", "bind-to", "bind-to-core", "report-bindings"]).is_some();
    let finding = match ranks > has && is_open_mpi && step.option(&oversubscribes).is_none() {
        true => Finding::error(message).help("leave -np out: mpirun takes the job's tasks"),
        false => Finding::warning(message),
    };
    vec![finding.at(at, "").at(tasks.span().or_else(|| job.tasks_per_node.as_ref()?.span()), "")]
}

/// Launchers of a node's ranks, which are told how many nodes there are, and how many ranks come on each.
fn of_others(subject: &Subject<'_>, launch: &Launch, step: &Step) -> Vec<Finding> {
    let job = subject.job();
    let layout = subject.first_layout();
    let nodes_at = job.nodes.as_ref().and_then(Sourced::span);
    let gpus_at = job.gpu_request().and_then(Sourced::span);
    let name = step.launcher.name;
    let mut findings = Vec::new();
    let names = ["nnodes", "num-machines", "num-nodes"];
    if let (Some((nodes, at)), Some(has), true) =
        (step.number(&names), layout.placement.nodes.exactly(), job.nodes.is_some())
        && nodes > has
        && job.array.is_none()
    {
        let message = format!("{name} waits for {nodes} nodes, and the job has {has}");
        // One that says which of the nodes it is may be one of several jobs.
        let one_of_several = step.option(&["node-rank", "machine-rank"]).is_some();
        let finding = if one_of_several { Finding::warning(message) } else { Finding::error(message) };
        findings.push(finding.at(at, "").at(nodes_at, "").help("write $SLURM_NNODES"));
    }
    if let (Some((processes, at)), Some(devices)) = (step.number(&["nproc-per-node"]), layout.known_devices())
        && (job.asks_for_gpus() || layout.devices.span().is_some())
        && processes > devices
        && !on_the_cpu(launch)
    {
        findings.push(
            Finding::error(format!("{name} starts {processes} processes on a node with {}", plural(devices, "GPU")))
                .at(at, "")
                .at(gpus_at.or_else(|| layout.devices.span()), "")
                .help("write --nproc-per-node=$SLURM_GPUS_ON_NODE"),
        );
    }
    findings
}

/// Whether the program is told to leave the GPUs alone.
fn on_the_cpu(launch: &Launch) -> bool {
    launch
        .arguments
        .iter()
        .filter_map(Argument::known)
        .any(|text| matches!(text, "cpu" | "gloo" | "--cpu" | "--device=cpu" | "--backend=gloo"))
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
        if subject.has_whole_nodes(subject.job()) == Some(true) {
            return Outcome::skip("the job has its nodes for itself");
        }
        // Few nodes have more.
        if subject.first_layout().known_devices().is_some_and(|devices| devices >= 8) {
            return Outcome::skip("the job takes eight GPUs of each node, likely all");
        }
        let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
        let literal = |value: &Argument| value.variables.is_empty() && value.known().is_some_and(is_port);
        // One that is not exported counts where a command names it.
        let is_used = |name: &str| {
            let words = subject.launches().iter().flat_map(|launch| launch.arguments.iter().chain(&launch.early));
            words.into_iter().any(|word| word.variables.iter().any(|used| used == name))
        };
        let assigned = subject
            .exports("MASTER_PORT")
            .filter(|assignment| literal(&assignment.value) && (assignment.exported || is_used("MASTER_PORT")));
        let assigned = assigned.map(|assignment| assignment.value.span);
        let flags = subject.launches().iter().flat_map(|launch| &launch.steps).filter_map(|step| {
            let port = step.option(&["master-port", "main-process-port", "main-port"]).filter(|port| literal(port));
            let endpoint = || step.option(&["rdzv-endpoint"]).filter(|endpoint| ends_with_port(endpoint));
            port.or_else(endpoint).map(|port| port.span)
        });
        Outcome::of(assigned.into_iter().chain(flags).take(1).map(|span| {
            Finding::warning("a fixed port is taken as soon as two jobs share a node")
                .at(span, "")
                .help("derive it from the job: MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))")
        }))
    },
};

/// `$HOST:29500`, `node1:29500`; on port 0 one is chosen.
fn ends_with_port(endpoint: &Argument) -> bool {
    let text = endpoint.known().unwrap_or(&endpoint.end);
    let from_variable = endpoint.variables.iter().any(|name| name.to_ascii_uppercase().contains("PORT"));
    !from_variable && text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
}

pub(crate) const L27: Check = Check {
    id: "L27",
    title: "$SLURM_PROCID is expanded too early",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "The batch shell expands $SLURM_PROCID before srun starts the tasks: all of them get its value, 0, also where it \
                  comes through another variable. The tasks' own shell must expand it: srun bash -c '… $SLURM_PROCID …' in \
                  single quotes.",
    source: "srun(1), OUTPUT ENVIRONMENT VARIABLES; bash(1), QUOTING",
    run: |subject| {
        need!(script(subject));
        const OF_A_TASK: &[&str] = &["SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"];
        let one_task = |layout: &Layout| layout.placement.tasks.value == Number::Exactly(1);
        let early =
            subject.launches().iter().filter(|launch| launch.agent().is_some() || !one_task(subject.first_layout()));
        let early = early.flat_map(|launch| &launch.early).filter_map(|word| {
            let variable = word.variables.iter().find(|name| OF_A_TASK.contains(&name.as_str()))?;
            Some(
                Finding::warning(format!("every task gets the batch shell's ${variable}, which is 0"))
                    .at(word.span, "expanded before srun starts the tasks")
                    .help(format!("let each task expand it: srun bash -c '… ${variable} …' in single quotes")),
            )
        });
        let early: Vec<_> = early.take(1).collect();
        if early.is_empty() && one_task(subject.first_layout()) {
            return Outcome::skip("there is one task");
        }
        Outcome::of(early)
    },
};

/// CPUs of each rank, as far as they are asked for: of srun's own, else of the job's; why they are not known otherwise.
pub(in crate::checks) fn cpus_of_a_rank(subject: &Subject<'_>) -> Result<(usize, Option<source_text::Span>), Outcome> {
    let job = subject.job();
    let layout = subject.first_layout();
    let main = subject.main_launch();
    let srun = main.and_then(Launch::srun);
    let own = srun.and_then(|srun| srun.option(&["cpus-per-task", "c"]));
    let unknown = |reason: &'static str| Err(Outcome::unknown(reason));
    let (of_task, at) = match (own, &job.cpus_per_task) {
        (Some(own), _) => match own.known().and_then(|text| text.parse().ok()) {
            Some(cpus) => (cpus, Some(own.span)),
            None => return Err(Outcome::Unknown(own.reason())),
        },
        (None, Some(cpus)) => (cpus.value, cpus.span()),
        (None, None) if job.has("cpus-per-gpu") => return unknown("CPUs are counted for each GPU"),
        (None, None) => match subject.has_whole_nodes(job) {
            Some(false) => (1, None),
            Some(true) => return unknown("the job has whole nodes, and their CPUs are not counted for each task"),
            None => return unknown("no CPUs are asked for, and what the partition gives is not known"),
        },
    };
    let ranks = exactly(&layout.ranks_per_node.value)?.max(1);
    let shares = match srun {
        // srun gives each of its tasks as many; torchrun's ranks share those of their task.
        Some(_) if main.is_some_and(|launch| launch.agent().is_some()) => of_task / ranks,
        Some(_) => of_task,
        // Without srun all of them have what the job has on a node.
        None => of_task.saturating_mul(exactly(&layout.placement.tasks_per_node)?) / ranks,
    };
    Ok((shares, at))
}
