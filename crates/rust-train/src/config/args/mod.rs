//! The command line: flags as they are typed. `plan` makes validated values of them.

mod batch_size;
mod bench;
mod data;
pub(crate) mod duration;
mod models;
mod optimization;
mod run;
mod scope;

use std::any::TypeId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;

pub use batch_size::BatchSize;
pub use bench::{BenchArgs, ReportArgs};
pub use data::{AugmentationArgs, AutoAugment, BadImage, CacheFormat, CacheScope, DataArgs, ResampleKind};
pub use models::{EvalArgs, ExportArgs, Format, InferenceArgs, ModelArgs, PredictArgs, ProfileArgs};
pub use optimization::{ClassWeights, LrScaling, OptimizationArgs, OptimizerKind, ScheduleKind};
pub use run::{OnNan, RunArgs};
pub use scope::{NotInRecipe, Scope};

/// Train an image model, data-parallel over all ranks of an MPI job.
///
/// Without arguments it trains a small network on handwritten digits that are part of the program.
#[derive(Clone, Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of training
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The flags of a training run
    #[command(flatten)]
    pub train: TrainArgs,
}

/// The verbs other than training.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Bring files to this machine, or to every node of the job: downloaded once, verified, then sent on by MPI
    #[command(after_help = FETCH_EXAMPLES)]
    Fetch(FetchArgs),

    /// Build the cache ahead of a run, or look at one
    #[command(after_help = CACHE_EXAMPLES)]
    Cache(CacheArgs),
    /// Say what a network costs, layer by layer: parameters, operations, memory
    Profile(ProfileArgs),

    /// Say how good a model is on a folder of images
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(EvalArgs),

    /// Measure training on several numbers of ranks: throughput, efficiency, the parts of a step
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(Box<BenchArgs>),

    /// Draw report.html and metrics.csv of runs anew, from what they wrote down
    Report(ReportArgs),

    /// Say which classes a model sees in images
    Predict(PredictArgs),

    /// Write a model for other programs: safetensors, pth, TorchScript, ONNX
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
}

/// The flags of `cache`.
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    /// Compare every image in the cache with its checksum
    #[arg(long, conflicts_with_all = ["explain", "summary"])]
    pub verify: bool,

    /// Say why the cache would have to be rebuilt
    #[arg(long, conflicts_with = "summary")]
    pub explain: bool,

    /// Show how many images each class has, and what was skipped
    #[arg(long)]
    pub summary: bool,

    /// Where the images come from
    #[command(flatten)]
    pub data: DataArgs,

    /// Network that the images are for: decides their size
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub model: String,

    /// Longest wait for another rank, or another job that builds the same cache, that makes no progress, in seconds
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS")]
    pub timeout: f64,
}

/// The network of a run that names none.
const DEFAULT_MODEL: &str = "cifar_resnet20";

/// The flags of `fetch`.
#[derive(Args, Clone, Debug)]
pub struct FetchArgs {
    /// Files to bring: http://, https://, file:// or a path
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<String>,

    /// SHA-256 of the file, or its first digits. Default: the digits in its name, as in resnet18-f37072fd.pth
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,

    /// Where the files are kept
    #[command(flatten)]
    pub store: StoreArgs,

    /// Longest wait for another rank that makes no progress before the job gives up, in seconds
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS")]
    pub timeout: f64,
}

/// Where fetched files are kept, and how they get there.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StoreArgs {
    /// Folder for fetched files. Default: rust-train in the user's cache folder
    #[arg(long, value_name = "DIR", help_heading = "Fetching", add = Scope::Free)]
    pub store: Option<PathBuf>,

    /// Download nothing; say what to put where
    #[arg(long, help_heading = "Fetching", add = Scope::Free)]
    pub offline: bool,

    /// How often a transfer is tried
    #[arg(long, default_value_t = 5, value_name = "N", help_heading = "Fetching", add = Scope::Free)]
    pub attempts: usize,

    /// Longest time in which no byte of a download arrives, in seconds
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", help_heading = "Fetching", add = Scope::Free)]
    pub stall_timeout: f64,
}

