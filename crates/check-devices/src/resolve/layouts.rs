//! Ranks and their devices: from flags, from what the script starts, from the tasks of the job, from this machine.

use layout::{BatchFactors, DeviceRequest};
use sbatch::Version;
use shell::Reason;

use super::Surroundings;
use super::ranks::{Ground, started, training};
use crate::cli::JudgeArgs;
use crate::commands::{Around, Files, Given, Launch, Processes};
use crate::job::{Job, Placement};
use crate::number::Number;
use crate::origin::{Origin, Sourced};
use crate::site::{node_kinds, whole_nodes};
use crate::subject::{Layout, Training};

/// Works out the layouts of one job.
pub(super) struct LayoutBuilder<'a, 's> {
    pub(super) args: &'a JudgeArgs,
    pub(super) training: &'a Training,
    pub(super) has_script: bool,
    pub(super) slurm: Option<Version>,
    pub(super) around: &'a Surroundings<'s>,
    pub(super) files: &'a dyn Files,
    pub(super) launches: &'a [Launch],
    /// Why it is not known what the script starts, where it is not.
    pub(super) unread: Option<&'a Reason>,
}

/// Which command trains, and what each of them starts, on a job's first layout.
pub(super) struct Starts {
    pub(super) main: Option<usize>,
    pub(super) processes: Vec<Processes>,
}

impl LayoutBuilder<'_, '_> {
    /// What the commands start on the first number of nodes of `job`.
    pub(super) fn starts(&self, job: &Job, nodes: usize) -> Starts {
        let placement = job.placement(nodes);
        let devices = self.devices(job, &placement, None, &DeviceRequest::default());
        let ground = self.ground(job, &placement, &devices.value);
        let processes = started(self.launches, &ground);
        Starts { main: training(self.launches, &processes).map(|training| training.launch), processes }
    }

    fn ground<'g>(&'g self, job: &'g Job, placement: &'g Placement, devices: &'g Number) -> Ground<'g> {
        let kinds = node_kinds(&self.around.site, &self.around.facts, job);
        let whole_nodes = whole_nodes(kinds.as_deref(), job) == Some(true);
        Ground { job, placement, slurm: self.slurm, whole_nodes, devices, files: self.files }
    }

    /// The layout of a component on `nodes` nodes.
    pub(super) fn layout(&self, component: usize, job: &Job, nodes: usize) -> Layout {
        let counted = self.ranks_there();
        let is_counted = counted.is_some();
        let placement = counted.unwrap_or_else(|| job.placement(nodes));
        let request = self.training.request.clone().unwrap_or_default();
        let main = self.starts(job, nodes).main.map(|main| &self.launches[main]);
        let present = self.devices(job, &placement, main, &request);
        let (devices, on_cpu) = match &request {
            DeviceRequest::Cpu => (Number::Exactly(0), true),
            DeviceRequest::Auto => (present.value.clone(), present.value == Number::Exactly(0)),
            DeviceRequest::Cuda => (present.value.clone(), false),
            DeviceRequest::CudaList(indices) => (Number::Exactly(indices.len()), false),
        };
        let ground = self.ground(job, &placement, &present.value);
        let started = training(self.launches, &started(self.launches, &ground)).map(|training| training.processes);
        let (ranks_per_node, ranks) = match (self.args.ranks_per_node, started, self.unread) {
            (Some(per_node), ..) => {
                let per_node = Number::Exactly(per_node);
                let ranks = per_node.times(&placement.nodes);
                (Sourced::new(per_node, Origin::Flag), Sourced::new(ranks, Origin::Derived(NODES_TIMES_RANKS)))
            }
            (None, _, Some(reason)) => {
                let unknown = Sourced::new(Number::Unknown(reason.clone()), Origin::Derived("not read"));
                (unknown.clone(), unknown)
            }
            (None, Some(started), None) => {
                let per_node = Sourced::new(started.per_node, Origin::Derived("ranks / nodes"));
                (per_node, Sourced::new(started.total, started.origin))
            }
            (None, None, None) if self.has_script && !is_counted => {
                // Nothing, or only what looks or prepares.
                let reason = Reason::new("the script starts no program that trains", None);
                let unknown = Sourced::new(Number::Unknown(reason), Origin::Derived("nothing is started"));
                (unknown.clone(), unknown)
            }
            (None, None, None)
                if is_counted || self.has_script || job.tasks.is_some() || job.tasks_per_node.is_some() =>
            {
                let per_node = Sourced::new(placement.tasks_per_node.clone(), Origin::Derived("tasks per node"));
                (per_node, placement.tasks.clone())
            }
            (None, None, None) => {
                let per_node = match (on_cpu, &devices) {
                    (true, _) => Sourced::new(Number::Exactly(1), Origin::Default),
                    (false, devices) => {
                        let one_at_least =
                            if *devices == Number::Exactly(0) { Number::Exactly(1) } else { devices.clone() };
                        Sourced::new(one_at_least, Origin::Derived("one for each device"))
                    }
                };
                let ranks = per_node.value.times(&placement.nodes);
                (per_node, Sourced::new(ranks, Origin::Derived(NODES_TIMES_RANKS)))
            }
        };
        let training = self.training;
        let mut factors = BatchFactors {
            global: training.batch.as_ref().map(|batch| batch.value),
            micro: training.micro_batch.as_ref().map(|micro| micro.value),
            accumulation: training.accumulation.as_ref().map(|accumulation| accumulation.value),
        };
        // Each rank computes its virtual ranks as others do their micro-batches.
        if let (Some(parts), Number::Exactly(ranks @ 1..)) = (&training.virtual_ranks, &ranks.value)
            && parts.value.is_multiple_of(*ranks)
            && factors.accumulation.is_none_or(|accumulation| accumulation == 1)
        {
            factors.accumulation = Some(parts.value / ranks);
        }
        let has_batch = factors.global.is_some() || factors.micro.is_some();
        let batch = match (&training.unknown_batch, &ranks.value) {
            (Some(reason), _) => Some(Err(reason.clone())),
            (None, _) if !has_batch => None,
            (None, Number::Exactly(ranks)) => Some(Ok(factors.solve(*ranks))),
            (None, Number::AtLeast(_, reason) | Number::Unknown(reason)) => Some(Err(reason.clone())),
        };
        Layout { component, placement, devices: present, on_cpu, ranks_per_node, ranks, batch }
    }

