//! What is judged: a script or flags, the layouts that follow, and everything that is known around them.

use std::path::PathBuf;

use batch_script::Scheduler;
use flags::{OptimizerKind, PrecisionKind};
use layout::{BatchLayout, DeviceRequest, SolveError};
use sbatch::value::Gres;
use sbatch::{Script, Version};
use shell::{Assignment, Executed, Reason};
use source_text::Span;

use crate::commands::{Launch, Processes};
use crate::facts::{AllocationFacts, Facts, LoginFacts, Partition, RankFacts};
use crate::job::{Job, Placement};
use crate::memory::Accelerator;
use crate::number::Number;
use crate::origin::{Origin, Sourced};
use crate::site::{Site, node_kinds, whole_nodes};

/// Everything that checks look at.
#[derive(Debug)]
pub(crate) struct Subject<'t> {
    /// The batch script.
    pub(crate) script: Option<ScriptFile<'t>>,
    /// The job's components; one without a script.
    pub(crate) jobs: Vec<Job>,
    /// The layout of each component on each number of nodes that it may get; never empty.
    pub(crate) layouts: Vec<Layout>,
    /// What is trained, as far as it was said.
    pub(crate) training: Training,
    /// The site file.
    pub(crate) site: Site,
    /// Slurm's release.
    pub(crate) slurm: Option<Version>,
    /// What was gathered.
    pub(crate) facts: Facts,
}

/// A script and the commands in it.
#[derive(Debug)]
pub(crate) struct ScriptFile<'t> {
    /// Its name for messages.
    pub(crate) name: String,
    /// The folder that relative paths of directives start from.
    pub(crate) folder: PathBuf,
    /// The script as Slurm reads it; of another scheduler's, its text and lines.
    pub(crate) script: Script<'t>,
    /// Whose script it is, and what that one reads, where it is not Slurm's.
    pub(crate) foreign: Option<(Scheduler, batch_script::Script)>,
    pub(crate) commands: Vec<Executed>,
    /// Comments: what looks like one in a quoted text or a here-document is none.
    pub(crate) comments: Vec<Span>,
    /// Where a shell cannot read on: bash stops there.
    pub(crate) broken: Option<Span>,
    /// Whether its directives are of another script, which it writes: nobody submits this one.
    pub(crate) writes_the_job: bool,
    pub(crate) launches: Vec<Launch>,
    /// What each of them starts, on the first of the job's layouts.
    pub(crate) processes: Vec<Processes>,
    /// Why it is not known what the script starts, where it is not.
    pub(crate) unread: Option<Reason>,
    /// The launch that trains, as an index into `launches`.
    pub(crate) main_launch: Option<usize>,
}

/// A layout: one component of the job on a certain number of nodes.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) component: usize,
    pub(crate) placement: Placement,
    /// CUDA devices on each node.
    pub(crate) devices: Sourced<Number>,
    /// Whether the ranks compute on the CPU.
    pub(crate) on_cpu: bool,
    pub(crate) ranks_per_node: Sourced<Number>,
    /// Data-parallel ranks.
    pub(crate) ranks: Sourced<Number>,
    /// How the batch is shared, where there is a batch; or why that is not known.
    pub(crate) batch: Option<Result<Result<BatchLayout, SolveError>, Reason>>,
}

impl Layout {
    /// How the batch is shared, where it is and that is known.
    pub(crate) fn shares(&self) -> Option<&BatchLayout> {
        self.batch.as_ref()?.as_ref().ok()?.as_ref().ok()
    }

    /// Devices of a node, where they are known and there are some.
    pub(crate) fn known_devices(&self) -> Option<usize> {
        self.devices.value.exactly().filter(|&devices| devices > 0)
    }
}

/// What is trained, as far as flags and commands say it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Training {
    pub(crate) batch: Option<Sourced<usize>>,
    /// Why the batch, or what it is divided by, is not known though it is given.
    pub(crate) unknown_batch: Option<Reason>,
    /// Whether the program finds a micro-batch that fits by itself (`auto:N`).
    pub(crate) fit_memory: bool,
    /// `--batch -1`: the program is to find a batch by itself.
    pub(crate) auto_batch: Option<Origin>,
    pub(crate) micro_batch: Option<Sourced<usize>>,
    pub(crate) accumulation: Option<Sourced<usize>>,
    /// In how many fixed parts all ranks together compute a step.
    pub(crate) virtual_ranks: Option<Sourced<usize>>,
    /// The device string and what it means.
    pub(crate) device: Option<Sourced<String>>,
    pub(crate) request: Option<DeviceRequest>,
    /// Ranks that share a device, where that is meant.
    pub(crate) ranks_per_device: Option<Sourced<usize>>,
    pub(crate) model: Option<Sourced<String>>,
    pub(crate) image_size: Option<Sourced<usize>>,
    pub(crate) classes: Option<usize>,
    pub(crate) channels: Option<usize>,
    pub(crate) optimizer: Option<Sourced<OptimizerKind>>,
    pub(crate) momentum: Option<Sourced<f64>>,
    pub(crate) precision: Option<Sourced<PrecisionKind>>,
    /// Whether the optimizer's state is spread over the ranks.
    pub(crate) zero: bool,
    /// Whether there is a moving average of the weights.
    pub(crate) ema: bool,
    /// Whether blocks are computed once more on the way back.
    pub(crate) recompute: bool,
    /// Whether auxiliary heads are trained, too.
    pub(crate) auxiliary: bool,
    /// The model that is learned from, too, if one is.
    pub(crate) teacher: Option<Teacher>,
    /// Whether all but the head is frozen, for some epochs at least.
    pub(crate) is_frozen: bool,
    pub(crate) accelerator: Option<Sourced<Accelerator>>,
    pub(crate) samples: Option<Sourced<usize>>,
    pub(crate) learning_rate: Option<Sourced<f64>>,
    pub(crate) loader_threads: Option<Sourced<usize>>,
    pub(crate) checkpoint_seconds: Option<Sourced<u64>>,
    /// Whether BatchNorm's statistics are each rank's own.
    pub(crate) local_batch_norm: bool,
    /// The recipe of the script's trainer, if it has one.
    pub(crate) recipe: Option<Recipe>,
    /// Paths that the program reads or writes: what for, and where.
    pub(crate) paths: Vec<(PathUse, Sourced<String>)>,
}