/// The flags of a training run. As a table they are the file that `--config` reads.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainArgs {
    /// Take flags from a TOML file: its keys are their names, as in `lr = 0.1`. The command line wins. A path, or a recipe
    /// inside the program: digits, cifar10, finetune, imagenet-resnet50
    #[arg(long, value_name = "FILE", add = Scope::OneRun, add = NotInRecipe("a recipe cannot name another one"))]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Where the images come from
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataArgs,

    /// What happens to training images
    #[command(flatten)]
    #[serde(flatten)]
    pub augmentation: AugmentationArgs,

    /// What is minimized, and by which steps
    #[command(flatten)]
    #[serde(flatten)]
    pub optimization: OptimizationArgs,

    /// The network's name
    #[arg(long, default_value = DEFAULT_MODEL, help = model_help(), help_heading = "Model")]
    pub model: String,

    /// Start from these weights instead of random ones: .pth, .safetensors or .npz, with the network's own names; a path,
    /// file:// or https://. Downloaded once for the whole job
    #[arg(long, value_name = "SOURCE", help_heading = "Model", conflicts_with = "pretrained")]
    pub weights: Option<String>,

    /// SHA-256 of the weights, or its first digits
    #[arg(long, value_name = "HEX", help_heading = "Model")]
    pub weights_sha256: Option<String>,

    /// Start from the weights that torchvision publishes for the network; its head is kept where the classes are as many
    #[arg(long, help_heading = "Model")]
    pub pretrained: bool,

    /// How much of the network the weights must match. Default: strict; with --pretrained, head
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Model")]
    pub weights_match: Option<WeightsMatch>,

    /// Leave these parts as they are
    #[arg(long, value_enum, value_name = "PART", default_value_t = Freeze::None, help_heading = "Model")]
    pub freeze: Freeze,

    /// Epochs after which everything is trained. Default: never
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub freeze_epochs: Option<usize>,

    /// Passes over the training images
    #[arg(long, default_value_t = 20, help_heading = "Training")]
    pub epochs: usize,

    /// Images per step over all ranks, which must be able to share them evenly. auto:N, or auto for 64: N images, which
    /// every rank computes in micro-batches of the largest size that fits in the memory of all
    #[arg(long, default_value = "64", value_name = "N", help_heading = "Training")]
    pub batch: BatchSize,

    /// Compute each rank's part of the batch in this many micro-batches, one after the other: less memory, same batch
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Training")]
    pub accumulate: usize,

    /// Type to compute in, where that is safe
    #[arg(long, value_enum, default_value_t = PrecisionKind::Single, help_heading = "Training")]
    pub precision: PrecisionKind,

    /// Batch statistics over the images of all ranks, in every BatchNorm
    #[arg(long, help_heading = "Training")]
    pub sync_bn: bool,

    /// What rank 0 saves of BatchNorm's running statistics
    #[arg(long, value_enum, default_value_t = DistributeBn::Average, help_heading = "Training")]
    pub distribute_bn: DistributeBn,

    /// Everything random follows from it: weights, order, augmentation
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    #[arg(help_heading = "Training")]
    pub seed: u64,

    /// On CUDA use only algorithms that repeat bit for bit, instead of the fastest
    #[arg(long, help_heading = "Training")]
    pub deterministic: bool,

    /// Stop after this many steps. Default: when the epochs are over
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    pub max_steps: Option<usize>,

    /// Device of each rank: '' (CUDA where every rank of the node can have one, else the CPU), cpu, cuda, 0, 0,1, cuda:0
    #[arg(long, default_value = "", help_heading = "Machine", add = Scope::Free)]
    pub device: String,

    /// Images and filters in channels-last order in memory: faster on tensor cores, and often on the CPU
    #[arg(long, help_heading = "Machine", add = Scope::Free)]
    pub channels_last: bool,

    /// On CUDA let matrix products and convolutions round single precision to TF32
    #[arg(long, help_heading = "Machine", add = Scope::Free)]
    pub tf32: bool,

    /// Spread the optimizer's state over the ranks (ZeRO stage 1): same numbers, less memory
    #[arg(long, help_heading = "Machine", add = Scope::Free)]
    pub zero: bool,

    /// Megabytes of gradients that travel together
    #[arg(long, default_value_t = 25, value_name = "MB", help_heading = "Machine", add = Scope::Free)]
    pub bucket_mb: usize,

    /// Send gradients in a type of half the size
    #[arg(long, value_enum, default_value_t = Compression::None, help_heading = "Machine")]
    pub compress_gradients: Compression,

    /// Compare the parameters of all ranks every N steps, by a hash of each; 0 never does
    #[arg(long, default_value_t = 500, value_name = "STEPS", help_heading = "Machine", add = Scope::Free)]
    pub compare_replicas: usize,

    /// Threads that prepare batches, per rank; at most four for each core the rank may use. Default: one for each
    #[arg(long, value_name = "N", help_heading = "Machine", add = Scope::Free)]
    pub loader_threads: Option<usize>,

    /// Longest wait for another rank that makes no progress before the job gives up, in seconds
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS", help_heading = "Machine", add = Scope::OneRun)]
    #[arg(add = NotInRecipe("it already holds while the recipe is read; give --timeout on the command line"))]
    pub timeout: f64,

    /// How it begins, goes on and ends
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunArgs,

    /// Where fetched files are kept
    #[command(flatten)]
    #[serde(flatten)]
    pub store: StoreArgs,

    /// Folder for the results, in which no run has begun yet. Default: a new one below ./runs
    #[arg(long, value_name = "DIR", help_heading = "Results", add = Scope::OneRun)]
    pub output: Option<PathBuf>,

    /// Train nothing: score the model of --weights, --pretrained or --resume on the validation images, as the run would,
    /// and write evaluation.json and report.html
    #[arg(long, help_heading = "Results", add = Scope::OneRun)]
    pub eval_only: bool,

    /// Write what every rank did when to FILE, for ui.perfetto.dev or chrome://tracing
    #[arg(long, value_name = "FILE", help_heading = "Results", add = Scope::OneRun)]
    pub trace: Option<PathBuf>,
}

