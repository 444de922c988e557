//! Was this process started the way MPI thinks it was?
//!
//! The one place that reads the launchers' environment variables, and only to find out that MPI is wrong: N copies of
//! "rank 0 of 1" would each train alone and overwrite each other's files.

use crate::error::Error;

/// Why the ranks could not come together.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The launcher started several tasks, and each of them is alone in its own MPI world.
    #[error(
        "{launcher} started {tasks} tasks, but MPI sees only one: this program is linked with {library}, which does \
         not speak with that launcher; {help}"
    )]
    Singleton {
        /// The launcher, by its variables.
        launcher: &'static str,
        /// How many tasks it started.
        tasks: usize,
        /// The MPI library of this program.
        library: String,
        /// What to type instead.
        help: &'static str,
    },
    /// Variables of a launcher that is not there.
    #[error(
        "{variable}={tasks} is set as if {launcher} had started {tasks} tasks, but MPI sees only this one, and no launcher \
         runs above it: if it is left over from something else, type unset {variable}; else {help}"
    )]
    Leftover {
        /// The variable that speaks of several tasks.
        variable: &'static str,
        /// How many.
        tasks: usize,
        /// The launcher that sets it.
        launcher: &'static str,
        /// What to type instead.
        help: &'static str,
    },
    /// Several processes that MPI has not started, each of which would train alone.
    #[error(
        "torchrun started {tasks} processes (WORLD_SIZE={tasks}), and each would train alone: ranks come from MPI here; type \
         mpirun -n {tasks}, or srun, in the place of torchrun"
    )]
    Torchrun {
        /// How many.
        tasks: usize,
    },
    /// srun started Open MPI's ranks without a process manager's interface, and Open MPI ends such a program in MPI_Init
    /// with advice about building Slurm.
    #[error(
        "srun started {} and gave {library} no way to find the others: type srun --mpi=pmix, or export \
         SLURM_MPI_TYPE=pmix for every srun (srun --mpi=list shows what this Slurm has){}",
        if *tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") },
        if *tasks == 1 { "; in a shell of srun --pty, mpirun -n 1" } else { "" }
    )]
    Unconnected {
        /// How many tasks srun started.
        tasks: usize,
        /// The MPI library of this program.
        library: String,
    },
    /// MPI gives too few guarantees about threads.
    #[error("MPI gives only thread level {got}, and MPI_THREAD_MULTIPLE is needed: use an MPI that was built with it")]
    Threads {
        /// The level that MPI gave.
        got: String,
    },
    /// MPI can be initialized once in a process.
    #[error("MPI is initialized already")]
    InitializedBefore,
    /// The first exchange between the ranks failed.
    #[error("the ranks could not find each other: {0}")]
    Exchange(String),
}

impl LaunchError {
    pub(crate) fn from_world(error: Error) -> Self {
        Self::Exchange(error.to_string())
    }
}

/// What the launcher says about this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// Its name, for messages.
    pub name: &'static str,
    /// How many tasks it started.
    pub tasks: usize,
    /// This task among them, from 0.
    pub task: usize,
    /// The variable with the number of tasks.
    variable: &'static str,
    help: &'static str,
}

/// Variables of (number of tasks, this task), the most specific launcher first: `mpirun` inside a Slurm job sets its
/// own and leaves Slurm's, which then speak of something else.
const LAUNCHERS: &[(&str, &str, &str, &str)] = &[
    (
        "Open MPI's mpirun",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "start it with the mpirun of the MPI it was built with, or build it with this one (MPICC=mpicc cargo build)",
    ),
    (
        "a PMI launcher (MPICH's or Intel MPI's mpiexec, or srun --mpi=pmi2)",
        "PMI_SIZE",
        "PMI_RANK",
        "start it with the mpirun of the MPI it was built with; Open MPI under Slurm wants srun --mpi=pmix",
    ),
    (
        "srun",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_PROCID",
        "try srun --mpi=pmix (Open MPI) or srun --mpi=pmi2 (MPICH); srun --mpi=list shows what this Slurm has",
    ),
    (TORCHRUN, "WORLD_SIZE", "RANK", "start it with mpirun or srun"),
];

const TORCHRUN: &str = "torchrun";

