//! Was this process started the way MPI thinks it was? N copies of "rank 0 of 1" would each train alone and overwrite each
//! other's files.

use mpi::{Launcher, Manager, Mpi, NoLibrary};

use crate::error::Error;

/// Why the ranks could not come together.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The launcher started several tasks, and each of them is alone in its own MPI world.
    #[error(
        "{launcher} started {tasks} tasks, but MPI sees only one: the library that was found, {library}, does \
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
    /// No MPI could be opened.
    #[error(transparent)]
    NoLibrary(#[from] Box<NoLibrary>),
    /// What the user said of the MPI is neither a name nor a path.
    #[error("{0}")]
    Choice(String),
    /// MPI gives too few guarantees about threads.
    #[error("{library} does not give MPI_THREAD_MULTIPLE, which is needed: use an MPI that was built with it")]
    Threads {
        /// The MPI library.
        library: String,
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

/// Before MPI_Init, which would end the program with other words: can these ranks find each other?
pub(crate) fn refuse_unconnected(mpi: &Mpi) -> Result<(), LaunchError> {
    let variable = |name: &str| std::env::var(name).ok();
    // Not where mpirun came in between: it sets its own variables.
    let by_srun = variable("SLURM_STEP_NUM_TASKS").and_then(|tasks| tasks.parse().ok());
    let Some(tasks) = by_srun.filter(|_| variable("OMPI_COMM_WORLD_SIZE").is_none()) else { return Ok(()) };
    let library = library(mpi);
    if !library.starts_with("Open MPI") {
        return Ok(());
    }
    match Manager::detect() {
        Manager::Pmix => {}
        Manager::Nothing => return Err(LaunchError::Unconnected { tasks, library }),
        Manager::Pmi => {
            // Some builds know PMI; what the others say in MPI_Init does not help.
            if variable("SLURM_PROCID").is_none_or(|task| task == "0") {
                eprintln!("{library} was started by srun --mpi=pmi2; if it ends here, type srun --mpi=pmix");
            }
        }
    }
    Ok(())
}

/// The MPI library of this process: "Open MPI v4.1.4".
fn library(mpi: &Mpi) -> String {
    let version = mpi.version();
    let name = version.split(',').next().unwrap_or_default();
    if name.is_empty() { "an unknown MPI".to_owned() } else { name.trim().to_owned() }
}

pub(crate) fn refuse_singletons(mpi: &Mpi, size: usize) -> Result<(), LaunchError> {
    match Launcher::detect() {
        Some(launcher) if size == 1 && launcher.tasks > 1 => {
            let Launcher { name, tasks, variable, help, .. } = launcher;
            Err(match launcher.is_running() {
                false => LaunchError::Leftover { variable, tasks, launcher: name, help },
                true if launcher.is_torchrun() => LaunchError::Torchrun { tasks },
                true => LaunchError::Singleton { launcher: name, tasks, library: library(mpi), help },
            })
        }
        _ => Ok(()),
    }
}
