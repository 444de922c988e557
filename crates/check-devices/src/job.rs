//! What a job asks Slurm for, as numbers: nodes, tasks, CPUs, GPUs, memory, time; and the layout that follows.

use sbatch::value::{Count, GpuCount, Gres, Memory, NodeCount, SignalRequest, TimeLimit, ValueError};
use sbatch::{Request, Setting};
use shell::Reason;

use crate::number::Number;
use crate::origin::{Origin, Sourced};

/// One component of a job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The options as they were given.
    pub(crate) request: Request,
    /// Nodes; `None` where the job does not say and Slurm takes as few as hold the tasks.
    pub(crate) nodes: Option<Sourced<NodeCount>>,
    /// `--ntasks`.
    pub(crate) tasks: Option<Sourced<usize>>,
    /// `--ntasks-per-node`.
    pub(crate) tasks_per_node: Option<Sourced<usize>>,
    /// `--cpus-per-task`.
    pub(crate) cpus_per_task: Option<Sourced<usize>>,
    /// `--gpus-per-node`, or the GPUs of `--gres`.
    pub(crate) gpus_per_node: Option<Sourced<GpuCount>>,
    /// `--gpus`.
    pub(crate) gpus: Option<Sourced<GpuCount>>,
    /// `--gpus-per-task`.
    pub(crate) gpus_per_task: Option<Sourced<GpuCount>>,
    /// `--gpus-per-socket`.
    pub(crate) gpus_per_socket: Option<Sourced<GpuCount>>,
    /// `--ntasks-per-gpu`.
    pub(crate) tasks_per_gpu: Option<Sourced<usize>>,
    /// `--sockets-per-node`.
    pub(crate) sockets_per_node: Option<Sourced<usize>>,
    /// `--time`.
    pub(crate) time: Option<Sourced<TimeLimit>>,
    /// `--signal`.
    pub(crate) signal: Option<Sourced<SignalRequest>>,
    /// `--mem`.
    pub(crate) memory_per_node: Option<Sourced<Memory>>,
    /// `--mem-per-cpu`.
    pub(crate) memory_per_cpu: Option<Sourced<Memory>>,
    /// `--mem-per-gpu`.
    pub(crate) memory_per_gpu: Option<Sourced<Memory>>,
    /// `--partition`; elsewhere the queue.
    pub(crate) queue: Option<Sourced<String>>,
    /// `--array`.
    pub(crate) array: Option<Sourced<String>>,
    /// Whether the job asks to have its nodes for itself.
    pub(crate) whole_nodes: bool,
    /// Whether the tasks are those that the scheduler takes where nobody says how many.
    pub(crate) tasks_are_default: bool,
    /// Why it is not known how many nodes and tasks there are, where it is not.
    pub(crate) unknown: Option<Reason>,
    /// Why it is not known how many GPUs a node has, though some are asked for.
    pub(crate) unknown_gpus: Option<Reason>,
}

/// The layout on a certain number of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Nodes that the job really gets.
    pub(crate) nodes: Number,
    /// Tasks that the scheduler's own launcher starts.
    pub(crate) tasks: Sourced<Number>,
    /// Tasks on the fullest node.
    pub(crate) tasks_per_node: Number,
    /// GPUs on each node; nothing where none are asked for.
    pub(crate) gpus_per_node: Option<Sourced<Number>>,
}

const ONE_FOR_EACH_NODE: &str = "one for each node";

fn read<T: std::str::FromStr<Err = ValueError>>(setting: Option<&Setting>) -> Option<Sourced<T>> {
    let setting = setting?;
    Some(Sourced::new(setting.parse().ok()?, (&setting.origin).into()))
}

fn count(setting: Option<&Setting>) -> Option<Sourced<usize>> {
    read::<Count>(setting).map(|count| Sourced::new(count.value.0, count.origin))
}

