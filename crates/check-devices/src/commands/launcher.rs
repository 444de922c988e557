//! What starts ranks: one table, a file for each launcher.

use sbatch::Version;
use shell::Reason;

use super::launchers::{
    accelerate, aprun, composer, deepspeed, fabric, flux, horovodrun, ibrun, jsrun, mpirun, srun, torchrun,
};
use super::options::{Given, Grammar, Options};
use crate::job::Placement;
use crate::number::Number;
use crate::origin::Origin;

/// A program that starts ranks.
#[derive(Debug)]
pub(crate) struct Launcher {
    /// Its name for people.
    pub(crate) name: &'static str,
    /// The names that it is called by: a file name, and the words that must follow it.
    pub(super) programs: &'static [&'static [&'static str]],
    /// The modules that `python -m` calls it by.
    pub(super) modules: &'static [&'static str],
    /// Its options.
    pub(super) grammar: Grammar,
    /// The variables that it reads, and the options that they stand for.
    pub(super) environment: &'static [(&'static str, &'static str)],
    /// Where its ranks come.
    pub(crate) reach: Reach,
    /// How many it starts.
    pub(super) processes: fn(&Options, &Around<'_>) -> Processes,
}

/// Where a launcher's ranks come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// On all nodes of the job: it is started once.
    Job,
    /// On its own node: it is started once on each.
    Node,
}

/// All launchers.
pub(crate) const LAUNCHERS: &[&Launcher] = &[
    &srun::SRUN,
    &mpirun::MPIRUN,
    &torchrun::TORCHRUN,
    &accelerate::ACCELERATE,
    &deepspeed::DEEPSPEED,
    &composer::COMPOSER,
    &horovodrun::HOROVODRUN,
    &fabric::FABRIC,
    &jsrun::JSRUN,
    &jsrun::LRUN,
    &flux::FLUX,
    &aprun::APRUN,
    &ibrun::IBRUN,
];

/// Processes that are started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Processes {
    /// Those that belong together: the ranks of one training.
    pub(crate) total: Number,
    /// On the fullest node.
    pub(crate) per_node: Number,
    /// Nodes that they are on.
    pub(crate) nodes: Number,
    /// How the number follows.
    pub(crate) origin: Origin,
    /// For launchers of a node's ranks.
    pub(crate) agents: Option<Agents>,
    /// Tasks of srun's step, where there is one: each of them may start several ranks.
    pub(crate) tasks_of_srun: Option<Number>,
}

/// Launchers that each start the ranks of their node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agents {
    /// How many are started, by all copies of the command.
    pub(crate) started: Number,
    /// How many one of the copies starts.
    pub(crate) by_one_command: Number,
    /// On each node.
    pub(crate) per_node: Number,
    /// How many of them make one training.
    pub(crate) nodes: Number,
}

impl Processes {
    /// One process, on the first node: what a batch script is.
    pub(crate) fn one() -> Self {
        let one = Number::Exactly(1);
        let origin = Origin::Derived("no launcher: one process");
        Self { total: one.clone(), per_node: one.clone(), nodes: one, origin, agents: None, tasks_of_srun: None }
    }

    /// The same on as many nodes as take `nodes`.
    pub(super) fn over(total: Number, nodes: Number, origin: Origin) -> Self {
        Self { per_node: total.spread_over(&nodes), total, nodes, origin, agents: None, tasks_of_srun: None }
    }

    /// The ranks that `agents` start together, `each` of them on a node, for a training on `nodes` nodes.
    pub(super) fn of_agents(each: &Number, nodes: Number, around: &Around<'_>, origin: Origin) -> Self {
        let agents = around.outer.total.times(&around.copies);
        let by_one_command = around.outer.total.clone();
        let total = match agents.clone() {
            // What does not know how often it is started does not know whether its nodes come together.
            Number::Unknown(reason) | Number::AtLeast(_, reason) if nodes.exactly().is_none_or(|nodes| nodes > 1) => {
                let started = Number::Unknown(reason.clone());
                let agents =
                    Agents { started, by_one_command, per_node: around.outer.per_node.clone(), nodes: nodes.clone() };
                let per_node = each.times(&around.outer.per_node);
                return Self {
                    total: Number::Unknown(reason),
                    per_node,
                    nodes,
                    origin,
                    agents: Some(agents),
                    tasks_of_srun: None,
                };
            }
            _ => each.times(&nodes),
        };
        let per_node = each.times(&around.outer.per_node);
        let agents =
            Agents { started: agents, by_one_command, per_node: around.outer.per_node.clone(), nodes: nodes.clone() };
        Self { total, per_node, nodes, origin, agents: Some(agents), tasks_of_srun: None }
    }
}