impl Training {
    /// How many ranks may take the same device.
    pub(crate) fn sharers(&self) -> usize {
        self.ranks_per_device.as_ref().map_or(1, |ranks| ranks.value.max(1))
    }
}

/// What became of the recipe (`--config`) of the script's trainer.
#[derive(Clone, Debug)]
pub(crate) enum Recipe {
    /// Its flags are those of the trainer.
    Read,
    /// It is not there, or no recipe: why.
    Unreadable(Sourced<String>),
    /// Which file it is cannot be known: why.
    Unknown(&'static str),
}

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathUse {
    /// Images.
    Data,
    /// The HDF5 cache.
    Cache,
    /// Results and checkpoints.
    Output,
    /// Weights.
    Weights,
}

/// A model that another one learns from.
#[derive(Clone, Debug)]
pub(crate) struct Teacher {
    /// Its network, where that is said.
    pub(crate) network: Option<String>,
}

impl Subject<'_> {
    /// Whose script it is: Slurm's, unless its directives are another's.
    pub(crate) fn scheduler(&self) -> Option<Scheduler> {
        self.script.as_ref()?.foreign.as_ref().map(|(scheduler, _)| *scheduler)
    }

    /// What the scheduler calls that which a job waits in.
    pub(crate) fn queue_word(&self) -> &'static str {
        if self.scheduler().is_some() { "queue" } else { "partition" }
    }

    /// The layout to speak of where one will do.
    pub(crate) fn first_layout(&self) -> &Layout {
        &self.layouts[0]
    }

    /// The first component.
    pub(crate) fn job(&self) -> &Job {
        &self.jobs[0]
    }

    pub(crate) fn login(&self) -> Option<&LoginFacts> {
        self.facts.login.as_ref()
    }

    pub(crate) fn allocation(&self) -> Option<&AllocationFacts> {
        self.facts.allocation.as_ref()
    }

    pub(crate) fn ranks(&self) -> Option<&[RankFacts]> {
        self.facts.ranks.as_deref()
    }

    /// The launch that trains.
    pub(crate) fn main_launch(&self) -> Option<&Launch> {
        let file = self.script.as_ref()?;
        file.launches.get(file.main_launch?)
    }

    /// All launches of the script, each with what it starts.
    pub(crate) fn started(&self) -> impl Iterator<Item = (&Launch, &Processes)> {
        self.script.iter().flat_map(|file| file.launches.iter().zip(&file.processes))
    }

    /// All launches of the script.
    pub(crate) fn launches(&self) -> &[Launch] {
        self.script.as_ref().map_or(&[], |file| &file.launches)
    }

    /// All commands of the script.
    pub(crate) fn commands(&self) -> &[Executed] {
        self.script.as_ref().map_or(&[], |file| &file.commands)
    }

    /// Every assignment of the script to the variable `name` that commands see.
    pub(crate) fn exports(&self, name: &str) -> Option<&Assignment> {
        let mut assignments = self.commands().iter().flat_map(|command| &command.assignments);
        assignments.rfind(|assignment| assignment.name == name)
    }

    /// The partitions that are known.
    pub(crate) fn partitions(&self) -> Option<Vec<Partition>> {
        crate::site::partitions(&self.site, &self.facts)
    }

    /// The kinds of nodes that `job` may get: those of the partitions it names, or of the default one.
    pub(crate) fn node_kinds(&self, job: &Job) -> Option<Vec<Partition>> {
        node_kinds(&self.site, &self.facts, job)
    }

    /// Whether `job` has its nodes for itself; `None` where that is not known.
    pub(crate) fn has_whole_nodes(&self, job: &Job) -> Option<bool> {
        whole_nodes(self.node_kinds(job).as_deref(), job)
    }

    /// The components that run GPUs.
    pub(crate) fn asks_for_gpus(&self) -> bool {
        self.jobs.iter().any(Job::asks_for_gpus) || self.layouts.iter().any(|layout| !layout.on_cpu)
    }

    /// Where the word stands that gives the batch.
    pub(crate) fn batch_span(&self) -> Option<Span> {
        self.training.batch.as_ref().and_then(Sourced::span)
    }
}

impl Partition {
    /// GPUs of a node.
    pub(crate) fn gpus(&self) -> Option<usize> {
        let gres: Gres = self.gres.as_deref()?.parse().ok()?;
        gres.gpus().and_then(|gpus| usize::try_from(gpus).ok())
    }
}
