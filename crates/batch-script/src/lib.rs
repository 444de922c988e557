//! What a batch script asks its scheduler for, where that is not Slurm (which has a crate of its own, `sbatch`).
//!
//! Each scheduler has a reader ([`read`]): which lines are its directives and where reading stops, how a line is cut into
//! words, what the options mean. What comes out is the same for all: a [`Request`] with the place of every value, and the
//! [problems](Problem) for which the scheduler would refuse the script. What a script alone cannot tell is left out:
//! how a site's queue or parallel environment completes it.
//!
//! The rules are those of the manuals and, where they are open, of the sources: OpenPBS and Torque, LSF 10.1, flux-core
//! (RFC 36), Grid Engine. Nothing here does I/O, and any text is read.
//!
//! ```
//! use batch_script::{Scheduler, read, scheduler};
//!
//! let text = "#!/bin/bash\n#PBS -l select=2:ncpus=8:mpiprocs=4:ngpus=4 -l place=scatter\nmpiexec ./a\n";
//! assert_eq!(scheduler(text, &|_| false), Some(Scheduler::Pbs));
//! let request = read(Scheduler::Pbs, text, &|_| false).request;
//! assert_eq!((request.nodes.unwrap().value, request.tasks.unwrap().value), (2, 8));
//! ```

mod flux;
mod lsf;
mod pbs;
mod sge;
mod words;

use source_text::Span;

/// A scheduler other than Slurm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// PBS Professional, OpenPBS, Torque: `#PBS`.
    Pbs,
    /// IBM Spectrum LSF: `#BSUB`.
    Lsf,
    /// Flux: `# flux:`, `#FLUX:`.
    Flux,
    /// Grid Engine: `#$`.
    Sge,
}

impl Scheduler {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pbs => "PBS",
            Self::Lsf => "LSF",
            Self::Flux => "Flux",
            Self::Sge => "Grid Engine",
        }
    }

    /// The command that submits a script.
    pub fn submit(self) -> &'static str {
        match self {
            Self::Pbs | Self::Sge => "qsub",
            Self::Lsf => "bsub",
            Self::Flux => "flux batch",
        }
    }
}

/// A value and the place that says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// What is asked for.
    pub value: T,
    /// The words that ask for it.
    pub span: Span,
}

/// What a job asks for, as far as its script says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Nodes. Not there where the scheduler may choose how many.
    pub nodes: Option<Found<usize>>,
    /// Tasks, or slots: what the scheduler's launcher, or an mpirun without a number, starts.
    pub tasks: Option<Found<usize>>,
    /// Tasks on each node, where every node has as many.
    pub tasks_per_node: Option<Found<usize>>,
    /// CPUs for each task.
    pub cpus_per_task: Option<Found<usize>>,
    /// GPUs on each node.
    pub gpus_per_node: Option<Found<usize>>,
    /// GPUs for each task.
    pub gpus_per_task: Option<Found<usize>>,
    /// MiB on each node.
    pub memory_per_node: Option<Found<u64>>,
    /// The time limit in seconds.
    pub seconds: Option<Found<u64>>,
    /// The queue.
    pub queue: Option<Found<String>>,
    /// Names of the site's that stand in it: accounts, projects, groups, queues.
    pub names: Vec<Found<String>>,
    /// Job arrays.
    pub array: Option<Found<String>>,
    /// Whether the nodes are the job's alone.
    pub whole_nodes: Option<Span>,
    /// Whether the tasks are those that the scheduler takes where nobody says how many: one for each chunk.
    pub tasks_are_default: bool,
    /// Why it is not known how many GPUs a node has, where GPUs are asked for in a way that does not say it.
    pub unknown_gpus: Option<Found<&'static str>>,
    /// Why it is not known how many nodes and tasks there are, where the script asks for them in another way.
    pub unknown: Option<Found<&'static str>>,
}

/// Something for which the scheduler refuses the script, or that it reads otherwise than it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is, in words.
    pub message: String,
    /// Where it is.
    pub span: Span,
}

/// A script, read by its scheduler's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// What it asks for.
    pub request: Request,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// The lines that are directives.
    pub directives: Vec<Span>,
}

/// Whose directives stand first in `text`; nothing where there are none of these, or Slurm's are among them. A line that
/// `is_data` is none: one of a text that the script writes somewhere.
pub fn scheduler(text: &str, is_data: &dyn Fn(Span) -> bool) -> Option<Scheduler> {
    if text.lines().any(|line| line.starts_with("#SBATCH")) {
        return None;
    }
    for (line, base) in words::lines(text) {
        if is_data(Span::new(base, base + line.len())) {
            continue;
        }
        let start = line.trim_start();
        if start.starts_with("#PBS") {
            return Some(Scheduler::Pbs);
        }
        if start.starts_with("#BSUB") {
            return Some(Scheduler::Lsf);
        }
        if flux::is_directive(line) {
            return Some(Scheduler::Flux);
        }
        if line.starts_with("#$") && line[2..].trim_start().starts_with('-') {
            return Some(Scheduler::Sge);
        }
    }
    None
}

