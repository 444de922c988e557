//! Which options of the launchers take a value: needed to find where the program starts.

use sbatch::Argument;

use super::launcher::Launcher;

/// What `srun` takes beyond sbatch's options.
const SRUN_WITH_VALUE: &[&str] = &[
    "accel-bind",
    "cpu-bind",
    "epilog",
    "het-group",
    "pack-group",
    "jobid",
    "mpi",
    "msg-timeout",
    "prolog",
    "relative",
    "slurmd-debug",
    "task-epilog",
    "task-prolog",
    "threads",
    "treewidth",
    "send-libs",
];

const SRUN_LETTERS_WITH_VALUE: &[char] = &['r', 'T', 'P'];

/// Options of Open MPI's, MPICH's and Intel MPI's launchers that take one value.
const MPIRUN_WITH_VALUE: &[&str] = &[
    "n",
    "np",
    "c",
    "N",
    "npernode",
    "ppn",
    "perhost",
    "host",
    "H",
    "hosts",
    "hostfile",
    "machinefile",
    "f",
    "x",
    "map-by",
    "bind-to",
    "rank-by",
    "report-pid",
    "wdir",
    "wd",
    "output-filename",
    "rankfile",
    "cpu-set",
    "cpu-list",
    "mca-base-param-file",
    "am",
    "tune",
    "display",
    "timeout",
    "genvlist",
    "envlist",
    "iface",
    "rmk",
    "launcher",
    "bootstrap",
    "nolocal-arch",
    "npersocket",
    "cpus-per-proc",
    "cpus-per-rank",
    "prefix",
    "path",
    "stdin",
    "rank",
];

/// … and that take two.
const MPIRUN_WITH_TWO: &[&str] = &["mca", "omca", "gmca", "pmca", "prtemca", "genv", "env"];

const TORCHRUN_FLAGS: &[&str] = &["standalone", "no-python", "run-path", "module", "m", "help", "use-env"];
const ACCELERATE_FLAGS: &[&str] = &[
    "multi-gpu",
    "cpu",
    "tpu",
    "use-deepspeed",
    "use-fsdp",
    "use-megatron-lm",
    "same-network",
    "no-python",
    "module",
    "m",
    "quiet",
    "debug",
    "q",
    "use-xpu",
    "use-mps-device",
    "main-training-function-only",
    "dynamo-use-dynamic",
    "enable-cpu-affinity",
    "dynamo-use-fullgraph",
    "use-cpu",
];
const DEEPSPEED_FLAGS: &[&str] = &[
    "module",
    "no-python",
    "no-local-rank",
    "no-ssh-check",
    "force-multi",
    "save-pid",
    "enable-each-rank-log",
    "no-ssh",
    "bind-cores-to-rank",
];

/// How many words behind the option `name` (without dashes) are its values.
pub(super) fn values(launcher: Launcher, name: &str) -> usize {
    let normal = name.replace('_', "-");
    let name = normal.as_str();
    match launcher {
        Launcher::Srun => {
            let mut letters = name.chars();
            let takes = match (letters.next(), letters.next()) {
                (Some(letter), None) => {
                    let listed = sbatch::OPTIONS.iter().find(|option| option.short == Some(letter));
                    SRUN_LETTERS_WITH_VALUE.contains(&letter)
                        || listed.is_some_and(|option| option.argument == Argument::Required)
                }
                _ => {
                    let mut listed = sbatch::OPTIONS.iter().filter(|option| option.name.starts_with(name));
                    let exact = sbatch::option(name);
                    SRUN_WITH_VALUE.contains(&name)
                        || exact.or(listed.next()).is_some_and(|option| option.argument == Argument::Required)
                }
            };
            usize::from(takes)
        }
        Launcher::Mpirun if MPIRUN_WITH_TWO.contains(&name) => 2,
        Launcher::Mpirun => usize::from(MPIRUN_WITH_VALUE.contains(&name)),
        Launcher::Torchrun => usize::from(!TORCHRUN_FLAGS.contains(&name)),
        Launcher::Accelerate => usize::from(!ACCELERATE_FLAGS.contains(&name)),
        Launcher::Deepspeed => usize::from(!DEEPSPEED_FLAGS.contains(&name)),
    }
}
