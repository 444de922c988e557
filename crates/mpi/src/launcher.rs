//! Who started this process. The one place that reads the launchers' environment variables: only to find out which MPI is
//! meant, and whether MPI is wrong about the ranks.

use std::path::PathBuf;

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
    pub variable: &'static str,
    /// What to type where MPI does not speak with it.
    pub help: &'static str,
}

/// Variables of (number of tasks, this task), the most specific launcher first: `mpirun` inside a Slurm job sets its
/// own and leaves Slurm's, which then speak of something else.
const LAUNCHERS: &[(&str, &str, &str, &str)] = &[
    (
        "Open MPI's mpirun",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "start it with the mpirun of that library, or name the launcher's library: --mpi PATH",
    ),
    (
        "a PMI launcher (MPICH's or Intel MPI's mpiexec, or srun --mpi=pmi2)",
        "PMI_SIZE",
        "PMI_RANK",
        "start it with the mpirun of that library, or name the launcher's: --mpi PATH; Open MPI under Slurm wants srun --mpi=pmix",
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

    /// Whether it is PyTorch's, which starts no ranks of MPI.
    pub fn is_torchrun(&self) -> bool {
        self.name == TORCHRUN
    }

    /// Whether a launcher, or what may be one, is among the processes above this one.
    pub fn is_running(&self) -> bool {
        let is_launcher = |name: &str| {
            PROCESSES.iter().any(|known| name.starts_with(known)) || (self.is_torchrun() && name.starts_with("python"))
        };
        processes_above().iter().any(|(_, name)| is_launcher(name))
    }
}

/// The programs of the processes above this one, the nearest first, as far as the system shows them.
pub(crate) fn programs_above() -> Vec<PathBuf> {
    let programs = processes_above().into_iter().map(|(process, _)| std::fs::read_link(format!("/proc/{process}/exe")));
    programs.flatten().collect()
}

/// The processes above this one, the nearest first, and their names, as far as the system shows them.
fn processes_above() -> Vec<(u32, String)> {
    let mut processes = Vec::new();
    let mut process = std::os::unix::process::parent_id();
    while process > 1 && processes.len() < 64 {
        // "17 (name) S 1 …": a name may hold anything.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { break };
        let Some(((_, name), rest)) =
            stat.rsplit_once(") ").and_then(|(head, rest)| Some((head.split_once(" (")?, rest)))
        else {
            break;
        };
        processes.push((process, name.to_owned()));
        process = rest.split(' ').nth(1).and_then(|parent| parent.parse().ok()).unwrap_or(0);
    }
    processes
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
pub fn is_on_one_node(variable: impl Fn(&str) -> Option<String>) -> bool {
    let number = |name| variable(name)?.trim().parse::<usize>().ok();
    match (number("OMPI_COMM_WORLD_SIZE"), number("SLURM_STEP_NUM_TASKS")) {
        (Some(tasks), _) => number("OMPI_COMM_WORLD_LOCAL_SIZE") == Some(tasks),
        (None, Some(_)) => number("SLURM_STEP_NUM_NODES") == Some(1),
        (None, None) => false,
    }
}

/// How many tasks the launcher says that it started on this node, where it does.
pub fn local_tasks(variable: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let number = |name| variable(name)?.trim().parse::<usize>().ok();
    let of_srun = || {
        // "4(x2),3": all of one node are this one's, else the most that any has.
        let groups = variable("SLURM_STEP_TASKS_PER_NODE")?;
        groups.split(',').filter_map(|group| group.split('(').next()?.parse().ok()).max()
    };
    number("OMPI_COMM_WORLD_LOCAL_SIZE").or_else(|| number("MPI_LOCALNRANKS")).or_else(of_srun)
}

/// The interface through which a launcher tells ranks of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// PMIx: Open MPI's, and recent MPICH's.
    Pmix,
    /// PMI-1 or PMI-2: MPICH's.
    Pmi,
    /// None, or one that is not known.
    Nothing,
}

impl Manager {
    /// That of this process.
    pub fn detect() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |name| variable(name).is_some();
        if is_set("PMIX_RANK") {
            Self::Pmix
        } else if is_set("PMI_RANK") || is_set("PMI_FD") {
            Self::Pmi
        } else {
            Self::Nothing
        }
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
    fn the_tasks_of_a_node_are_counted() {
        let cases: &[(&[(&str, &str)], _)] = &[
            (&[], None),
            (&[("OMPI_COMM_WORLD_LOCAL_SIZE", "4"), ("SLURM_STEP_TASKS_PER_NODE", "1")], Some(4)),
            (&[("MPI_LOCALNRANKS", "2")], Some(2)),
            (&[("SLURM_STEP_TASKS_PER_NODE", "4(x2),3")], Some(4)),
        ];
        for (variables, expected) in cases {
            let variable =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(local_tasks(variable), *expected, "{variables:?}");
        }
    }

    #[test]
    fn the_processes_above_are_found() {
        let parent = std::fs::read_to_string(format!("/proc/{}/comm", std::os::unix::process::parent_id())).unwrap();
        assert_eq!(processes_above().first().map(|(_, name)| name.as_str()), Some(parent.trim_end()));
    }

    #[test]
    fn the_interface_is_known_by_its_variables() {
        let cases: &[(&[&str], _)] = &[
            (&[], Manager::Nothing),
            (&["PMI_FD", "PMI_RANK"], Manager::Pmi),
            (&["PMIX_RANK", "PMI_RANK"], Manager::Pmix),
        ];
        for (set, expected) in cases {
            assert_eq!(Manager::from_variables(|name| set.contains(&name).then(|| "0".to_owned())), *expected);
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
