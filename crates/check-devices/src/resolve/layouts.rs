//! Ranks and their devices: from flags, from what the script starts, from the tasks of the job, from this machine.

use layout::{BatchFactors, DeviceRequest};

use super::Surroundings;
use crate::cli::JudgeArgs;
use crate::commands::{Launch, Launcher};
use crate::job::{Job, Placement};
use crate::origin::{Origin, Sourced};
use crate::subject::{Layout, Training};

/// Works out the layouts of one job.
pub(super) struct LayoutBuilder<'a, 's> {
    pub(super) args: &'a JudgeArgs,
    pub(super) training: &'a Training,
    pub(super) has_script: bool,
    pub(super) around: &'a Surroundings<'s>,
}

impl LayoutBuilder<'_, '_> {
    /// The layout of a component on `nodes` nodes, with the ranks that `launch` starts.
    pub(super) fn layout(&self, component: usize, job: &Job, nodes: usize, launch: Option<&Launch>) -> Layout {
        let placement = self.ranks_there().unwrap_or_else(|| job.placement(nodes));
        let are_counted = placement.tasks.origin == Origin::Ranks;
        let request = self.training.request.clone().unwrap_or_default();
        let present = self.devices(job, &placement, &request);
        let (devices, on_cpu) = match &request {
            DeviceRequest::Cpu => (0, true),
            DeviceRequest::Auto => (present.value, present.value == 0),
            DeviceRequest::Cuda => (present.value, false),
            DeviceRequest::CudaList(indices) => (indices.len(), false),
        };
        let started = launch.and_then(|launch| started_ranks(launch, &placement, present.value));
        let (ranks_per_node, ranks) = match (self.args.ranks_per_node, started) {
            (Some(per_node), _) => {
                let ranks = per_node.saturating_mul(placement.nodes);
                (Sourced::new(per_node, Origin::Flag), Sourced::new(ranks, Origin::Derived(NODES_TIMES_RANKS)))
            }
            (None, Some(started)) => {
                let per_node = started.value.div_ceil(placement.nodes.max(1));
                (Sourced::new(per_node, Origin::Derived("ranks / nodes")), started)
            }
            (None, None) if are_counted || self.has_script || job.tasks.is_some() || job.tasks_per_node.is_some() => {
                let per_node = Sourced::new(placement.tasks_per_node, Origin::Derived("tasks per node"));
                (per_node, placement.tasks.clone())
            }
            (None, None) => {
                let per_node = match on_cpu {
                    true => Sourced::new(1, Origin::Default),
                    false => Sourced::new(devices.max(1), Origin::Derived("one for each device")),
                };
                let ranks = per_node.value.saturating_mul(placement.nodes);
                (per_node, Sourced::new(ranks, Origin::Derived(NODES_TIMES_RANKS)))
            }
        };
        let training = self.training;
        let factors = BatchFactors {
            global: training.batch.as_ref().map(|batch| batch.value),
            micro: training.micro_batch.as_ref().map(|micro| micro.value),
            accumulation: training.accumulation.as_ref().map(|accumulation| accumulation.value),
        };
        let batch = (factors.global.is_some() || factors.micro.is_some()).then(|| factors.solve(ranks.value));
        Layout { component, placement, devices: present, on_cpu, ranks_per_node, ranks, batch }
    }

    /// The nodes and ranks that were asked (`--probe`), where neither script nor flags say that others are meant.
    fn ranks_there(&self) -> Option<Placement> {
        let args = self.args;
        let others_are_meant =
            self.has_script || args.nodes.is_some() || args.ranks_per_node.is_some() || !args.sbatch.is_empty();
        let ranks = self.around.facts.ranks.as_deref().filter(|ranks| !others_are_meant && !ranks.is_empty())?;
        Some(Placement {
            nodes: ranks.iter().filter(|rank| rank.local_rank == 0).count().max(1),
            tasks: Sourced::new(ranks.len(), Origin::Ranks),
            tasks_per_node: ranks.iter().map(|rank| rank.local_size).max().unwrap_or(1),
            gpus_per_node: None,
        })
    }