/// What a launcher finds around itself.
pub(crate) struct Around<'a> {
    /// How often it is started itself.
    pub(crate) outer: &'a Processes,
    /// How often the command that starts it is run side by side: in a loop, with `&`.
    pub(crate) copies: Number,
    /// What the job has.
    pub(crate) placement: &'a Placement,
    /// Whether the job says how many tasks there are.
    pub(crate) has_tasks: bool,
    /// CPUs that the job asks for each of its tasks, where it does.
    pub(crate) cpus_per_task: Option<usize>,
    /// Whether the job is known to have whole nodes.
    pub(crate) whole_nodes: bool,
    /// Slurm's release, where it is known.
    pub(crate) slurm: Option<Version>,
    /// CUDA devices of a node.
    pub(crate) devices: &'a Number,
    /// Reads a file that the command names.
    pub(crate) read: &'a dyn Fn(&str) -> Option<String>,
}

impl Around<'_> {
    /// One process for each device of a node, or one where there are none.
    pub(super) fn one_for_each_device(&self) -> Number {
        match self.devices {
            Number::Exactly(0) => Number::Exactly(1),
            devices => devices.clone(),
        }
    }
}

/// An option's number; `otherwise` where it is not given.
pub(super) fn number(options: &Options, names: &[&str], otherwise: impl FnOnce() -> Number) -> Number {
    match options.number(names) {
        Given::Is(number, _) => Number::Exactly(number),
        Given::Unknown(reason) => Number::Unknown(reason),
        Given::No => otherwise(),
    }
}

/// Where the option stands that says the number, or how it follows.
pub(super) fn origin(options: &Options, names: &[&str], otherwise: &'static str) -> Origin {
    match options.number(names) {
        Given::Is(_, span) => Origin::Script(span),
        _ => Origin::Derived(otherwise),
    }
}

/// Slots of a hostfile: `host slots=4`, `host:4`, one where nothing is said; all hosts, and all slots.
pub(super) fn slots_of_hostfile(text: &str) -> (usize, usize) {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let slots = |line: &str| {
        let said = line.split_whitespace().find_map(|word| word.strip_prefix("slots="));
        let behind_colon = || line.split_whitespace().next()?.split_once(':').map(|(_, slots)| slots);
        said.or_else(behind_colon).and_then(|slots| slots.parse::<usize>().ok()).unwrap_or(1)
    };
    lines.filter(|line| !line.is_empty()).fold((0, 0), |(hosts, all), line| (hosts + 1, all + slots(line)))
}

/// A hostfile that an option names, read; `None` where none is named.
pub(super) fn hostfile(
    options: &Options,
    names: &[&str],
    around: &Around<'_>,
) -> Option<Result<(usize, usize), Reason>> {
    match options.text(names) {
        Given::No => None,
        Given::Unknown(reason) => Some(Err(reason)),
        Given::Is(path, span) => Some(match (around.read)(path) {
            Some(text) => Ok(slots_of_hostfile(&text)),
            None => Err(Reason::new(format!("the hostfile {path} is not here to be read"), span)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostfiles() {
        assert_eq!(slots_of_hostfile("a slots=4\nb slots=2 # two\n\n# c\nd:3\ne\n"), (4, 10));
    }

    #[test]
    fn no_option_is_in_two_lists_and_names_are_unique() {
        let mut names: Vec<_> = LAUNCHERS.iter().map(|launcher| launcher.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LAUNCHERS.len());
        for launcher in LAUNCHERS {
            let Grammar { values, flags, pairs, .. } = launcher.grammar;
            let mut all: Vec<_> = [values, flags, pairs].into_iter().flat_map(str::split_ascii_whitespace).collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "{}", launcher.name);
        }
    }
}