/// The type that a network computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PrecisionKind {
    /// Single precision throughout
    Single,
    /// bfloat16 in convolutions and matrix products
    Bf16,
    /// fp16 in convolutions and matrix products, with loss scaling
    Fp16,
}

/// What rank 0 saves of running statistics that differ from rank to rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DistributeBn {
    /// Their mean
    Average,
    /// Rank 0's
    Broadcast,
}

/// The type that gradients travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// As they are
    None,
    /// As bfloat16
    Bf16,
    /// As fp16
    Fp16,
}

/// How much of a network its weights must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum WeightsMatch {
    /// All of it
    Strict,
    /// All but the head, which is reinitialized where it tells another number of classes apart
    Head,
    /// Whatever fits
    Partial,
}

/// What is not trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Freeze {
    /// Nothing
    None,
    /// Everything but the head
    Backbone,
}

/// The help of `--model`: all networks by name.
fn model_help() -> String {
    let names: Vec<_> = architectures::ARCHITECTURES.iter().map(|known| known.name).collect();
    format!("Network: {}", names.join(", "))
}

/// Whether a flag's value is a number.
fn is_number(arg: &clap::Arg) -> bool {
    let parsed = arg.get_value_parser().type_id();
    [TypeId::of::<f64>(), TypeId::of::<usize>(), TypeId::of::<u64>()].iter().any(|number| parsed == *number)
}

/// The command line as clap knows it. Every switch of a run can be switched off again, `--sync-bn=false`, which is how the
/// command line wins over a file.
pub(crate) fn command() -> clap::Command {
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
    Cli::command().mut_args(switchable).mut_subcommand("bench", |bench| bench.mut_args(switchable))
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
    pub(crate) fn recipe(&self) -> Option<&Path> {
        match &self.command {
            None => self.train.config.as_deref(),
            Some(Command::Bench(bench)) => bench.train.config.as_deref(),
            Some(_) => None,
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        let seconds = match &self.command {
            None => self.train.timeout,
            Some(Command::Fetch(fetch)) => fetch.timeout,
            Some(Command::Cache(cache)) => cache.timeout,
            Some(Command::Bench(bench)) => bench.train.timeout,
            Some(Command::Profile(_) | Command::Report(_)) => return Duration::MAX, // waits for nobody
            Some(Command::Eval(eval)) => eval.model.timeout,
            Some(Command::Predict(predict)) => predict.model.timeout,
            Some(Command::Export(export)) => export.model.timeout,
        };
        // A time that makes no sense is refused later; MPI is started before that.
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(600))
    }
}

const EVAL_EXAMPLES: &str = "\
Examples:
  rust-train eval --model resnet50 --pretrained --data imagenet
  mpirun -n 4 rust-train eval --model cifar_resnet20 --weights runs/pets-cifar_resnet20/best.safetensors --data pets";

const BENCH_EXAMPLES: &str = "\
Examples:
  mpirun -n 4 rust-train bench --ranks 1,2,4 --model resnet18 --batch 256
  srun -N 4 --ntasks-per-node=4 rust-train bench --strong --data /scratch/imagenet --model resnet50 --batch 1024

The first ranks of the job are measured, so those of a node come first. Writes scaling.html, scaling.svg, scaling.csv and
scaling.json into the folder --output.";

const EXPORT_EXAMPLES: &str = "\
Examples:
  rust-train export --model resnet18 --weights best.safetensors --output best.pth    for torchvision
  rust-train export --model resnet18 --pretrained --output resnet18.onnx";

const FETCH_EXAMPLES: &str = "\
Examples:
  rust-train fetch https://example.org/resnet18-f37072fd.safetensors      on a login node with internet
  srun rust-train fetch --store /local/weights https://example.org/w.bin  one download, a copy on every node

Mirror: RUST_TRAIN_MIRROR names a folder, or an address that file names are appended to; it is asked first.
Proxy: https_proxy, http_proxy, all_proxy, no_proxy. A site's own certificate authority: SSL_CERT_FILE, SSL_CERT_DIR.";

const CACHE_EXAMPLES: &str = "\
Examples:
  rust-train cache --data pets --model resnet50             on a login node, ahead of the job
  srun rust-train cache --data pets --image-size 224        all ranks together
  rust-train cache --verify --data pets --model resnet50

Give the same flags as to the run: data, size and format decide which cache it is.
Exit status: 0 done, and with --verify and --explain: the cache is whole, or current; 1 it is not; 2 bad input.";

const EXAMPLES: &str = "\
Examples:
  rust-train                                        the digits, on one rank
  mpirun -n 2 rust-train                            the same, on two
  mpirun -n 4 rust-train --data pets --model resnet50 --batch 256
  srun --ntasks-per-node=4 rust-train --data /scratch/imagenet --cache /local/cache
  mpirun -n 4 rust-train --output run --resume auto begins a run, or goes on with it

Logs: RUST_LOG=debug shows more, RUST_LOG=warn less.
Exit status: 0 done, 1 failed, 2 wrong usage or bad input, 75 stopped by a signal or a
time limit with a checkpoint saved: run it again with --resume auto.";