/// Reads `text` as `scheduler` would, without the lines that are data.
pub fn read(scheduler: Scheduler, text: &str, is_data: &dyn Fn(Span) -> bool) -> Script {
    let mut script = match scheduler {
        Scheduler::Pbs => pbs::read(text),
        Scheduler::Lsf => lsf::read(text, is_data),
        Scheduler::Flux => flux::read(text),
        Scheduler::Sge => sge::read(text, is_data),
    };
    script.problems.sort_by_key(|problem| problem.span.start);
    script
}

impl Script {
    pub(crate) fn problem(&mut self, message: impl Into<String>, span: Span) {
        self.problems.push(Problem { message: message.into(), span });
    }
}

/// A value where nothing was said yet: of several, the first counts.
pub(crate) fn first<T>(place: &mut Option<Found<T>>, value: T, span: Span) {
    place.get_or_insert(Found { value, span });
}

/// A value of which the last one counts.
impl Request {
    /// Takes down a name of the site's, if `option` is one of `options`.
    pub(crate) fn note_name(&mut self, option: &str, options: &[&str], value: Option<&words::Word>) {
        if let Some(value) = value.filter(|_| options.contains(&option)) {
            self.names.push(Found { value: value.text.clone(), span: value.span });
        }
    }
}

pub(crate) fn last<T>(place: &mut Option<Found<T>>, value: T, span: Span) {
    *place = Some(Found { value, span });
}

/// Hours, minutes and seconds with colons between, of which the last is of `unit` seconds: `1:30` is 90 of them at 1.
pub(crate) fn clock(text: &str, most_parts: usize, unit: u64) -> Option<u64> {
    let parts: Vec<_> = text.split(':').collect();
    if parts.len() > most_parts {
        return None;
    }
    let number = |part: &&str| -> Option<u64> {
        (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse().ok())?
    };
    let numbers: Option<Vec<_>> = parts.iter().map(number).collect();
    let weights = [1u64, 60, 3600, 86_400];
    let numbers = numbers?;
    let weighed = numbers.iter().rev().zip(weights);
    weighed
        .map(|(number, weight)| number.checked_mul(weight)?.checked_mul(unit))
        .try_fold(0u64, |sum, part| sum.checked_add(part?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `nodes tasks cpus gpus memory seconds`, `-` where nothing is said.
    pub(crate) fn shown(scheduler: Scheduler, text: &str) -> String {
        fn word<T: std::fmt::Display>(found: &Option<Found<T>>) -> String {
            found.as_ref().map_or("-".to_owned(), |found| found.value.to_string())
        }
        let script = read(scheduler, text, &|_| false);
        let Request { nodes, tasks, cpus_per_task, gpus_per_node, gpus_per_task, memory_per_node, seconds, .. } =
            &script.request;
        let gpus = match gpus_per_task {
            Some(gpus) => format!("{}/task", gpus.value),
            None => word(gpus_per_node),
        };
        let words = [word(nodes), word(tasks), word(cpus_per_task), gpus, word(memory_per_node), word(seconds)];
        let problems: Vec<_> = script.problems.iter().map(|problem| format!(" !{}", problem.message)).collect();
        words.join(" ") + &problems.join("")
    }

    #[test]
    fn whose_script_it_is() {
        let cases = [
            ("#!/bin/bash\n#SBATCH -N1\n#PBS -l nodes=1\n", None),
            ("#!/bin/bash\n#PBS -l nodes=1\n", Some(Scheduler::Pbs)),
            ("#!/bin/bash\n#BSUB -n 4\n", Some(Scheduler::Lsf)),
            ("#!/bin/bash\n# flux: -N2\n", Some(Scheduler::Flux)),
            ("#!/bin/bash\n#FLUX: --nodes=2\n", Some(Scheduler::Flux)),
            ("#!/bin/bash\n#$ -pe mpi 4\n", Some(Scheduler::Sge)),
            ("#!/bin/bash\n# flux: a tool\n#$HOME\n", None),
            ("#!/bin/bash\nsrun x\n", None),
        ];
        for (text, expected) in cases {
            assert_eq!(scheduler(text, &|_| false), expected, "{text}");
        }
    }

    #[test]
    fn clocks() {
        assert_eq!(clock("1:30", 3, 1), Some(90));
        assert_eq!(clock("2:30", 2, 60), Some(9000));
        assert_eq!(clock("1:00:00", 3, 1), Some(3600));
        assert_eq!(clock("1:00:00:00", 3, 1), None);
        assert_eq!(clock("1::1", 3, 1), None);
        assert_eq!(clock("99999999999999999:0:0", 3, 1), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(#PBS|#BSUB|# flux:|#FLUX:|#\\$| -l| -n| -R| -gpu| -pe|select=|nodes=|span\\[|[a-z0-9=:+,\\[\\]\"' \n\\\\é-]){0,40}") {
            for scheduler in [Scheduler::Pbs, Scheduler::Lsf, Scheduler::Flux, Scheduler::Sge] {
                let script = read(scheduler, &text, &|_| false);
                for span in script.problems.iter().map(|problem| problem.span).chain(script.directives) {
                    prop_assert!(text.get(span.range()).is_some());
                }
            }
        }
    }
}