/// What launchers' own processes are called, on the nodes where they start tasks.
const PROCESSES: [&str; 16] = [
    "mpirun",
    "mpiexec",
    "orterun",
    "orted",
    "prte",
    "prun",
    "hydra_",
    "pmi_proxy",
    "pmi-proxy",
    "slurmstepd",
    "srun",
    "palsd",
    "aprun",
    "jsrun",
    "torchrun",
    "pt_elastic",
];

impl Launcher {
    /// The launcher of this process, if a known one started it. MPI need not be initialized.
    pub fn detect() -> Option<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name| variable(name).and_then(|text| text.trim().parse().ok());
        LAUNCHERS.iter().find_map(|&(name, tasks, task, help)| {
            Some(Self { name, tasks: number(tasks)?, task: number(task).unwrap_or(0), variable: tasks, help })
        })
    }

    /// Whether this process should speak for all that the launcher started, as long as MPI cannot say who is who: the first
    /// task, and whoever has a launcher's variables alone.
    pub fn speaks() -> bool {
        Self::detect().is_none_or(|launcher| launcher.task == 0 || !launcher.is_running())
    }

    /// Whether a launcher, or what may be one, is among the processes above this one.
    fn is_running(&self) -> bool {
        let is_launcher = |name: &str| {
            PROCESSES.iter().any(|known| name.starts_with(known))
                || (self.name == TORCHRUN && name.starts_with("python"))
        };
        ancestors().iter().any(|name| is_launcher(name))
    }
}

/// The names of the processes above this one, as far as the system shows them.
fn ancestors() -> Vec<String> {
    let mut names = Vec::new();
    let mut process = std::os::unix::process::parent_id();
    while process > 1 && names.len() < 64 {
        // "17 (name) S 1 …": a name may hold anything.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { break };
        let Some(((_, name), rest)) =
            stat.rsplit_once(") ").and_then(|(head, rest)| Some((head.split_once(" (")?, rest)))
        else {
            break;
        };
        names.push(name.to_owned());
        process = rest.split(' ').nth(1).and_then(|parent| parent.parse().ok()).unwrap_or(0);
    }
    names
}

/// How many tasks the surrounding Slurm job has, where it has several and no launcher started this process: what it looks
/// like when `srun` was forgotten in a batch script.
pub fn idle_tasks() -> Option<usize> {
    idle_tasks_by(|name| std::env::var(name).ok())
}

fn idle_tasks_by(variable: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let tasks = variable("SLURM_NTASKS")?.parse().ok()?;
    (tasks > 1 && Launcher::from_variables(variable).is_none()).then_some(tasks)
}

/// Whether the launcher says that it started all ranks on one node. Not more than a hint: it decides what MPI looks at, not
/// what it finds.
pub(crate) fn is_on_one_node(variable: impl Fn(&str) -> Option<String>) -> bool {
    let number = |name| variable(name)?.trim().parse::<usize>().ok();
    match (number("OMPI_COMM_WORLD_SIZE"), number("SLURM_STEP_NUM_TASKS")) {
        (Some(tasks), _) => number("OMPI_COMM_WORLD_LOCAL_SIZE") == Some(tasks),
        (None, Some(_)) => number("SLURM_STEP_NUM_NODES") == Some(1),
        (None, None) => false,
    }
}

/// The interface through which a launcher tells ranks of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessManagement {
    /// PMIx: Open MPI's, and recent MPICH's.
    Pmix,
    /// PMI-1 or PMI-2: MPICH's.
    Pmi,
    Nothing,
}

fn process_management(variable: impl Fn(&str) -> Option<String>) -> ProcessManagement {
    let is_set = |name| variable(name).is_some();
    if is_set("PMIX_RANK") {
        ProcessManagement::Pmix
    } else if is_set("PMI_RANK") || is_set("PMI_FD") {
        ProcessManagement::Pmi
    } else {
        ProcessManagement::Nothing
    }
}

