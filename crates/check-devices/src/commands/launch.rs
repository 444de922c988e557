//! A command that starts a program, through one launcher or several, and what is hidden of it.

use shell::{Argument, Reason};
use source_text::Span;

use super::launcher::{Around, Launcher, Processes};
use super::options::Options;

/// One launcher of a command and its options.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) launcher: &'static Launcher,
    /// The launcher's own words.
    pub(crate) span: Span,
    pub(crate) options: Options,
}

impl Step {
    /// The value of the first of `names` that is given; the last time counts. An empty text for a flag.
    pub(crate) fn option(&self, names: &[&str]) -> Option<&Argument> {
        self.options.get(names)
    }

    /// How many processes it starts.
    pub(crate) fn processes(&self, around: &Around<'_>) -> Processes {
        (self.launcher.processes)(&self.options, around)
    }

    /// The option's value as a number, where it is known, and where it stands.
    pub(crate) fn number(&self, names: &[&str]) -> Option<(usize, Span)> {
        let value = self.option(names)?;
        Some((value.known()?.parse().ok()?, value.span))
    }
}

/// A command that starts a program.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// The launchers, outermost first.
    pub(crate) steps: Vec<Step>,
    /// The program, as far as it is known.
    pub(crate) program: Option<Argument>,
    /// Its arguments.
    pub(crate) arguments: Vec<Argument>,
    /// Whether an interpreter runs it: Python.
    pub(crate) is_python: bool,
    /// Why it is not known what the innermost launcher starts, where it is not: it may start ranks of its own.
    pub(crate) hidden: Option<Reason>,
    /// Why it may not be run, or not once.
    pub(crate) doubt: Option<Reason>,
    /// Whether the script goes on while it runs.
    pub(crate) background: bool,
    /// Whether what it prints becomes a word.
    pub(crate) in_substitution: bool,
    /// The words behind the launcher that starts tasks, as the batch shell has expanded them.
    pub(crate) early: Vec<Argument>,
    /// The whole command.
    pub(crate) span: Span,
}

impl Launch {
    /// The step of the launcher that is called so.
    pub(crate) fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.launcher.name == name)
    }

    /// Slurm's step.
    pub(crate) fn srun(&self) -> Option<&Step> {
        self.step("srun")
    }

    /// The launcher of a node's ranks: torchrun and its like.
    pub(crate) fn agent(&self) -> Option<&Step> {
        self.steps.iter().rfind(|step| step.launcher.reach == super::Reach::Node)
    }

    /// The program's file name.
    pub(crate) fn program_name(&self) -> Option<&str> {
        name_of(self.program.as_ref()?)
    }

    /// Whether it only looks or prepares.
    pub(crate) fn is_bystander(&self) -> bool {
        const ASKING: &[&str] = &["--help", "-h", "--version", "-V"];
        const RAY: &[&str] = &["start", "stop", "status", "health-check"];
        let is_one_of = |argument: Option<&Argument>, texts: &[&str]| {
            argument.and_then(Argument::known).is_some_and(|text| texts.contains(&text))
        };
        let only_asks = is_one_of(self.arguments.last(), ASKING);
        match self.program_name() {
            // A cluster of workers, that a driver uses.
            Some("ray") => is_one_of(self.arguments.first(), RAY),
            Some(name) if self.hidden.is_none() => only_asks || BYSTANDERS.contains(&name),
            _ => only_asks,
        }
    }

    /// Whether a launcher of tasks starts it.
    pub(crate) fn is_in_tasks(&self) -> bool {
        self.steps.iter().any(|step| step.launcher.reach == super::Reach::Job)
    }

    /// Whether its name says that it is for what comes behind it.
    pub(crate) fn looks_like_preparing(&self) -> bool {
        const NAMES: &[&str] = &[
            "prepare", "preproc", "download", "setup", "install", "convert", "load", "generat", "info", "init",
            "build", "make", "report", "plot", "compile", "stage", "clean", "copy",
        ];
        let name = self.program_name().unwrap_or_default().to_ascii_lowercase();
        NAMES.iter().any(|part| name.contains(part)) && !self.looks_like_training()
    }

    /// Whether its program is likely a training run that takes a device for each of its ranks: one that is known, one that
    /// its launcher or its name or its arguments give away.
    pub(crate) fn looks_like_training(&self) -> bool {
        const NAMES: &[&str] = &["train", "tune", "fit", "ddp", "fsdp"];
        let name = self.program_name().unwrap_or_default().to_ascii_lowercase();
        super::trainer(self).is_some()
            || self.agent().is_some()
            || self.is_python && (self.carries_a_batch() || NAMES.iter().any(|part| name.contains(part)))
    }

    /// Whether what is hidden of it may be the training, by its name: `run.sh`, `$CMD`; and not `setup.sh` or `make`.
    pub(crate) fn may_hide_a_training(&self) -> bool {
        const NAMES: &[&str] =
            &["run", "launch", "train", "tune", "start", "main", "job", "exec", "submit", "multi", "node"];
        match self.program_name() {
            None => true,
            Some("bash" | "sh" | "zsh" | "ksh" | "dash" | "eval" | "ray" | "ezpz" | "oumi") => true,
            Some(name) => {
                let name = name.to_ascii_lowercase();
                NAMES.iter().any(|part| name.contains(part))
            }
        }
    }

    /// Whether its program is given a batch.
    pub(crate) fn carries_a_batch(&self) -> bool {
        const FLAGS: &[&str] = &[
            "--batch",
            "--batch-size",
            "--global-batch",
            "--global-batch-size",
            "--train-batch-size",
            "--micro-batch-size",
            "--per-device-train-batch-size",
            "--train-micro-batch-size-per-gpu",
            "--bs",
            "--imgs-per-gpu",
            "--samples-per-gpu",
        ];
        self.arguments.iter().any(|argument| {
            let text = argument.known().unwrap_or(&argument.start);
            let name = text.split('=').next().unwrap_or_default().replace('_', "-");
            FLAGS.contains(&name.as_str())
        })
    }
}

