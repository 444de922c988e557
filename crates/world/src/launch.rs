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
];

impl Launcher {
    /// The launcher of this process, if a known one started it. MPI need not be initialized.
    pub fn detect() -> Option<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name| variable(name).and_then(|text| text.trim().parse().ok());
        LAUNCHERS.iter().find_map(|&(name, tasks, task, help)| {
            Some(Self { name, tasks: number(tasks)?, task: number(task).unwrap_or(0), help })
        })
    }
}

pub(crate) fn refuse_singletons(size: usize) -> Result<(), LaunchError> {
    match Launcher::detect() {
        Some(Launcher { name, tasks, help, .. }) if size == 1 && tasks > 1 => {
            let library = mpi::environment::library_version().unwrap_or_default();
            let library = library.lines().next().and_then(|line| line.split(',').next()).unwrap_or("an unknown MPI");
            Err(LaunchError::Singleton { launcher: name, tasks, library: library.trim().to_owned(), help })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ];
        for (variables, expected) in cases {
            let got = Launcher::from_variables(|name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            });
            assert_eq!(got.map(|launcher| (launcher.name, launcher.tasks, launcher.task)), *expected);
        }
    }
}