fn text_of(request: &Request, name: &str) -> Option<Sourced<String>> {
    let setting = request.get(name)?;
    Some(Sourced::new(setting.value.clone().unwrap_or_default(), (&setting.origin).into()))
}

impl Job {
    pub(crate) fn new(request: Request) -> Self {
        let of_gres = || {
            let gres = read::<Gres>(request.get("gres"))?;
            let count = usize::try_from(gres.value.gpus()?).ok()?;
            let gpus = GpuCount { kind: gres.value.gpu_kind().map(str::to_owned), count };
            Some(Sourced::new(gpus, gres.origin))
        };
        Self {
            nodes: read(request.get("nodes")),
            tasks: count(request.get("ntasks")),
            tasks_per_node: count(request.get("ntasks-per-node")),
            cpus_per_task: count(request.get("cpus-per-task")),
            gpus_per_node: read(request.get("gpus-per-node")).or_else(of_gres),
            gpus: read(request.get("gpus")),
            gpus_per_task: read(request.get("gpus-per-task")),
            gpus_per_socket: read(request.get("gpus-per-socket")),
            tasks_per_gpu: count(request.get("ntasks-per-gpu")),
            sockets_per_node: count(request.get("sockets-per-node")),
            time: read(request.get("time")),
            signal: read(request.get("signal")),
            memory_per_node: read(request.get("mem")),
            memory_per_cpu: read(request.get("mem-per-cpu")),
            memory_per_gpu: read(request.get("mem-per-gpu")),
            queue: text_of(&request, "partition"),
            array: text_of(&request, "array"),
            whole_nodes: request.get("exclusive").is_some_and(|setting| {
                setting.value.as_deref().is_none_or(|value| !matches!(value, "user" | "mcs" | "topo" | "no"))
            }),
            tasks_are_default: false,
            unknown_gpus: None,
            unknown: ["nodes", "ntasks", "ntasks-per-node"].iter().find_map(|name| {
                let setting = request.get(name)?;
                let value = setting.value.as_deref().unwrap_or_default();
                let span = Origin::from(&setting.origin).span();
                let why = || Reason::new(format!("'{value}' is no number for --{name}"), span);
                setting.option.kind.validate(value).is_err().then(why)
            }),
            request,
        }
    }

    /// What a script of another scheduler asks for.
    pub(crate) fn of_batch_script(asked: &batch_script::Request) -> Self {
        fn sourced<T: Clone>(found: &Option<batch_script::Found<T>>) -> Option<Sourced<T>> {
            found.as_ref().map(|found| Sourced::new(found.value.clone(), Origin::Script(found.span)))
        }
        let gpus = |found: &Option<batch_script::Found<usize>>| {
            sourced(found).map(|count| Sourced::new(GpuCount { kind: None, count: count.value }, count.origin))
        };
        let counts = [&asked.nodes, &asked.tasks, &asked.tasks_per_node, &asked.cpus_per_task];
        let none = counts.into_iter().flatten().find(|count| count.value == 0);
        let unknown = none.map(|none| Reason::new("a number of nodes, tasks or CPUs is 0", none.span));
        let asked = &batch_script::Request {
            nodes: asked.nodes.clone().filter(|count| count.value > 0),
            tasks: asked.tasks.clone().filter(|count| count.value > 0),
            tasks_per_node: asked.tasks_per_node.clone().filter(|count| count.value > 0),
            cpus_per_task: asked.cpus_per_task.clone().filter(|count| count.value > 0),
            ..asked.clone()
        };
        let exact = |count: usize| count.to_string().parse::<NodeCount>().ok();
        let nodes = sourced(&asked.nodes).and_then(|nodes| Some(Sourced::new(exact(nodes.value)?, nodes.origin)));
        let minutes = |seconds: u64| TimeLimit::Minutes(seconds.div_ceil(60));
        Self {
            nodes,
            tasks: sourced(&asked.tasks),
            tasks_per_node: sourced(&asked.tasks_per_node),
            cpus_per_task: sourced(&asked.cpus_per_task),
            gpus_per_node: gpus(&asked.gpus_per_node),
            gpus_per_task: gpus(&asked.gpus_per_task),
            time: sourced(&asked.seconds).map(|seconds| Sourced::new(minutes(seconds.value), seconds.origin)),
            memory_per_node: sourced(&asked.memory_per_node)
                .map(|mib| Sourced::new(Memory { mib: mib.value }, mib.origin)),
            queue: sourced(&asked.queue),
            array: sourced(&asked.array),
            whole_nodes: asked.whole_nodes.is_some(),
            tasks_are_default: asked.tasks_are_default,
            unknown_gpus: asked.unknown_gpus.as_ref().map(|found| Reason::new(found.value, found.span)),
            unknown: asked.unknown.as_ref().map(|found| Reason::new(found.value, found.span)).or(unknown),
            ..Self::new(Request::default())
        }
    }

