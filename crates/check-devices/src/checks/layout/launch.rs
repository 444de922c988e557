//! L03, L09, L11, L30–L32: launchers inside the job.

use std::collections::BTreeMap;

use sbatch::Version;
use shell::Argument;

use super::super::need::{exactly, need, script, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::commands::{Launch, Processes, Step, TrainerKind, trainer};
use crate::finding::{Finding, Severity};
use crate::number::Number;
use crate::origin::Sourced;
use crate::subject::Subject;
use crate::words::plural;

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
        let agents: Vec<_> = agents(subject).collect();
        if agents.is_empty() {
            return Outcome::skip("neither torchrun nor accelerate is started");
        }
        let mut unknown = None;
        let findings: Vec<_> = agents
            .into_iter()
            .filter_map(|(launch, processes)| {
                let agent = launch.agent()?;
                let agents = processes.agents.as_ref()?;
                if starts_one(agent) {
                    return None; // one rank for each agent is how some start one rank for each task
                }
                let per_node = match exactly(&agents.per_node) {
                    Ok(per_node) => per_node,
                    Err(outcome) => {
                        unknown.get_or_insert(outcome);
                        return None;
                    }
                };
                (per_node > 1).then(|| {
                    let name = agent.launcher.name;
                    Finding::error(format!(
                        "srun starts {name} {per_node} times on each node, and each starts all the node's ranks"
                    ))
                    .at(agent.span, "wants to be started once on each node")
                    .at(tasks_at(subject, launch), format!("{per_node} tasks on each node"))
                    .help(format!("srun --ntasks=$SLURM_NNODES --ntasks-per-node=1 {name} …, or one task on each node in the directives"))
                })
            })
            .collect();
        match unknown {
            Some(outcome) if findings.is_empty() => outcome,
            _ => Outcome::of(findings),
        }
    },
};

/// Whether the launcher starts a single rank.
fn starts_one(agent: &Step) -> bool {
    agent.option(&["nproc-per-node", "num-processes", "nproc", "devices"]).and_then(Argument::known) == Some("1")
        || agent.launcher.name == "torchrun"
            && agent.option(&["nproc-per-node"]).is_none()
            && agent.options.hidden.is_none()
}

/// Launches of a node's ranks, and what they start.
fn agents<'s>(subject: &'s Subject<'_>) -> impl Iterator<Item = (&'s Launch, &'s Processes)> {
    subject.started().filter(|(_, processes)| processes.agents.is_some())
}

/// Where it stands how many tasks there are.
fn tasks_at(subject: &Subject<'_>, launch: &Launch) -> Option<source_text::Span> {
    let own = launch.srun().and_then(|srun| srun.option(&["ntasks-per-node", "tasks-per-node", "ntasks", "n"]));
    let job = subject.job();
    own.map(|own| own.span).or_else(|| job.tasks_per_node.as_ref().or(job.tasks.as_ref()).and_then(Sourced::span))
}

