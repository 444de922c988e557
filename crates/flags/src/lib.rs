//! The flags of `rust-train`, declared once: name, help, type, default, and what each is about.
//!
//! ```text
//! rust-train     Cli::of (arguments, a recipe) ─> the plan of a run: validated values
//! check-devices  of_run (those that a job's layout and memory depend on), and what a script's rust-train is given
//! ```
//!
//! Flags as they are typed: whether a value makes sense, its program says. Knows no MPI and no torch, so that the preflight
//! starts on a login node.

mod augmentation;
mod batch_size;
mod bench;
mod bits;
mod cache;
mod completions;
mod data;
mod distillation;
mod duration;
mod fetch;
mod images;
mod installation;
mod models;
mod names;
mod optimization;
mod precision;
mod run;
mod scope;
mod task;
mod train;

use std::any::TypeId;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use augmentation::{AugmentationArgs, AutoAugment, within};
pub use batch_size::BatchSize;
pub use bench::{BenchArgs, ReportArgs};
pub use bits::CompareBitsArgs;
pub use cache::CacheArgs;
pub use completions::{CompletionsArgs, ManArgs, Shell};
pub use data::{
    AxesKind, BadImage, CacheFormat, CacheScope, CheckFiles, DataArgs, IgnoreIndex, MaskArgs, MembersArgs, NanKind,
    ReadMode, TableArgs, TiffPages,
};
pub use distillation::{DistillationArgs, DistillationKind};
pub use fetch::{FetchArgs, StoreArgs};
pub use images::{ChannelValues, ImageArgs, NormalizeKind, ResampleKind};
pub use installation::{DoctorArgs, ScriptsArgs};
pub use models::{
    DEFAULT_MODEL, EvalArgs, ExportArgs, Format, InferenceArgs, ModelArgs, ModelColumn, ModelsArgs, PredictArgs,
    ProfileArgs, SplitKind, WeightNames,
};
pub use names::{default_of, find, modernize, of_run, spellings, takes_value};
pub use optimization::{ClassWeights, DEFAULT_MOMENTUM, LrScaling, OptimizationArgs, OptimizerKind, ScheduleKind};
pub use precision::PrecisionKind;
pub use run::{OnNan, RunArgs};
pub use scope::{Essential, NotInRecipe, Scope};
pub use task::{LossKind, TaskArgs, TaskKind};
pub use train::{Compression, CudaGraph, DistributeBn, Freeze, Fused, Recompute, TrainArgs, WeightsMatch};

use models::{model_help, model_names};

/// Train an image model, data-parallel over all ranks of an MPI job.
///
/// Without arguments it trains a small network on handwritten digits that are part of the program.
#[derive(Clone, Debug, Parser)]
#[command(name = "rust-train", version, max_term_width = 100, after_help = SHORT_EXAMPLES, after_long_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of training
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Which MPI: openmpi, mpich, intel, cray, mvapich, abi, or the path of its library. Default: RUST_TRAIN_MPI, else that of
    /// the launcher
    #[arg(long, global = true, value_name = "NAME|PATH", help_heading = "Machine", add = Scope::OneRun)]
    #[arg(add = NotInRecipe("MPI runs already while the recipe is read; give --mpi on the command line"))]
    pub mpi: Option<String>,

    /// The flags of a training run
    #[command(flatten)]
    pub train: TrainArgs,
}

/// The verbs other than training.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Bring files to every node of the job: downloaded once, verified, sent on by MPI
    #[command(after_help = FETCH_EXAMPLES)]
    Fetch(FetchArgs),

    /// Build the cache ahead of a run, or look at one
    #[command(after_help = CACHE_EXAMPLES)]
    Cache(CacheArgs),
    /// Write the completions of a shell to standard output
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),

    /// Say what this machine has of what rust-train needs, and what of it does not fit
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),

    /// Write the Slurm scripts that come along, to be copied and changed, into a folder
    #[command(after_help = SCRIPTS_EXAMPLES)]
    Scripts(ScriptsArgs),

    /// Write manual pages, one for each verb, into a folder
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),

    /// List the networks: parameters, operations, published accuracy
    #[command(after_help = MODELS_EXAMPLES)]
    Models(ModelsArgs),

    /// Say what a network costs, layer by layer: parameters, operations, memory
    #[command(after_help = PROFILE_EXAMPLES)]
    Profile(ProfileArgs),

    /// Say how good a model is on a folder of images
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(EvalArgs),

    /// Measure training on several numbers of ranks
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(Box<BenchArgs>),

    /// Say where two runs, or files of weights, first differ, to the last bit
    #[command(after_help = COMPARE_BITS_EXAMPLES)]
    CompareBits(CompareBitsArgs),

    /// Draw report.html and metrics.csv of runs anew, from what they wrote down
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),

    /// Say which classes a model sees in images
    #[command(after_help = PREDICT_EXAMPLES)]
    Predict(PredictArgs),

    /// Write a model for other programs: safetensors, pth, TorchScript, ONNX
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
}

