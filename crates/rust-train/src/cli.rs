//! The command line: flags as they are typed. `plan` makes validated values of them.

mod models;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use models::{EvalArgs, ExportArgs, Format, InferenceArgs, ModelArgs, PredictArgs, ProfileArgs};
pub use run::{OnNan, RunArgs};

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

    /// Say how good a model is on a folder of pictures
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(EvalArgs),

    /// Say which classes a model sees in pictures
    Predict(PredictArgs),

    /// Write a model for other programs: safetensors, pth, TorchScript, ONNX
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
}

/// The flags of `cache`.
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    /// Compare every picture in the cache with its checksum
    #[arg(long, conflicts_with_all = ["explain", "summary"])]
    pub verify: bool,

    /// Say why the cache would have to be built anew
    #[arg(long, conflicts_with = "summary")]
    pub explain: bool,

    /// Show how many pictures each class has, and what was skipped
    #[arg(long)]
    pub summary: bool,

    /// Where the pictures come from
    #[command(flatten)]
    pub data: DataArgs,

    /// Network that the pictures are for: decides their size
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub model: String,

    /// Longest wait for another rank, or for another job that builds the same cache, in seconds
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

    /// Longest wait for another rank before the job gives up, in seconds
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS")]
    pub timeout: f64,
}

/// Where fetched files are kept, and how they get there.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    /// Folder for fetched files. Default: rust-train in the user's cache folder
    #[arg(long, value_name = "DIR", help_heading = "Fetching")]
    pub store: Option<PathBuf>,

    /// Download nothing; say what to put where
    #[arg(long, help_heading = "Fetching")]
    pub offline: bool,

    /// How often a transfer is tried
    #[arg(long, default_value_t = 5, value_name = "N", help_heading = "Fetching")]
    pub attempts: usize,

    /// Longest time in which no byte of a download arrives, in seconds
    #[arg(
        long,
        default_value_t = 30.0,
        value_name = "SECONDS",
        allow_negative_numbers = true,
        help_heading = "Fetching"
    )]
    pub stall_timeout: f64,
}

/// The flags of a training run.
#[derive(Args, Clone, Debug)]
pub struct TrainArgs {
    /// Where the pictures come from
    #[command(flatten)]
    pub data: DataArgs,

    /// What happens to training pictures
    #[command(flatten)]
    pub augmentation: AugmentationArgs,

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
    #[arg(long, value_enum, value_name = "PART", help_heading = "Model")]
    pub freeze: Option<Freeze>,

    /// Epochs after which everything is trained. Default: never
    #[arg(long, value_name = "N", requires = "freeze", help_heading = "Model")]
    pub freeze_epochs: Option<usize>,

    /// Passes over the training pictures
    #[arg(long, default_value_t = 20, help_heading = "Training")]
    pub epochs: usize,

    /// Pictures per step over all ranks; the ranks must be able to share them evenly
    #[arg(long, default_value_t = 64, help_heading = "Training")]
    pub batch: usize,

    /// Highest learning rate of the schedule: a linear warm-up, then a half cosine down to zero
    #[arg(long, default_value_t = 0.1, help_heading = "Training")]
    pub lr: f64,

    /// Epochs of warm-up. Default: a quarter of all, at most 5
    #[arg(long, value_name = "EPOCHS", allow_negative_numbers = true, help_heading = "Training")]
    pub warmup: Option<f64>,

    /// How gradients become steps
    #[arg(long, value_enum, default_value_t = OptimizerKind::Sgd, help_heading = "Training")]
    pub optimizer: OptimizerKind,

    /// Momentum of SGD and LARS
    #[arg(long, default_value_t = 0.9, help_heading = "Training")]
    pub momentum: f64,

    /// Nesterov's form of momentum
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL", help_heading = "Training")]
    pub nesterov: bool,

    /// L2 penalty on the weights; of AdamW and LAMB the decay
    #[arg(long, default_value_t = 5e-4, help_heading = "Training")]
    pub weight_decay: f64,

    /// No weight decay on vectors: biases, and the scales of norms
    #[arg(long, help_heading = "Training")]
    pub no_decay_on_vectors: bool,

    /// Scale gradients down to this global norm where it is larger
    #[arg(long, value_name = "NORM", help_heading = "Training")]
    pub clip_norm: Option<f64>,

    /// Compute each rank's part of the batch in this many micro-batches, one after the other: less memory, same batch
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Training")]
    pub accumulate: usize,

    /// Type to compute in, where that is safe
    #[arg(long, value_enum, default_value_t = PrecisionKind::Single, help_heading = "Training")]
    pub precision: PrecisionKind,

    /// Batch statistics over the pictures of all ranks, in every BatchNorm
    #[arg(long, help_heading = "Training")]
    pub sync_bn: bool,