pub(crate) const L09: Check = Check {
    id: "L09",
    title: "srun -c without a number of tasks",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "Where neither the job nor srun says how many tasks there are, srun -c N starts as many as fit: the job's CPUs on \
                  the node divided by N. With as many as the job's own --cpus-per-task that is one.",
    source: "srun(1), --cpus-per-task",
    run: |subject| {
        need!(slurm_script(subject));
        let job = subject.job();
        if job.has_tasks() {
            return Outcome::skip("the job says how many tasks there are");
        }
        Outcome::of(subject.started().filter_map(|(launch, processes)| {
            let srun = launch.srun()?;
            let cpus = srun.option(&["cpus-per-task", "c"])?;
            if processes.total.exactly().is_some() {
                return None; // one fits where one was to be
            }
            let counts = ["ntasks", "n", "ntasks-per-node", "tasks-per-node", "ntasks-per-gpu"];
            let has_tasks = srun.option(&counts).is_some() || srun.options.hidden.is_some();
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
    need!(slurm_script(subject));
    let cpus =
        need!(subject.job().cpus_per_task.as_ref().filter(|cpus| cpus.value > 1), "--cpus-per-task is not given");
    let exported = subject.exports("SRUN_CPUS_PER_TASK").is_some();
    let starts = subject.launches().iter().filter(|launch| !launch.is_bystander());
    let bare: Vec<_> = starts
        .filter_map(Launch::srun)
        .filter(|srun| srun.option(&["cpus-per-task", "c"]).is_none() && srun.options.hidden.is_none())
        .collect();
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

pub(crate) const L30: Check = Check {
    id: "L30",
    title: "tasks are asked for, and nothing starts them",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "sbatch runs the script once, on the first node of the job. A program without srun or mpirun in front of it runs \
                  once there: the other tasks, and the other nodes, are reserved and idle. An error for rust-train, whose ranks come \
                  from its launcher; a warning for other programs that train by their name or arguments, which may reach other nodes by \
                  themselves. Tasks on one node alone are reported where they are as many as its GPUs: some ask for CPUs so.",
    source: "sbatch(1): the script is executed on the first node; srun(1)",
    run: nothing_starts,
};

fn nothing_starts(subject: &Subject<'_>) -> Outcome {
    let file = need!(script(subject));
    let main = need!(subject.main_launch(), "nothing is started");
    if let Some(reason) = &file.unread {
        return Outcome::Unknown(reason.clone());
    }
    let layout = subject.first_layout();
    if subject.jobs.len() > 1 || layout.placement.tasks.value.least() < 2 {
        return Outcome::skip("the job has one task");
    }
    // The workers of ray's cluster are started in tasks, though they do not train by themselves.
    let starts = file.launches.iter().filter(|launch| !launch.is_bystander() || launch.program_name() == Some("ray"));
    for launch in starts {
        if let Some(reason) = &launch.hidden {
            return Outcome::Unknown(reason.clone());
        }
        if !launch.steps.is_empty() {
            return Outcome::Pass;
        }
    }
    if !main.steps.is_empty() {
        return Outcome::Pass;
    }
    if !main.looks_like_training() {
        return Outcome::unknown("whether the program reaches the other tasks by itself is not known");
    }
    let tasks = need!(exactly(&layout.placement.tasks.value));
    let program = main.program_name().unwrap_or("the program").to_owned();
    let is_ours = trainer(main).is_some_and(|trainer| trainer.kind == TrainerKind::RustTrain);
    let nodes = layout.placement.nodes.least();
    let several_nodes = nodes > 1 && layout.placement.nodes.exactly().is_some();
    let as_many_as_gpus =
        layout.known_devices().is_some_and(|gpus| Number::Exactly(gpus) == layout.placement.tasks_per_node);
    let reported = is_ours || several_nodes || as_many_as_gpus && main.is_python;
    if !reported {
        return Outcome::Pass;
    }
    let where_ = if several_nodes { ", on the first node" } else { "" };
    let message = format!("{program} runs once{where_}: {} of {tasks} tasks are not used", tasks - 1);
    let finding = if is_ours { Finding::error(message) } else { Finding::warning(message) };
    let job = subject.job();
    let at = job.tasks_per_node.as_ref().or(job.tasks.as_ref()).and_then(Sourced::span);
    Outcome::of([finding
        .at(main.span, "one process")
        .at(at.or_else(|| job.nodes.as_ref()?.span()), "reserved")
        .help(format!("start it on all of them: srun {program} …"))])
}

pub(crate) const L31: Check = Check {
    id: "L31",
    title: "torchrun is started on other nodes than it counts on",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "torchrun and accelerate launch join as many nodes as --nnodes (--num_machines) says, 1 where it is not given or with \
                  --standalone. Started on more nodes than that, every node trains for itself, with its own copy of the results; on \
                  fewer, it waits for the others for ever.",
    source: "PyTorch, torch/distributed/run.py; huggingface/accelerate, commands/launch.py",
    run: other_nodes,
};

fn other_nodes(subject: &Subject<'_>) -> Outcome {
    need!(script(subject));
    let all: Vec<_> = agents(subject).collect();
    if all.is_empty() {
        return Outcome::skip("neither torchrun nor accelerate is started");
    }
    if subject.job().array.is_some() {
        return Outcome::skip("a job array: its jobs may join each other");
    }
    // Several commands may start one training: by the nodes that they count on.
    let mut trainings: BTreeMap<usize, (usize, Vec<(&Launch, &Processes)>)> = BTreeMap::new();
    let mut unknown = None;
    for (launch, processes) in all {
        let Some(agents) = &processes.agents else { continue };
        let both = exactly(&agents.started).and_then(|started| Ok((started, exactly(&agents.nodes)?)));
        match both {
            Ok((started, nodes)) => {
                let training = trainings.entry(nodes).or_default();
                let counted = training.1.iter().any(|(other, _)| other.span == launch.span);
                // Which of the commands that are in doubt run together is not known: each counts for itself.
                training.0 += if counted && nodes > 1 || launch.doubt.is_some() { 0 } else { started };
                training.1.push((launch, processes));
            }
            Err(outcome) => _ = unknown.get_or_insert(outcome),
        }
    }
    let mut findings = Vec::new();
    for (nodes, (certain, launches)) in trainings {
        for (launch, processes) in launches {
            let Some(agents) = &processes.agents else { continue };
            let started = agents.started.least();
            let together = if launch.doubt.is_some() { certain + started } else { certain };
            // Several on a node are another check's, unless each is for one rank.
            let one_a_node = agents.per_node == Number::Exactly(1) || launch.agent().is_some_and(starts_one);
            // Commands side by side are trainings of their own on purpose; nodes of one srun are not.
            let by_one = agents.by_one_command.least();
            if nodes == 1 && by_one > 1 && one_a_node {
                findings.push(separate(subject, launch, by_one, processes));
            } else if nodes > 1 && together < nodes {
                match &launch.doubt {
                    Some(doubt) => _ = unknown.get_or_insert(Outcome::Unknown(doubt.clone())),
                    None if unknown.is_some() => {}
                    None => findings.push(waits(subject, launch, together, nodes)),
                }
            } else if nodes > 1 && started > nodes && one_a_node {
                findings.push(too_many(subject, launch, started, nodes));
            }
        }
    }
    match unknown {
        Some(outcome) if findings.is_empty() => outcome,
        _ => Outcome::of(findings),
    }
}

/// The option that says how many nodes there are.
fn nodes_option(launch: &Launch) -> Option<&Argument> {
    launch.agent()?.option(&["nnodes", "num-machines", "num-nodes", "standalone"])
}

fn separate(subject: &Subject<'_>, launch: &Launch, started: usize, processes: &Processes) -> Finding {
    let agent = launch.agent().expect("it has agents");
    let name = agent.launcher.name;
    let each = match processes.total.exactly() {
        Some(ranks) => format!(" of {}", plural(ranks, "rank")),
        None => String::new(),
    };
    let help = match name {
        "torchrun" => {
            "say how many nodes join, and where: --nnodes=$SLURM_NNODES --rdzv-backend=c10d --rdzv-endpoint=HOST:PORT"
        }
        _ => "say how many nodes join, which one this is, and where: --num_machines, --machine_rank, --main_process_ip",
    };
    // Those that meet at one place are one too many there; the others are trainings of their own.
    let meets = agent.option(&["rdzv-endpoint", "master-addr", "main-process-ip"]).is_some()
        && agent.option(&["standalone"]).is_none();
    let what = if meets { "one training".to_owned() } else { format!("{started} separate trainings") };
    let rest = if meets { ", and nodes that find no place in it" } else { "" };
    Finding::error(format!("{what}{each}{rest}: {name} joins one node, and srun starts it on {started}"))
        .at(nodes_option(launch).map_or(agent.span, |word| word.span), "this node alone")
        .at(tasks_at(subject, launch).or_else(|| subject.job().nodes.as_ref()?.span()), plural(started, "node"))
        .help(help)
}

fn waits(subject: &Subject<'_>, launch: &Launch, together: usize, nodes: usize) -> Finding {
    let agent = launch.agent().expect("it has agents");
    let name = agent.launcher.name;
    let message = format!("{name} waits for {nodes} nodes, and is started on {together}");
    let one_of_several = agent.option(&["node-rank", "machine-rank"]).is_some();
    let finding = if one_of_several { Finding::warning(message) } else { Finding::error(message) };
    let help = match launch.srun() {
        None => format!("start it on each node: srun --ntasks=$SLURM_NNODES --ntasks-per-node=1 {name} …"),
        Some(_) => "start as many as it waits for: --nnodes=$SLURM_NNODES, and one task on each node".to_owned(),
    };
    finding
        .at(nodes_option(launch).map_or(agent.span, |word| word.span), plural(nodes, "node"))
        .at(tasks_at(subject, launch), "")
        .help(help)
}

fn too_many(subject: &Subject<'_>, launch: &Launch, started: usize, nodes: usize) -> Finding {
    let agent = launch.agent().expect("it has agents");
    let name = agent.launcher.name;
    Finding::error(format!("{name} joins {nodes} nodes, and srun starts it on {started}: the others find no place"))
        .at(nodes_option(launch).map_or(agent.span, |word| word.span), plural(nodes, "node"))
        .at(tasks_at(subject, launch), plural(started, "task"))
        .help("write --nnodes=$SLURM_NNODES")
}

pub(crate) const L32: Check = Check {
    id: "L32",
    title: "a rendezvous on localhost, and several nodes",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "localhost is another machine on each node: ranks that meet there never find those of the other nodes, and wait until \
                  the time-out. Name the first node: MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1).",
    source: "PyTorch, torchrun: --rdzv-endpoint, --master-addr; init_process_group, env://",
    run: |subject| {
        need!(script(subject));
        let is_local = |word: &Argument| {
            let text = word.known().unwrap_or(&word.start);
            let host = text.split(':').next().unwrap_or_default();
            matches!(host, "localhost" | "127.0.0.1" | "0.0.0.0") || text.starts_with("[::1]")
        };
        let meets = |(launch, processes): (&Launch, &Processes)| {
            if launch.is_bystander() || processes.nodes.exactly().is_none_or(|nodes| nodes < 2) {
                return None;
            }
            let names = ["rdzv-endpoint", "master-addr", "main-process-ip", "main-address"];
            if let Some(agent) = launch.agent() {
                let place = agent.option(&names).filter(|place| is_local(place))?;
                return Some((true, place.span, processes.nodes.least()));
            }
            let set = subject.exports("MASTER_ADDR").filter(|set| is_local(&set.value) && launch.is_python)?;
            Some((false, set.value.span, processes.nodes.least()))
        };
        Outcome::of(subject.started().filter_map(meets).take(1).map(|(is_sure, span, nodes)| {
            let message = format!("the ranks of {nodes} nodes cannot meet on localhost");
            let finding = if is_sure { Finding::error(message) } else { Finding::warning(message) };
            finding
                .at(span, "each node's own")
                .help("name the first node: $(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)")
        }))
    },
};