/// Whether a flag's value is a number.
fn is_number(arg: &clap::Arg) -> bool {
    let parsed = arg.get_value_parser().type_id();
    [TypeId::of::<f64>(), TypeId::of::<usize>(), TypeId::of::<u64>()].iter().any(|number| parsed == *number)
}

/// The command line as clap knows it. Every switch of a run can be switched off again, `--sync-bn=false`, which is how the
/// command line wins over a file.
pub fn command() -> clap::Command {
    let switchable = |arg: clap::Arg| match arg.get_action() {
        clap::ArgAction::SetTrue => arg
            .action(clap::ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("BOOL"),
        // A number below zero is a number, -1e-4 too: what is wrong with it is said by whoever knows the flag.
        clap::ArgAction::Set if is_number(&arg) => arg.allow_hyphen_values(true),
        _ => arg,
    };
    let in_short_help = |arg: clap::Arg| {
        let is_essential = arg.get::<Essential>().is_some();
        arg.hide_short_help(!is_essential)
    };
    Cli::command()
        .mut_args(switchable)
        .mut_args(in_short_help)
        .mut_subcommand("bench", |bench| bench.mut_args(switchable))
}

impl Cli {
    /// The flags in `arguments`, of which the first is the program's name.
    ///
    /// # Errors
    /// What clap has to say about them; help and version are errors too.
    pub fn of(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let mut matches = command().try_get_matches_from(arguments)?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command()))
    }

    /// The recipe that the command line names.
    pub fn recipe(&self) -> Option<&Path> {
        match &self.command {
            None => self.train.config.as_deref(),
            Some(Command::Bench(bench)) => bench.train.config.as_deref(),
            Some(_) => None,
        }
    }

    /// How long a rank waits for another one that makes no progress.
    pub fn timeout(&self) -> Duration {
        let seconds = match &self.command {
            None => self.train.timeout,
            Some(Command::Fetch(fetch)) => fetch.timeout,
            Some(Command::Cache(cache)) => cache.timeout,
            Some(Command::Bench(bench)) => bench.train.timeout,
            Some(
                Command::CompareBits(_)
                | Command::Completions(_)
                | Command::Doctor(_)
                | Command::Man(_)
                | Command::Models(_)
                | Command::Profile(_)
                | Command::Report(_)
                | Command::Scripts(_),
            ) => return Duration::MAX, // waits for nobody
            Some(Command::Eval(eval)) => eval.model.timeout,
            Some(Command::Predict(predict)) => predict.model.timeout,
            Some(Command::Export(export)) => export.model.timeout,
        };
        // A time that makes no sense is refused later; MPI is started before that.
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(600))
    }
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  rust-train completions bash > ~/.local/share/bash-completion/completions/rust-train
  rust-train completions zsh > ~/.zfunc/_rust-train
  rust-train completions fish > ~/.config/fish/completions/rust-train.fish";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  rust-train doctor                                      on a login node
  srun -n 2 --mpi=pmix rust-train doctor                 as the job will start it
  rust-train doctor --device cuda --mpi mpich

Exit status: 0 nothing wrong was found, 2 something is.";

const SCRIPTS_EXAMPLES: &str = "\
Examples:
  rust-train scripts slurm && sbatch slurm/train.sbatch";

const MODELS_EXAMPLES: &str = "\
Examples:
  rust-train models                                all of them
  rust-train models resnet vit                     those with resnet or vit in their names
  rust-train models --pretrained --max-parameters 10 --sort accuracy";