    fn devices(&self, job: &Job, placement: &Placement, request: &DeviceRequest) -> Sourced<usize> {
        match (self.args.gpus_per_node, request) {
            (Some(gpus), _) => Sourced::new(gpus, Origin::Flag),
            (None, _) if self.has_script || job.asks_for_gpus() => {
                placement.gpus_per_node.clone().unwrap_or_else(|| {
                    let total = job.gpus.as_ref().map_or(0, |gpus| gpus.value.count);
                    Sourced::new(total / placement.nodes.max(1), Origin::Derived("GPUs / nodes, rounded down"))
                })
            }
            (None, DeviceRequest::Cpu) => Sourced::new(0, Origin::Derived("not asked")),
            (None, _) => Sourced::new((self.around.visible_devices)(), Origin::Machine),
        }
    }
}

const NODES_TIMES_RANKS: &str = "nodes × ranks per node";

/// How many ranks `launch` starts; `None` where its words do not say.
fn started_ranks(launch: &Launch, placement: &Placement, devices: usize) -> Option<Sourced<usize>> {
    if launch.steps.is_empty() {
        return Some(Sourced::new(1, Origin::Derived("no launcher: one process")));
    }
    // The outer launcher's tasks, then what each of them starts.
    let mut ranks: Option<Sourced<usize>> = None;
    for step in &launch.steps {
        let outer = ranks.as_ref().map_or(1, |ranks| ranks.value);
        let number = |names: &[&str]| step.number(names).map(|(value, span)| Sourced::new(value, Origin::Script(span)));
        let given = |names: &[&str]| step.option(names).is_some();
        ranks = Some(match step.launcher {
            Launcher::Srun => {
                let nodes = number(&["nodes", "N"]).map_or(placement.nodes, |nodes| nodes.value);
                match (number(&["ntasks", "n"]), number(&["ntasks-per-node"])) {
                    (Some(tasks), _) => tasks,
                    (None, Some(per_node)) => Sourced::new(
                        per_node.value.saturating_mul(nodes),
                        Origin::Derived("srun's nodes × tasks per node"),
                    ),
                    (None, None) if given(&["ntasks", "n", "ntasks-per-node"]) => return None,
                    (None, None) if given(&["nodes", "N"]) && placement.tasks.value == placement.nodes => {
                        Sourced::new(nodes, Origin::Derived("one for each of srun's nodes"))
                    }
                    (None, None) => placement.tasks.clone(),
                }
            }
            Launcher::Mpirun => match number(&["n", "np", "c"]) {
                Some(ranks) => ranks,
                None if given(&["n", "np", "c"]) => return None,
                None => match number(&["npernode", "N", "ppn", "perhost"]) {
                    Some(per_node) => Sourced::new(
                        per_node.value.saturating_mul(placement.nodes),
                        Origin::Derived("nodes × mpirun's ranks per node"),
                    ),
                    None => placement.tasks.clone(),
                },
            },
            Launcher::Torchrun => {
                let text = step.option(&["nproc-per-node"]);
                let per_agent = match text.map(|text| text.known()) {
                    None => 1,
                    Some(Some("gpu" | "auto")) => devices.max(1),
                    Some(Some(text)) => text.parse().ok()?,
                    Some(None) => return None,
                };
                Sourced::new(outer.saturating_mul(per_agent), Origin::Derived("torchrun's processes on each node"))
            }
            Launcher::Accelerate => match number(&["num-processes"]) {
                Some(ranks) => ranks,
                None if given(&["num-processes"]) => return None,
                None => {
                    Sourced::new(outer.saturating_mul(devices.max(1)), Origin::Derived("accelerate: one for each GPU"))
                }
            },
            Launcher::Deepspeed => {
                let per_node = match (number(&["num-gpus"]), given(&["num-gpus"])) {
                    (Some(gpus), _) => gpus.value,
                    (None, true) => return None,
                    (None, false) => devices.max(1),
                };
                Sourced::new(per_node.saturating_mul(placement.nodes), Origin::Derived("deepspeed: one for each GPU"))
            }
        });
    }
    ranks
}
