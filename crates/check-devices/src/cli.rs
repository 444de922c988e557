//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sbatch::Version;

use crate::run_flags::{LayoutFlags, MemoryFlags};

/// Judge devices, ranks and batch before a job is submitted.
///
/// Reads a batch script as sbatch does, resolves the layout that it asks for, and says what would be refused, fail, hang
/// or waste: on a login node, in milliseconds, without MPI, CUDA or libtorch. Without a script the flags describe the
/// job, and what they leave open is taken from this machine.
#[derive(Clone, Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// What to do instead of judging
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// What to judge
    #[command(flatten)]
    pub(crate) judge: JudgeArgs,
}

/// The verbs other than judging.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Tabulate the layouts that work: nodes, ranks, micro-batch, accumulation, memory, scaling
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(PlanArgs),

    /// Write a site file with what sinfo knows, to be completed by a person
    SiteInit(SiteInitArgs),
}

/// The flags of judging.
#[derive(Args, Clone, Debug)]
pub(crate) struct JudgeArgs {
    /// Batch script to judge; - reads it from standard input
    pub(crate) script: Option<PathBuf>,

    /// Whose script it is. Default: that of its first directive, and Slurm where there is none
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Site")]
    pub(crate) scheduler: Option<SchedulerName>,

    /// Options of sbatch, which override those of the script
    #[arg(last = true, value_name = "SBATCH OPTIONS")]
    pub(crate) sbatch: Vec<String>,

    /// Flags of rust-train that the layout depends on
    #[command(flatten)]
    pub(crate) run: LayoutFlags,

    /// Images per forward pass on one rank. Default: batch / ranks / accumulation
    #[arg(long, value_name = "N", help_heading = "Layout")]
    pub(crate) micro_batch: Option<usize>,

    /// Nodes of the job. Default: the script's, else 1
    #[arg(long, value_name = "N", help_heading = "Layout")]
    pub(crate) nodes: Option<usize>,

    /// Ranks on each node. Default: what the script starts, else one for each device
    #[arg(long, value_name = "N", help_heading = "Layout")]
    pub(crate) ranks_per_node: Option<usize>,

    /// CUDA devices on each node. Default: the script's, else those of this machine
    #[arg(long, value_name = "N", help_heading = "Layout")]
    pub(crate) gpus_per_node: Option<usize>,

    /// What is trained
    #[command(flatten)]
    pub(crate) training: TrainingArgs,

    /// Training samples in the data set, to judge steps and last batches
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(crate) samples: Option<usize>,

    /// How long a checkpoint takes, to judge --signal against it
    #[arg(long, value_name = "SECONDS", help_heading = "Training")]
    pub(crate) checkpoint_seconds: Option<u64>,

    /// Slurm's release, such as 23.02. Default: the site file's, else what sinfo says under --login
    #[arg(long, value_name = "YY.MM", help_heading = "Site")]
    pub(crate) slurm: Option<Version>,

    /// Site file (TOML). Default: $CHECK_DEVICES_SITE, ~/.config/check-devices.toml, /etc/check-devices.toml
    #[arg(long, value_name = "FILE", help_heading = "Site")]
    pub(crate) site: Option<PathBuf>,

    /// Also ask this login node: sinfo, scontrol, file systems, libraries of the program
    #[arg(long, help_heading = "Where")]
    pub(crate) login: bool,

    /// Also ask the controller whether it would take the job: sbatch --test-only
    #[arg(long, help_heading = "Where")]
    pub(crate) test_only: bool,

    /// Let all ranks look together, with a tiny all-reduce: srun check-devices --probe
    #[arg(long, help_heading = "Where")]
    pub(crate) probe: bool,

    /// Longest wait for another rank under --probe, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, help_heading = "Where")]
    pub(crate) probe_timeout: f64,

    /// Judge what was gathered elsewhere (TOML), instead of looking
    #[arg(long, value_name = "FILE", help_heading = "Where")]
    pub(crate) facts: Option<PathBuf>,

    /// Print what was gathered as TOML, for --facts, and judge nothing
    #[arg(long, help_heading = "Where")]
    pub(crate) print_facts: bool,

    /// How to report: text for people, json for programs, github for annotations in a workflow
    #[arg(long, value_enum, default_value_t = Format::Text, help_heading = "Report")]
    pub(crate) format: Format,

    /// Colour
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN", help_heading = "Report")]
    pub(crate) color: Color,

    /// Make only these checks
    #[arg(long, value_name = "ID", value_delimiter = ',', help_heading = "Report")]
    pub(crate) only: Vec<String>,

    /// Do not make these checks
    #[arg(long, value_name = "ID", value_delimiter = ',', help_heading = "Report")]
    pub(crate) skip: Vec<String>,

    /// Let warnings fail too, or what was asked for and cannot be judged, or both
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',', help_heading = "Report")]
    pub(crate) deny: Vec<Deny>,

    /// Also name every check that was skipped, and why
    #[arg(long, short, help_heading = "Report")]
    pub(crate) verbose: bool,

    /// Mend in the script what can be mended safely
    #[arg(long, help_heading = "Report", requires = "script")]
    pub(crate) fix: bool,

    /// Print the layout with every value's origin, and what each command starts; judge nothing
    #[arg(long, help_heading = "Report")]
    pub(crate) explain_layout: bool,

    /// Explain a check, and judge nothing
    #[arg(long, value_name = "ID", help_heading = "Report")]
    pub(crate) explain: Option<String>,

    /// List all checks, and judge nothing
    #[arg(long, help_heading = "Report")]
    pub(crate) list_checks: bool,
}