const EVAL_EXAMPLES: &str = "\
Examples:
  rust-train eval run                                            the run's own validation images
  mpirun -n 4 rust-train eval run --data heldout                 heldout/val/CLASS/*, or heldout/CLASS/*
  rust-train eval --model resnet50 --pretrained --data imagenet";

const PREDICT_EXAMPLES: &str = "\
Examples:
  rust-train predict photo.jpg --weights run
  rust-train predict photos --weights run --top 1 --json > classes.jsonl";

const PROFILE_EXAMPLES: &str = "\
Examples:
  rust-train profile --model resnet50 --batch 64
  rust-train profile --model vit_b_16 --precision bf16 --optimizer adamw --json";

const REPORT_EXAMPLES: &str = "\
Examples:
  rust-train report runs/pets-resnet50                           also of a run that was killed
  rust-train report runs/a runs/b --output ab.html               their curves together, and what differs";

const COMPARE_BITS_EXAMPLES: &str = "\
Examples:
  rust-train compare-bits runs/a runs/b                 their records, their models, and each step if both had --record-bits
  rust-train compare-bits one.safetensors other.pth     tensor by tensor

Exit status: 0 the same bits; 1 they differ; 2 bad input.";

const MAN_EXAMPLES: &str = "\
Examples:
  rust-train man ~/.local/share/man/man1 && man rust-train-eval";

const BENCH_EXAMPLES: &str = "\
Examples:
  mpirun -n 4 rust-train bench --ranks 1,2,4 --model resnet18 --batch 256
  srun -N 4 --ntasks-per-node=4 rust-train bench --strong --data /scratch/imagenet --model resnet50 --batch 1024

The first ranks of the job are measured, so those of a node come first. Writes scaling.html, scaling.svg, scaling.csv and
scaling.json into the folder --output.";

const EXPORT_EXAMPLES: &str = "\
Examples:
  rust-train export run --output pets.onnx                       for ONNX Runtime
  rust-train export run --output pets.pth                        for torchvision
  rust-train export --model resnet18 --pretrained --output resnet18.onnx";

const FETCH_EXAMPLES: &str = "\
Examples:
  rust-train fetch https://example.org/resnet18-f37072fd.safetensors      on a login node with internet
  srun rust-train fetch --store /local/weights https://example.org/w.bin  one download, a copy on every node
  rust-train fetch hf:timm/resnet50.a1_in1k                               weights and config.json of a model of the Hub

The Hub: HF_TOKEN, HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE count as for huggingface_hub, and what that has in its cache is used.

Mirror: RUST_TRAIN_MIRROR names a folder, or an address that file names are appended to; it is asked first.
Proxy: https_proxy, http_proxy, all_proxy, no_proxy. A site's own certificate authority: SSL_CERT_FILE, SSL_CERT_DIR.";

const CACHE_EXAMPLES: &str = "\
Examples:
  rust-train cache --data pets --model resnet50             on a login node, ahead of the job
  srun rust-train cache --data pets --image-size 224        all ranks together
  rust-train cache --verify --data pets --model resnet50

Give the same flags as to the run: data, size and format decide which cache it is.
Exit status: 0 done, and with --verify and --explain: the cache is whole, or current; 1 it is not; 2 bad input.";

const SHORT_EXAMPLES: &str = "\
Examples:
  mpirun -n 4 rust-train --data pets --model resnet50 --batch 256 --output run
  rust-train eval run

All flags: rust-train --help. Networks: rust-train models.";

const EXAMPLES: &str = "\
Examples:
  rust-train                                        the digits, on one rank
  mpirun -n 2 rust-train                            the same, on two
  mpirun -n 4 rust-train --data pets --model resnet50 --batch 256
  srun --ntasks-per-node=4 rust-train --data /scratch/imagenet --cache /local/cache
  mpirun -n 4 rust-train --output run --resume auto begins a run, or goes on with it

From training to another program:
  mpirun -n 4 rust-train --data pets --model resnet50 --pretrained --output run
  rust-train eval run
  rust-train predict photo.jpg --weights run
  rust-train export run --output pets.onnx

Logs: RUST_LOG=debug shows more, RUST_LOG=warn less.
Exit status: 0 done, 1 failed, 2 wrong usage or bad input, 75 stopped by a signal or a
time limit with a checkpoint saved: run it again with --resume auto.";