    /// The value of a text option.
    pub(crate) fn text(&self, name: &str) -> Option<Sourced<String>> {
        text_of(&self.request, name)
    }

    /// Whether the option is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.request.get(name).is_some()
    }

    /// Where the option stands in the script, if it does.
    pub(crate) fn span(&self, name: &str) -> Option<source_text::Span> {
        Origin::from(&self.request.get(name)?.origin).span()
    }

    /// Whether the job asks for GPUs at all.
    pub(crate) fn asks_for_gpus(&self) -> bool {
        if self.unknown_gpus.is_some() {
            return true;
        }
        let counts = [&self.gpus_per_node, &self.gpus, &self.gpus_per_task, &self.gpus_per_socket];
        counts.into_iter().flatten().any(|gpus| gpus.value.count > 0)
    }

    /// The option that asks for GPUs.
    pub(crate) fn gpu_request(&self) -> Option<&Sourced<GpuCount>> {
        [&self.gpus_per_node, &self.gpus, &self.gpus_per_task, &self.gpus_per_socket].into_iter().flatten().next()
    }

    /// The type of GPU that the job names.
    pub(crate) fn gpu_kind(&self) -> Option<&str> {
        [&self.gpus_per_node, &self.gpus, &self.gpus_per_task, &self.gpus_per_socket]
            .into_iter()
            .flatten()
            .find_map(|gpus| gpus.value.kind.as_deref())
    }

    /// Every number of nodes that the job may get.
    pub(crate) fn node_counts(&self) -> Vec<usize> {
        let fewest = match (&self.tasks, &self.tasks_per_node) {
            (Some(tasks), Some(per_node)) => tasks.value.div_ceil(per_node.value),
            _ => 1,
        };
        match &self.nodes {
            // More than a few thousand sizes say nothing that the first and the last do not.
            Some(nodes) => nodes.value.counts().take(4096).filter(|&count| count > 0).collect(),
            // GPUs of the whole job over GPUs of a node are its nodes.
            None => match (&self.gpus, &self.gpus_per_node) {
                (Some(all), Some(each)) if each.value.count > 0 => {
                    vec![all.value.count.div_ceil(each.value.count).max(1)]
                }
                _ => vec![fewest],
            },
        }
    }

    /// Whether the job says how many tasks there are.
    pub(crate) fn has_tasks(&self) -> bool {
        self.tasks.is_some() || self.tasks_per_node.is_some() || self.tasks_per_gpu.is_some()
    }

    /// The layout on `nodes` nodes, as Slurm works it out.
    pub(crate) fn placement(&self, nodes: usize) -> Placement {
        if let Some(reason) = &self.unknown {
            let unknown = Number::Unknown(reason.clone());
            let gpus = self.gpus_per_node.as_ref();
            return Placement {
                nodes: unknown.clone(),
                tasks: Sourced::new(unknown.clone(), Origin::Default),
                tasks_per_node: unknown,
                gpus_per_node: gpus.map(|gpus| Sourced::new(Number::Exactly(gpus.value.count), gpus.origin.clone())),
            };
        }
        let total_gpus = self.gpus.as_ref().map(|gpus| gpus.value.count);
        let gpus_everywhere =
            self.gpus_per_node.as_ref().map(|gpus| gpus.value.count.saturating_mul(nodes)).or(total_gpus);
        let tasks = match (&self.tasks, &self.tasks_per_node, &self.tasks_per_gpu, &self.gpus_per_task) {
            (Some(tasks), ..) => tasks.clone(),
            (None, Some(per_node), ..) => {
                Sourced::new(per_node.value.saturating_mul(nodes), Origin::Derived("nodes × tasks per node"))
            }
            (None, None, Some(per_gpu), _) if gpus_everywhere.is_some() => {
                let tasks = per_gpu.value.saturating_mul(gpus_everywhere.unwrap_or(0));
                Sourced::new(tasks, Origin::Derived("GPUs × tasks per GPU"))
            }
            (None, None, None, Some(per_task)) if total_gpus.is_some() && per_task.value.count > 0 => {
                let tasks = total_gpus.unwrap_or(0) / per_task.value.count;
                Sourced::new(tasks, Origin::Derived("GPUs / GPUs per task"))
            }
            _ => Sourced::new(nodes, Origin::Derived(ONE_FOR_EACH_NODE)),
        };
        // Fewer tasks than nodes: sbatch warns and takes fewer nodes.
        let nodes = if self.tasks.is_some() && self.nodes.is_some() { nodes.min(tasks.value.max(1)) } else { nodes };
        let nodes = match self.why_more_nodes(tasks.value) {
            Some(reason) => Number::AtLeast(nodes, reason),
            None => Number::Exactly(nodes),
        };
        let one_for_each = matches!(tasks.origin, Origin::Derived(ONE_FOR_EACH_NODE));
        let number = if one_for_each { nodes.clone() } else { Number::Exactly(tasks.value) };
        // Only a number of tasks on each node fixes how they are spread.
        let tasks_per_node = match (&self.tasks_per_node, &self.tasks, &nodes) {
            _ if one_for_each => Number::Exactly(1),
            (Some(per_node), None, _) => Number::Exactly(per_node.value.min(tasks.value)),
            (Some(per_node), Some(_), Number::Exactly(count))
                if per_node.value.saturating_mul(*count) == tasks.value =>
            {
                Number::Exactly(per_node.value)
            }
            (_, Some(all), Number::Exactly(count)) if *count > 1 && tasks.value > *count => {
                let text = "how the tasks are spread over the nodes is not fixed: --ntasks-per-node does that";
                Number::Unknown(Reason::new(text, all.span()))
            }
            _ => number.spread_over(&nodes),
        };
        let gpus_per_node = self.gpus_of_a_node(&nodes, &tasks_per_node);
        Placement { nodes, tasks: Sourced::new(number, tasks.origin), tasks_per_node, gpus_per_node }
    }

    /// Why the scheduler may take more nodes than it must.
    fn why_more_nodes(&self, tasks: usize) -> Option<Reason> {
        let by_gpus = self.gpus.is_some() && self.gpus_per_node.is_some();
        let gpus = self.gpus.as_ref().filter(|gpus| gpus.value.count > 1);
        if let (None, None, None, Some(gpus)) = (&self.nodes, &self.tasks, &self.gpus_per_node, gpus) {
            return Some(Reason::new(
                "the GPUs may be on several nodes, because no number of nodes is given",
                gpus.span(),
            ));
        }
        if self.nodes.is_some() || tasks <= 1 || by_gpus || self.tasks.is_some() && self.tasks_per_node.is_some() {
            return None;
        }
        let several = self.tasks.is_some() || self.gpus.is_some();
        let span = self.tasks.as_ref().or(self.tasks_per_gpu.as_ref()).and_then(Sourced::span);
        several.then(|| {
            Reason::new("the tasks may be spread over several nodes, because no number of nodes is given", span)
        })
    }

    fn gpus_of_a_node(&self, nodes: &Number, tasks_per_node: &Number) -> Option<Sourced<Number>> {
        if let Some(reason) = &self.unknown_gpus {
            return Some(Sourced::new(Number::Unknown(reason.clone()), Origin::Default));
        }
        if let Some(gpus) = &self.gpus_per_node {
            return Some(Sourced::new(Number::Exactly(gpus.value.count), gpus.origin.clone()));
        }
        if let Some(gpus) = &self.gpus {
            let total = gpus.value.count;
            let spread = |text: &'static str| Number::Unknown(Reason::new(text, gpus.span()));
            return Some(match (nodes, total) {
                (Number::Exactly(1), _) | (_, 0 | 1) => Sourced::new(Number::Exactly(total), gpus.origin.clone()),
                (Number::Exactly(nodes), _) if total.is_multiple_of(*nodes) => {
                    Sourced::new(Number::Exactly(total / nodes), Origin::Derived("GPUs / nodes"))
                }
                (Number::Exactly(_), _) => {
                    Sourced::new(spread("the GPUs cannot be spread evenly over the nodes"), gpus.origin.clone())
                }
                _ => Sourced::new(spread("the GPUs may be spread over several nodes"), gpus.origin.clone()),
            });
        }
        if let Some(per_task) = &self.gpus_per_task {
            let count = Number::Exactly(per_task.value.count).times(tasks_per_node);
            return Some(Sourced::new(count, Origin::Derived("GPUs per task × tasks per node")));
        }
        if let (Some(per_socket), Some(sockets)) = (&self.gpus_per_socket, &self.sockets_per_node) {
            let count = per_socket.value.count.saturating_mul(sockets.value);
            return Some(Sourced::new(Number::Exactly(count), Origin::Derived("GPUs per socket × sockets")));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(words: &str) -> Job {
        let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
        Job::new(Request::without_script(|_| None, &words))
    }

    #[test]
    fn placements() {
        // options, nodes -> nodes, tasks, tasks per node, GPUs per node
        let cases = [
            ("", 1, "1 1 1 -"),
            ("-N2", 2, "2 2 1 -"),
            ("-N2 --ntasks-per-node=4 --gres=gpu:4", 2, "2 8 4 4"),
            ("-N8 -n4", 8, "4 4 1 -"),
            ("-N3 --gpus=8", 3, "3 3 1 unknown"),
            ("-N2 --gpus=8", 2, "2 2 1 4"),
            ("-n1 --gpus=8", 1, "1 1 1 8"),
            ("-n4 --gpus-per-task=1", 1, "1 or more 4 unknown unknown"),
            ("-N1 -n4 --gpus-per-task=1", 1, "1 4 4 4"),
            ("--gpus=8 --gpus-per-task=2", 1, "1 or more 4 unknown unknown"),
            ("-N1 --gpus=8 --ntasks-per-gpu=1", 1, "1 8 8 8"),
            ("-N2 --gpus-per-socket=2 --sockets-per-node=2", 2, "2 2 1 4"),
            ("-n10 -N4", 4, "4 10 unknown -"),
            ("-n8 -N4 --ntasks-per-node=2", 4, "4 8 2 -"),
            ("-n4 -N4", 4, "4 4 1 -"),
        ];
        for (words, nodes, expected) in cases {
            let got = job(words).placement(nodes);
            let gpus = got.gpus_per_node.map_or("-".to_owned(), |gpus| gpus.value.to_string());
            let shown = format!("{} {} {} {gpus}", got.nodes, got.tasks.value, got.tasks_per_node);
            assert_eq!(shown, expected, "{words}");
        }
        assert_eq!(job("-n16 --ntasks-per-node=4").node_counts(), [4]);
        assert_eq!(job("-N2-4").node_counts(), [2, 3, 4]);
    }
}