/// What is trained: enough to estimate memory.
#[derive(Args, Clone, Debug)]
pub(crate) struct TrainingArgs {
    /// Flags of rust-train that the memory depends on
    #[command(flatten)]
    pub(crate) run: MemoryFlags,

    /// Classes of the data set. Default: 1000; 21 where the network tells them at each pixel
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(crate) classes: Option<usize>,

    /// Channels of the images. Default: 3
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub(crate) channels: Option<usize>,

    /// Accelerator: a name of the table (a100-40, h100, v100-32…), of the site file, or its memory (48G)
    #[arg(long = "gpu", value_name = "NAME", help_heading = "Training")]
    pub(crate) accelerator: Option<String>,
}

/// The flags of `plan`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PlanArgs {
    /// Images per step over all ranks
    #[arg(long, value_name = "N")]
    pub(crate) batch: usize,

    /// Numbers of GPUs: 64, 8..512, or 8,16,64
    #[arg(long, value_name = "RANGE")]
    pub(crate) gpus: String,

    /// GPUs on each node
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) gpus_per_node: usize,

    /// What is trained
    #[command(flatten)]
    pub(crate) training: TrainingArgs,

    /// Most micro-batches that a rank adds up for one step
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) max_accumulation: usize,

    /// Bandwidth of an all-reduce between nodes, per GPU, in GB/s. Default: one 200 Gb/s link for every node
    #[arg(long, value_name = "GB/S", help_heading = "Scaling")]
    pub(crate) bandwidth: Option<f64>,

    /// Time that a message takes however small it is, in microseconds
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 20.0, help_heading = "Scaling")]
    pub(crate) latency: f64,

    /// Sustained speed of an accelerator, in TFLOP/s. Default: 40 for half precision, 10 for single
    #[arg(long, value_name = "TFLOPS", help_heading = "Scaling")]
    pub(crate) speed: Option<f64>,

    /// Rows at most; the best spread over the range are shown
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub(crate) rows: usize,

    /// Site file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) site: Option<PathBuf>,

    /// How to print: text or json
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,

    /// Colour
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
}

/// The flags of `site-init`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SiteInitArgs {
    /// File to write, which must not exist yet. Default: standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For GitHub's workflows.
    Github,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// By CLICOLOR_FORCE and NO_COLOR, else where the output is a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchedulerName {
    /// sbatch.
    Slurm,
    /// qsub of PBS Professional, OpenPBS, Torque.
    Pbs,
    /// bsub.
    Lsf,
    /// flux batch.
    Flux,
    /// qsub of Grid Engine.
    Sge,
}

impl SchedulerName {
    /// The scheduler, where it is not Slurm.
    pub(crate) fn other(self) -> Option<batch_script::Scheduler> {
        match self {
            Self::Slurm => None,
            Self::Pbs => Some(batch_script::Scheduler::Pbs),
            Self::Lsf => Some(batch_script::Scheduler::Lsf),
            Self::Flux => Some(batch_script::Scheduler::Flux),
            Self::Sge => Some(batch_script::Scheduler::Sge),
        }
    }
}

/// What fails the judgement beside errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Deny {
    /// Warnings.
    Warnings,
    /// A batch or a memory that was to be judged and could not be.
    Unknown,
}

const EXAMPLES: &str = "\
Examples:
  check-devices --batch 64                                      this machine
  check-devices --batch 64 --device 0,1                         two devices of it, two ranks
  check-devices train.sbatch                                    a batch script, before sbatch
  check-devices train.sbatch --batch 4096 -- --nodes=8          … as if submitted with sbatch --nodes=8
  check-devices train.sbatch --login                            … with what sinfo and the file systems say
  check-devices --batch 4096 --nodes 8 --gpus-per-node 4        a job on 32 GPUs without a script
  check-devices --batch 1024 --model resnet50 --gpu a100-40 --gpus-per-node 4
  check-devices --config imagenet-resnet50 --nodes 4 --gpus-per-node 4 --gpu h100 --zero
  srun check-devices --batch 64                                 devices, cores, limits, in the allocation
  srun check-devices --probe --batch 64                         … and all ranks together

Flags that rust-train has, too, are its own: they win over those in the script, and those over its recipe's.
In a script, # check-devices: allow(L14) on a line of its own silences a check; --explain L14 says what it is for.
A number that only a run can tell is unknown, with the reason, and what depends on it is not judged.
Exit status: 0 no errors, 1 at least one (or a warning under --deny warnings, or a batch that cannot be judged under
--deny unknown), 2 wrong usage.";

const PLAN_EXAMPLES: &str = "\
Examples:
  check-devices plan --batch 4096 --gpus 8..512 --model resnet50 --gpu a100-40 --precision bf16
  check-devices plan --batch 1024 --gpus 4,8,16 --gpus-per-node 8

Scaling: a step computes 6 FLOPs for each MAC and image at --speed, then all-reduces the gradients in a ring:
2·(n−1)/n · bytes / bandwidth + 2·(n−1)·latency over n nodes, of which what backward (two thirds of the computing)
cannot hide is lost.";