    /// What rank 0 saves of BatchNorm's running statistics
    #[arg(long, value_enum, default_value_t = DistributeBn::Average, help_heading = "Training")]
    pub distribute_bn: DistributeBn,

    /// Everything random follows from it: weights, order, augmentation
    #[arg(long, default_value_t = 0, help_heading = "Training")]
    pub seed: u64,

    /// On CUDA use only algorithms that repeat bit for bit, instead of the fastest
    #[arg(long, help_heading = "Training")]
    pub deterministic: bool,

    /// Stop after this many steps. Default: when the epochs are over
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    pub max_steps: Option<usize>,

    /// Device of each rank: '' (CUDA where every rank of the node can have one, else the CPU), cpu, cuda, 0, 0,1, cuda:0
    #[arg(long, default_value = "", help_heading = "Machine")]
    pub device: String,

    /// Pictures and filters in channels-last order in memory: faster on tensor cores, and often on the CPU
    #[arg(long, help_heading = "Machine")]
    pub channels_last: bool,

    /// On CUDA let matrix products and convolutions round single precision to TF32
    #[arg(long, help_heading = "Machine")]
    pub tf32: bool,

    /// Spread the optimizer's state over the ranks (ZeRO stage 1): same numbers, less memory
    #[arg(long, help_heading = "Machine")]
    pub zero: bool,

    /// Megabytes of gradients that travel together
    #[arg(long, default_value_t = 25, value_name = "MB", help_heading = "Machine")]
    pub bucket_mb: usize,

    /// Send gradients in a type of half the size
    #[arg(long, value_enum, default_value_t = Compression::None, help_heading = "Machine")]
    pub compress_gradients: Compression,

    /// Compare the parameters of all ranks every N steps, by a hash of each; 0 never does
    #[arg(long, default_value_t = 500, value_name = "STEPS", help_heading = "Machine")]
    pub compare_replicas: usize,

    /// Threads that prepare batches, per rank. Default: the cores the rank may use
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub loader_threads: Option<usize>,

    /// Longest wait for another rank before the job gives up, in seconds
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS", help_heading = "Machine")]
    pub timeout: f64,

    /// How it begins, goes on and ends
    #[command(flatten)]
    pub run: RunArgs,

    /// Where fetched files are kept
    #[command(flatten)]
    pub store: StoreArgs,

    /// Folder for the results, which must not exist yet. Default: a new one below ./runs
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub output: Option<PathBuf>,

    /// Write what every rank did when to FILE, for ui.perfetto.dev or chrome://tracing
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub trace: Option<PathBuf>,
}

/// Where the pictures come from and how they are kept. The same flags make the same cache, in a run and in `cache`.
#[derive(Args, Clone, Debug)]
pub struct DataArgs {
    /// Folder of pictures: DIR/train/CLASS/* and DIR/val/CLASS/*, or lists with PATH, a tab and CLASS: DIR/train.tsv
    /// and DIR/val.tsv. Or an HDF5 file with pictures and labels. Default: the digits inside the program
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub data: Option<PathBuf>,

    /// File with the names of the classes, one a line, in the order of their labels. Default: the folders' names
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub classes: Option<PathBuf>,

    /// What is kept of each picture
    #[arg(long, value_enum, default_value_t = CacheFormat::Pixels, help_heading = "Data")]
    pub cache_format: CacheFormat,

    /// Folder for the cache (one HDF5 file). Default: beside the pictures, or where that cannot be written, in the
    /// user's cache folder
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub cache: Option<PathBuf>,

    /// Who builds the cache: all ranks together, on storage that all nodes share, or those of each node, on its own disk
    #[arg(long, value_enum, default_value_t = CacheScope::Auto, help_heading = "Data")]
    pub cache_scope: CacheScope,

    /// What to do with a picture that cannot be decoded
    #[arg(long, value_enum, default_value_t = BadImage::Fail, help_heading = "Data")]
    pub on_bad_image: BadImage,

    /// Side of the pictures that the network sees, in pixels. Default: what the model was made for; 8 for the digits
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    pub image_size: Option<usize>,

    /// Black pixels around a picture before a random window is cut out. Default for sizes up to 64: an eighth of the
    /// size. Larger sizes get a random part of the picture, scaled
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    pub crop_padding: Option<usize>,

    /// How pictures are scaled
    #[arg(long, value_enum, default_value_t = ResampleKind::Bilinear, help_heading = "Data")]
    pub resample: ResampleKind,

    /// Turn pictures upright as their EXIF orientation says. torchvision's ImageFolder does not
    #[arg(long, help_heading = "Data")]
    pub exif_orientation: bool,
}

