//! How many ranks a command starts, and which of a script's commands is the one that trains.

use std::cmp::Reverse;

use sbatch::Version;
use shell::Reason;

use crate::commands::{Around, Files, Launch, Processes, Reach, trainer};
use crate::job::{Job, Placement};
use crate::number::Number;
use crate::origin::Origin;

/// What there is to start ranks on.
pub(super) struct Ground<'a> {
    pub(super) job: &'a Job,
    pub(super) placement: &'a Placement,
    pub(super) slurm: Option<Version>,
    /// Whether the job is known to have whole nodes.
    pub(super) whole_nodes: bool,
    /// CUDA devices of a node.
    pub(super) devices: &'a Number,
    pub(super) files: &'a dyn Files,
}

/// The ranks of each of `launches`.
pub(super) fn started(launches: &[Launch], ground: &Ground<'_>) -> Vec<Processes> {
    launches.iter().map(|launch| started_by(launch, copies(launch, launches), ground)).collect()
}

/// How often the command is run side by side.
fn copies(launch: &Launch, launches: &[Launch]) -> Number {
    match &launch.doubt {
        _ if !launch.background => Number::Exactly(1),
        Some(reason) => Number::Unknown(reason.clone()),
        None => {
            let same = |other: &&Launch| {
                other.background && other.span == launch.span && other.steps.len() == launch.steps.len()
            };
            Number::Exactly(launches.iter().filter(same).count().max(1))
        }
    }
}

fn started_by(launch: &Launch, copies: Number, ground: &Ground<'_>) -> Processes {
    let mut outer = Processes::one();
    let mut tasks_of_srun = None;
    for step in &launch.steps {
        let around = Around {
            outer: &outer,
            copies: copies.clone(),
            placement: ground.placement,
            has_tasks: ground.job.has_tasks(),
            cpus_per_task: ground.job.cpus_per_task.as_ref().map(|cpus| cpus.value),
            whole_nodes: ground.whole_nodes,
            slurm: ground.slurm,
            devices: ground.devices,
            read: &|path| ground.files.read("", path),
        };
        let inner = step.processes(&around);
        let is_srun = step.launcher.name == "srun" && tasks_of_srun.is_none();
        if is_srun {
            tasks_of_srun = Some(inner.total.clone());
        }
        outer = match (step.launcher.reach, &outer.total) {
            // An MPI launcher inside of each of several tasks, or two launchers of a job: nobody means that.
            (Reach::Job, Number::Exactly(1)) => inner,
            (Reach::Job, _) => Processes { total: outer.total.times(&inner.total), agents: None, ..inner },
            (Reach::Node, _) => inner,
        };
    }
    let ends_with_agent = launch.steps.last().is_some_and(|step| step.launcher.reach == Reach::Node);
    if let Some(reason) = &launch.hidden
        && !ends_with_agent
    {
        let unknown = |number: Number| match launch.steps.is_empty() {
            true => Number::Unknown(reason.clone()),
            false => number.or_more(reason.clone()),
        };
        outer.total = unknown(outer.total);
        outer.per_node = unknown(outer.per_node);
    } else if !ends_with_agent && trainer(launch).is_none() && may_spawn(launch, &outer, ground) {
        let name = launch.program_name().unwrap_or("the program").to_owned();
        let reason = Reason::new(format!("{name} may start ranks by itself"), launch.span);
        outer.total = outer.total.or_more(reason.clone());
        outer.per_node = outer.per_node.or_more(reason);
    }
    Processes { tasks_of_srun, ..outer }
}

/// Whether a program that is not known may start more ranks than it is started itself: without a launcher any may (but one of one
/// task with one device); behind one,
/// Python's may where it is alone on a node with several devices, and the job asks for no more.
fn may_spawn(launch: &Launch, outer: &Processes, ground: &Ground<'_>) -> bool {
    let one_on_a_node = outer.per_node == Number::Exactly(1);
    let job_asks_for_one = ground.placement.tasks_per_node.exactly().is_none_or(|tasks| tasks <= 1);
    // A job with a task for each rank is not for a program that starts them itself.
    let is_for_tasks = !job_asks_for_one && launch.looks_like_training();
    // One process on one device, or Python's on no device, is all that there is to start.
    let is_single = ground.placement.nodes == Number::Exactly(1)
        && job_asks_for_one
        && match ground.devices {
            Number::Exactly(0) => launch.is_python,
            devices => *devices == Number::Exactly(1),
        };
    if launch.steps.is_empty() {
        return !is_for_tasks && !is_single;
    }
    let several_devices = match ground.devices.exactly() {
        Some(devices) => devices > 1,
        None => ground.job.asks_for_gpus(),
    };
    launch.is_python && one_on_a_node && job_asks_for_one && several_devices
}

/// The launch that trains, and the ranks of it.
pub(super) struct Training {
    pub(super) launch: usize,
    pub(super) processes: Processes,
}

/// The one that starts a known trainer, or carries a batch; else one that a launcher starts and that trains by its name; else one
/// that may hide a training, or a program that a launcher starts. Of these the one with most ranks. Where it is in doubt which of several runs, and they differ, the number of ranks is not known.
pub(super) fn training(launches: &[Launch], started: &[Processes]) -> Option<Training> {
    let rank = |index: usize| {
        let launch = &launches[index];
        let launched = !launch.steps.is_empty();
        let kind = match launch {
            launch if trainer(launch).is_some() => 7,
            launch if launch.carries_a_batch() && launch.hidden.is_none() => 6,
            launch if launched && launch.looks_like_training() => 5,
            launch if launched && launch.hidden.is_some() => 4,
            // What is hidden may be the training; a program of Python's that does not look like one is not it then.
            launch if launch.hidden.is_some() && launch.may_hide_a_training() => 3,
            launch if launched => {
                if launch.is_python {
                    2
                } else {
                    3
                }
            }
            launch if launch.looks_like_training() => 2,
            launch if launch.hidden.is_none() => 1,
            _ => 0,
        };
        // Beside what runs in the background something else is meant; and what prepares comes before what is meant.
        let is_meant = !launch.background && !launch.looks_like_preparing();
        (kind, is_meant, started[index].total.least(), launch.doubt.is_none())
    };
    let all = || (0..launches.len()).filter(|&index| !launches[index].in_substitution);
    let mut candidates: Vec<_> = all().filter(|&index| !launches[index].is_bystander()).collect();
    if candidates.is_empty() {
        // Better than nothing: `srun hostname`.
        candidates = all().filter(|&index| launches[index].is_in_tasks()).collect();
    }
    let best = candidates.iter().copied().min_by_key(|&index| (Reverse(rank(index)), index))?;
    let mut processes = started[best].clone();
    if let Some(doubt) = &launches[best].doubt {
        // The others of its kind may be run instead.
        let alike = candidates.iter().filter(|&&index| rank(index).0 == rank(best).0);
        let differ = alike.clone().any(|&index| started[index].total != processes.total);
        if differ {
            processes.total = Number::Unknown(doubt.clone());
            processes.per_node = Number::Unknown(doubt.clone());
            processes.origin = Origin::Derived("one of several commands");
        }
    }
    Some(Training { launch: best, processes })
}