    /// The nodes and ranks that were asked (`--probe`), where neither script nor flags say that others are meant.
    fn ranks_there(&self) -> Option<Placement> {
        let args = self.args;
        let others_are_meant =
            self.has_script || args.nodes.is_some() || args.ranks_per_node.is_some() || !args.sbatch.is_empty();
        let ranks = self.around.facts.ranks.as_deref().filter(|ranks| !others_are_meant && !ranks.is_empty())?;
        let nodes = ranks.iter().filter(|rank| rank.local_rank == 0).count().max(1);
        let per_node = ranks.iter().map(|rank| rank.local_size).max().unwrap_or(1);
        Some(Placement {
            nodes: Number::Exactly(nodes),
            tasks: Sourced::new(Number::Exactly(ranks.len()), Origin::Ranks),
            tasks_per_node: Number::Exactly(per_node),
            gpus_per_node: None,
        })
    }

    fn devices(
        &self,
        job: &Job,
        placement: &Placement,
        main: Option<&Launch>,
        request: &DeviceRequest,
    ) -> Sourced<Number> {
        let of_job = self.has_script || job.asks_for_gpus();
        match (self.args.gpus_per_node, request) {
            (Some(gpus), _) => Sourced::new(Number::Exactly(gpus), Origin::Flag),
            (None, _) if of_job => {
                let asked = placement.gpus_per_node.clone();
                asked.or_else(|| self.gpus_of_step(main?, job, placement)).unwrap_or_else(|| self.without_request(job))
            }
            (None, DeviceRequest::Cpu) => Sourced::new(Number::Exactly(0), Origin::Derived("not asked")),
            (None, _) => Sourced::new(Number::Exactly((self.around.visible_devices)()), Origin::Machine),
        }
    }

    /// GPUs of a node where nobody asks for any: those that come with whole nodes.
    fn without_request(&self, job: &Job) -> Sourced<Number> {
        let kinds = node_kinds(&self.around.site, &self.around.facts, job);
        match whole_nodes(kinds.as_deref(), job) {
            Some(false) => Sourced::new(Number::Exactly(0), Origin::Derived("none are asked for")),
            Some(true) => {
                let gpus: Vec<_> = kinds.iter().flatten().map(|kind| kind.gpus().unwrap_or(0)).collect();
                match &gpus[..] {
                    [first, rest @ ..] if rest.iter().all(|gpus| gpus == first) => {
                        Sourced::new(Number::Exactly(*first), Origin::Derived("whole nodes of the partition"))
                    }
                    _ => unknown_devices("the job has whole nodes, and how many GPUs they have is not known"),
                }
            }
            None => unknown_devices("the job asks for none, and whether it is given whole nodes is not known"),
        }
    }
}

impl LayoutBuilder<'_, '_> {
    /// GPUs that srun asks for itself, on each node.
    fn gpus_of_step(&self, launch: &Launch, job: &Job, placement: &Placement) -> Option<Sourced<Number>> {
        let srun = launch.srun()?;
        let count = |text: &str| text.rsplit(':').next().and_then(|count| count.parse::<usize>().ok());
        let sourced = |number, span| Sourced::new(number, Origin::Script(span));
        match srun.options.text(&["gpus-per-node"]) {
            Given::Is(text, span) => return Some(sourced(Number::Exactly(count(text)?), span)),
            Given::Unknown(reason) => return Some(Sourced::new(Number::Unknown(reason), Origin::Default)),
            Given::No => {}
        }
        if let Given::Is(text, span) = srun.options.text(&["gres"])
            && let Ok(gres) = text.parse::<sbatch::value::Gres>()
            && let Some(gpus) = gres.gpus()
        {
            return Some(sourced(Number::Exactly(usize::try_from(gpus).ok()?), span));
        }
        if let Given::Is(text, span) = srun.options.text(&["gpus-per-task"]) {
            let around = Around {
                outer: &Processes::one(),
                copies: Number::Exactly(1),
                placement,
                has_tasks: job.has_tasks(),
                cpus_per_task: job.cpus_per_task.as_ref().map(|cpus| cpus.value),
                whole_nodes: false,
                slurm: self.slurm,
                devices: &Number::Exactly(0),
                read: &|_| None,
            };
            return Some(sourced(Number::Exactly(count(text)?).times(&srun.processes(&around).per_node), span));
        }
        if let Given::Is(text, span) = srun.options.text(&["gpus", "G"]) {
            return Some(sourced(Number::Exactly(count(text)?).spread_over(&placement.nodes), span));
        }
        None
    }
}

fn unknown_devices(why: &'static str) -> Sourced<Number> {
    Sourced::new(Number::Unknown(Reason::new(why, None)), Origin::Default)
}

const NODES_TIMES_RANKS: &str = "nodes × ranks per node";