/// Whether a program of this name only looks or prepares.
pub(super) fn is_bystander(name: &str) -> bool {
    BYSTANDERS.contains(&name)
}

/// The last part of a path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The file name of a word, also where only its folder is not known: `$CUDA/bin/nsys`.
pub(crate) fn name_of(word: &Argument) -> Option<&str> {
    match word.known() {
        Some(text) => Some(file_name(text)),
        None => word.end.rsplit_once('/').map(|(_, name)| name).filter(|name| !name.is_empty()),
    }
}

/// Programs that look or prepare, and do not train.
const BYSTANDERS: &[&str] = &[
    "apt",
    "apt-get",
    "yum",
    "dnf",
    "perl",
    "uuidgen",
    "hf",
    "js_task_info",
    "xthi",
    "nvidia-cuda-mps-control",
    "redis-server",
    "lsof",
    "mongod",
    "tensorboard",
    "jupyter",
    "dcgmi",
    "uptime",
    "sacctmgr",
    "sreport",
    "mybalance",
    "quota",
    "pbsnodes",
    "bhosts",
    "locale",
    "cksum",
    "file",
    "paste",
    "split",
    "comm",
    "join",
    "nl",
    "fold",
    "column",
    "less",
    "more",
    "vi",
    "nano",
    "clear",
    "hostname",
    "nvidia-smi",
    "rocm-smi",
    "echo",
    "printf",
    "date",
    "env",
    "printenv",
    "check-devices",
    "mkdir",
    "cp",
    "mv",
    "ln",
    "touch",
    "rsync",
    "scp",
    "tar",
    "unzip",
    "zip",
    "gzip",
    "wget",
    "curl",
    "sleep",
    "true",
    "false",
    "ls",
    "cat",
    "rm",
    "ldd",
    "which",
    "lscpu",
    "numactl",
    "module",
    "ml",
    "df",
    "du",
    "free",
    "kill",
    "pkill",
    "ip",
    "scontrol",
    "squeue",
    "sinfo",
    "sacct",
    "scancel",
    "sbcast",
    "sstat",
    "seff",
    "sbatch",
    "salloc",
    "qsub",
    "bsub",
    "nproc",
    "wc",
    "grep",
    "sed",
    "awk",
    "head",
    "tail",
    "tee",
    "sort",
    "uniq",
    "cut",
    "tr",
    "pwd",
    "cd",
    "pushd",
    "popd",
    "export",
    "set",
    "unset",
    "source",
    ".",
    "trap",
    "wait",
    "ulimit",
    "umask",
    "shopt",
    "alias",
    "declare",
    "typeset",
    "local",
    "readonly",
    "read",
    "readarray",
    "mapfile",
    "type",
    "hash",
    "whoami",
    "id",
    "uname",
    "chmod",
    "chown",
    "find",
    "basename",
    "dirname",
    "readlink",
    "realpath",
    "mktemp",
    "seq",
    "expr",
    "bc",
    "test",
    "getent",
    "host",
    "git",
    "pip",
    "pip3",
    "conda",
    "mamba",
    "micromamba",
    "spack",
    "virtualenv",
    "venv",
    "ensurepip",
    "ipykernel",
    "http.server",
    "deactivate",
    "nvcc",
    "gcc",
    "jobs",
    "disown",
    "shift",
    "let",
    "getopts",
    "return",
    "ping",
    "ssh",
    "ssh-keygen",
    "openssl",
    "shuf",
    "md5sum",
    "sha256sum",
    "stat",
    "diff",
    "dos2unix",
    "time",
    "pgrep",
    "ps",
    "top",
    "lspci",
    "ibstat",
    "ibv_devinfo",
    "showq",
    "qstat",
    "bjobs",
    "flux",
    "sync",
    "xargs",
    "command",
    "singularity",
    "apptainer",
    "docker",
    "podman",
    "enroot",
    "shifterimg",
    "podman-hpc",
    "huggingface-cli",
    "wandb",
    "eval",
    "start-stop-daemon",
    "mount",
    "umount",
    "fusermount",
    "lfs",
    "modulecmd",
    "nvcc",
    "cmake",
    "ninja",
    "hostnamectl",
    "base64",
    "yes",
    "rev",
    "logger",
    "complete",
    "bind",
    "caller",
    "enable",
    "history",
    "logout",
    "times",
    "exit",
    "break",
    "continue",
];