/// What happens to training pictures, beside the crop.
#[derive(Args, Clone, Debug)]
pub struct AugmentationArgs {
    /// Never mirror a picture. The digits never are
    #[arg(long, help_heading = "Augmentation")]
    pub no_flip: bool,

    /// Change brightness, contrast and saturation by a random factor of 1 − X to 1 + X
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "Augmentation")]
    pub color_jitter: f64,

    /// Random operations on each picture
    #[arg(long, value_enum, default_value_t = AutoAugment::None, help_heading = "Augmentation")]
    pub auto_augment: AutoAugment,

    /// Strength of RandAugment's operations, 0 to 30
    #[arg(long, value_name = "N", default_value_t = 9, help_heading = "Augmentation")]
    pub magnitude: u32,

    /// Share of the pictures that lose a random rectangle
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = "Augmentation")]
    pub random_erasing: f64,

    /// Blend pictures two by two (mixup), with this parameter of the Beta distribution
    #[arg(long, value_name = "ALPHA", default_value_t = 0.0, help_heading = "Augmentation")]
    pub mixup: f64,

    /// Paste a rectangle of one picture into another (cutmix), with this parameter
    #[arg(long, value_name = "ALPHA", default_value_t = 0.0, help_heading = "Augmentation")]
    pub cutmix: f64,

    /// Take each picture N times in a row, each time in another form (repeated augmentation)
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Augmentation")]
    pub repeats: usize,

    /// Draw every class as often as any other, however many pictures each has
    #[arg(long, help_heading = "Augmentation")]
    pub balanced: bool,
}

/// What a cache keeps of each picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CacheFormat {
    /// Its pixels, decoded and scaled: the fastest to read
    Pixels,
    /// Its file: a random part is cut from all of the picture, decoded every time
    Encoded,
    /// No cache: read the files
    None,
}

/// What to do with a picture that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BadImage {
    /// Name it, and give up
    Fail,
    /// Leave it out, and list it
    Skip,
}

/// How pictures are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ResampleKind {
    /// As torchvision does by default
    Bilinear,
    /// Sharper
    Bicubic,
}

/// A random choice of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AutoAugment {
    /// No operations
    None,
    /// RandAugment: two operations of one strength
    Rand,
    /// TrivialAugment: one operation of a random strength
    Trivial,
}

/// How gradients become steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum
    Sgd,
    /// Adam, weight decay as an L2 penalty
    Adam,
    /// Adam with decoupled weight decay
    #[value(name = "adamw")]
    AdamW,
    /// For large batches: SGD scaled layer by layer
    Lars,
    /// For large batches: Adam scaled layer by layer
    Lamb,
}

/// The type that a network computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PrecisionKind {
    /// Single precision throughout
    Single,
    /// bfloat16 in convolutions and matrix products
    Bf16,
    /// fp16 in convolutions and matrix products, with loss scaling
    Fp16,
}

/// What rank 0 saves of running statistics that differ from rank to rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DistributeBn {
    /// Their mean
    Average,
    /// Rank 0's
    Broadcast,
}

/// The type that gradients travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// As they are
    None,
    /// As bfloat16
    Bf16,
    /// As fp16
    Fp16,
}

/// How much of a network its weights must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WeightsMatch {
    /// All of it
    Strict,
    /// All but the head, which is drawn anew where it tells another number of classes apart
    Head,
    /// Whatever fits
    Partial,
}

/// What is not trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Freeze {
    /// Everything but the head
    Backbone,
}

/// Who builds the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CacheScope {
    /// Find out, with a file that one node makes and the others look for.
    Auto,
    /// Rank 0, for all nodes.
    World,
    /// One rank of each node.
    Node,
}

/// The help of `--model`: all networks by name.
fn model_help() -> String {
    let names: Vec<_> = architectures::ARCHITECTURES.iter().map(|known| known.name).collect();
    format!("Network: {}", names.join(", "))
}

impl Cli {
    pub(crate) fn timeout(&self) -> Duration {
        let seconds = match &self.command {
            None => self.train.timeout,
            Some(Command::Fetch(fetch)) => fetch.timeout,
            Some(Command::Cache(cache)) => cache.timeout,
            Some(Command::Profile(_)) => return Duration::MAX, // waits for nobody
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

const EXPORT_EXAMPLES: &str = "\
Examples:
  rust-train export --model resnet18 --weights best.safetensors --output best.pth    for torchvision
  rust-train export --model resnet18 --pretrained --output resnet18.onnx";

const FETCH_EXAMPLES: &str = "\
Examples:
  rust-train fetch https://example.org/resnet18-f37072fd.safetensors      on a login node with internet
  srun rust-train fetch --store /local/weights https://example.org/w.bin  one download, a copy on every node

Mirror: RUST_TRAIN_MIRROR names a folder, or an address that file names are appended to; it is asked first.";

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