/// Before MPI_Init, which would end the program with other words: can these ranks find each other?
pub(crate) fn refuse_unconnected() -> Result<(), LaunchError> {
    let variable = |name: &str| std::env::var(name).ok();
    // Not where mpirun came in between: it sets its own variables.
    let by_srun = variable("SLURM_STEP_NUM_TASKS").and_then(|tasks| tasks.parse().ok());
    let Some(tasks) = by_srun.filter(|_| variable("OMPI_COMM_WORLD_SIZE").is_none()) else { return Ok(()) };
    let library = library();
    if !library.starts_with("Open MPI") {
        return Ok(());
    }
    match process_management(variable) {
        ProcessManagement::Pmix => {}
        ProcessManagement::Nothing => return Err(LaunchError::Unconnected { tasks, library }),
        ProcessManagement::Pmi => {
            // Some builds know PMI; what the others say in MPI_Init does not help.
            if variable("SLURM_PROCID").is_none_or(|task| task == "0") {
                eprintln!("{library} was started by srun --mpi=pmi2; if it ends here, type srun --mpi=pmix");
            }
        }
    }
    Ok(())
}

/// The MPI library of this program: "Open MPI v4.1.4".
fn library() -> String {
    let version = mpi::environment::library_version().unwrap_or_default();
    let name = version.lines().next().and_then(|line| line.split(',').next()).unwrap_or_default();
    if name.is_empty() { "an unknown MPI".to_owned() } else { name.trim().to_owned() }
}

pub(crate) fn refuse_singletons(size: usize) -> Result<(), LaunchError> {
    match Launcher::detect() {
        Some(launcher) if size == 1 && launcher.tasks > 1 => {
            let Launcher { name, tasks, variable, help, .. } = launcher;
            Err(match launcher.is_running() {
                false => LaunchError::Leftover { variable, tasks, launcher: name, help },
                true if name == TORCHRUN => LaunchError::Torchrun { tasks },
                true => LaunchError::Singleton { launcher: name, tasks, library: library(), help },
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_srun_is_noticed() {
        let cases: &[(&[(&str, &str)], _)] = &[
            (&[], None),
            (&[("SLURM_NTASKS", "1")], None),
            (&[("SLURM_NTASKS", "4")], Some(4)),
            (&[("SLURM_NTASKS", "4"), ("SLURM_STEP_NUM_TASKS", "4")], None),
            (&[("SLURM_NTASKS", "4"), ("OMPI_COMM_WORLD_SIZE", "1")], None),
        ];
        for (variables, expected) in cases {
            let got = idle_tasks_by(|name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            });
            assert_eq!(got, *expected, "{variables:?}");
        }
    }

    #[test]
    fn the_processes_above_are_found() {
        let parent = std::fs::read_to_string(format!("/proc/{}/comm", std::os::unix::process::parent_id())).unwrap();
        assert_eq!(ancestors().first().map(String::as_str), Some(parent.trim_end()));
    }

    #[test]
    fn the_interface_is_known_by_its_variables() {
        let cases: &[(&[&str], _)] = &[
            (&[], ProcessManagement::Nothing),
            (&["PMI_FD", "PMI_RANK"], ProcessManagement::Pmi),
            (&["PMIX_RANK", "PMI_RANK"], ProcessManagement::Pmix),
        ];
        for (set, expected) in cases {
            assert_eq!(process_management(|name| set.contains(&name).then(|| "0".to_owned())), *expected);
        }
    }

    #[test]
    fn the_most_specific_launcher_counts() {
        type Case = (&'static [(&'static str, &'static str)], Option<(&'static str, usize, usize)>);
        let cases: &[Case] = &[
            (&[], None),
            (&[("SLURM_NTASKS", "4")], None), // a batch script's own shell, no step
            (&[("SLURM_STEP_NUM_TASKS", "4"), ("SLURM_PROCID", "3")], Some(("srun", 4, 3))),
            (
                &[("SLURM_STEP_NUM_TASKS", "1"), ("OMPI_COMM_WORLD_SIZE", "8"), ("OMPI_COMM_WORLD_RANK", "5")],
                Some(("Open MPI's mpirun", 8, 5)),
            ),
            (&[("OMPI_COMM_WORLD_SIZE", "many")], None),
            (&[("WORLD_SIZE", "4"), ("RANK", "2")], Some(("torchrun", 4, 2))),
            // A script that exports torchrun's variables, and starts with MPI's launcher all the same.
            (&[("WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_SIZE", "1")], Some(("Open MPI's mpirun", 1, 0))),
        ];
        for (variables, expected) in cases {
            let got = Launcher::from_variables(|name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            });
            assert_eq!(got.map(|launcher| (launcher.name, launcher.tasks, launcher.task)), *expected);
        }
    }
}
