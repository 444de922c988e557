//! The flags of a training run.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{
    AugmentationArgs, BatchSize, DEFAULT_MODEL, DataArgs, DistillationArgs, Essential, NotInRecipe, OptimizationArgs,
    PrecisionKind, RunArgs, Scope, StoreArgs, TaskArgs, model_help, model_names,
};

/// The flags of a training run. As a table they are the file that `--config` reads.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainArgs {
    /// Take flags from a recipe, a TOML file
    ///
    /// Its keys are the flags' names, as in `lr = 0.1`. The command line wins. A path, or a recipe inside the program: digits,
    /// cifar10, finetune, imagenet-resnet50, resnet50-a1, -a2, -a3, -lars-32k and -torchvision, mobilenet-v2-torchvision,
    /// vit-b-16-torchvision, vit-small-deit, swin-t-torchvision, convnext-tiny
    #[arg(long, value_name = "FILE", add = Scope::OneRun, add = NotInRecipe("a recipe cannot name another one"), add = Essential)]
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

    /// What is learned
    #[command(flatten)]
    #[serde(flatten)]
    pub task: TaskArgs,

    /// What is minimized, and by which steps
    #[command(flatten)]
    #[serde(flatten)]
    pub optimization: OptimizationArgs,

    /// What is learned from another model
    #[command(flatten)]
    #[serde(flatten)]
    pub distillation: DistillationArgs,

    /// The network's name
    #[arg(long, default_value = DEFAULT_MODEL, help = model_help(), long_help = model_names(), help_heading = "Model", add = Essential)]
    pub model: String,

    /// Start from these weights: a run's folder, or a file
    ///
    /// The folder of a run or of a checkpoint, or .pth, .safetensors or .npz with the network's own names or timm's: a path,
    /// file://, https://, a model of the Hugging Face Hub, hf:ORG/NAME or hf:ORG/NAME@REVISION, or one of torchvision's by its name there,
    /// IMAGENET1K_V1 or ResNet50_Weights.IMAGENET1K_V1. Downloaded once for the whole job
    #[arg(long, value_name = "SOURCE", help_heading = "Model", conflicts_with = "pretrained", add = Essential)]
    pub weights: Option<String>,

    /// SHA-256 of the weights, or its first digits
    #[arg(long, value_name = "HEX", help_heading = "Model")]
    pub weights_sha256: Option<String>,

    /// Key of the weights in a .pth that holds more, as model_ema or state.model. Default: state_dict, model, module and the like
    #[arg(long, value_name = "KEY", help_heading = "Model")]
    pub weights_key: Option<String>,

    /// What stands before the names of the weights, as encoder_q. Default: whatever stands before all of the network's
    #[arg(long, value_name = "PREFIX", help_heading = "Model")]
    pub weights_prefix: Option<String>,

    /// Start from the weights that torchvision publishes
    ///
    /// Their head is kept where the classes are as many
    #[arg(long, help_heading = "Model", add = Essential)]
    pub pretrained: bool,

    /// How much of the network the weights must match. Default: strict; with --pretrained, head
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Model")]
    pub weights_match: Option<WeightsMatch>,

    /// Leave residual branches out, image by image, the deeper the more often, up to this probability (stochastic depth). Default: as
    /// the network has it
    #[arg(long, value_name = "PROBABILITY", help_heading = "Model")]
    pub drop_path: Option<f64>,

    /// Train with the auxiliary heads that the original has, too: of googlenet, inception_v3, fcn and deeplabv3. Their losses count 0.3, 0.4
    /// and 0.5 times
    #[arg(long, help_heading = "Model")]
    pub aux_loss: bool,

    /// Leave these parts as they are
    #[arg(long, value_enum, value_name = "PART", default_value_t = Freeze::None, help_heading = "Model")]
    pub freeze: Freeze,

    /// Epochs after which everything is trained. Default: never
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub freeze_epochs: Option<usize>,

    /// Train nothing but the head, at once: the one that fits what the rest of the network makes of the training images best
    ///
    /// Each image is looked at once, as in evaluation, over all ranks; what is minimized has one minimum (logistic regression), whatever the
    /// number of ranks, --lr or --seed. Needs --weights or --pretrained
    #[arg(long, help_heading = "Model")]
    pub linear_probe: bool,

    /// Linear probe: the L2 penalty on the head's weights, 1 / (C x images) of scikit-learn's C. Default: the one under which a fifth of
    /// the training images, held out, have the least loss
    #[arg(long, value_name = "PENALTY", help_heading = "Model")]
    pub probe_penalty: Option<f64>,

    /// Passes over the training images
    #[arg(long, default_value_t = 20, help_heading = "Training", add = Essential)]
    pub epochs: usize,

    /// Images per step over all ranks
    ///
    /// The ranks must be able to share them evenly. auto:N, or auto for 64: N images, which every rank computes in
    /// micro-batches of the largest size that fits in the memory of all
    #[arg(long, default_value = "64", value_name = "N", help_heading = "Training", add = Essential)]
    pub batch: BatchSize,

    /// Compute each rank's part of the batch in this many micro-batches, one after the other: less memory, same batch
    #[arg(long, alias = "accumulation", default_value_t = 1, value_name = "N", help_heading = "Training")]
    pub accumulate: usize,

    /// Compute each batch in this many fixed parts, a power of two: the same bits on any power of two of ranks up to that
    ///
    /// Each part is computed by one thread of the CPU, or on a GPU by algorithms that repeat bit for bit; BatchNorm sees a part's images, and
    /// everything is added up along one binary tree. A run that is stopped goes on at another number of ranks with the same bits. Each part is
    /// of --batch / V images
    #[arg(long, value_name = "V", help_heading = "Training")]
    pub virtual_ranks: Option<usize>,

    /// Type to compute in, where that is safe
    #[arg(long, alias = "amp", value_enum, default_value_t = PrecisionKind::Fp32, help_heading = "Training")]
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

    /// Use only algorithms that repeat bit for bit, instead of the fastest; an operation that has none is named
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

    /// Ranks that share a CUDA device: their gradients travel over MPI. For workstations, slices of a GPU, and tests
    #[arg(long, value_name = "RANKS", default_value_t = 1, help_heading = "Machine", add = Scope::Free)]
    pub ranks_per_device: usize,

    /// Compute BatchNorm, what is added to it and the activation after that in one, and on a GPU LayerNorm and the sum before it, by
    /// kernels of our own, which are tried out when a run starts; off: by libtorch, one by one
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Fused::Auto, help_heading = "Machine", add = Scope::Free)]
    pub fused: Fused,

    /// Give a GPU whole steps at once, recorded after the first eleven (CUDA graphs)
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = CudaGraph::Off, help_heading = "Machine", add = Scope::Free)]
    pub cuda_graph: CudaGraph,

    /// Forget these values after the forward pass and compute them once more on the way back: much less memory for activations, at
    /// most one more forward pass, the same bits
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Recompute::None, help_heading = "Machine", add = Scope::Free)]
    pub recompute: Recompute,

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

    /// Folder for the results [default: a new one below ./runs]
    ///
    /// No run may have begun there yet
    #[arg(long, value_name = "DIR", help_heading = "Results", add = Scope::OneRun, add = Essential)]
    pub output: Option<PathBuf>,

    /// Train nothing: score the model of --weights, --pretrained or --resume on the validation images, as the run would,
    /// and write evaluation.json and report.html
    #[arg(long, help_heading = "Results", add = Scope::OneRun)]
    pub eval_only: bool,

    /// With --eval-only: tell images by the K training images whose features are nearest, in the place of the head
    #[arg(long, value_name = "K", help_heading = "Results", add = Scope::OneRun)]
    pub knn: Option<usize>,

    /// Write hashes of each step's weights, and of each part's images, loss and gradients, into bits.jsonl, for compare-bits
    ///
    /// It costs some speed, and some kilobytes a step. Parts are those of --virtual-ranks
    #[arg(long, help_heading = "Results", add = Scope::Free)]
    pub record_bits: bool,

    /// Write what every rank did when to FILE, for ui.perfetto.dev or chrome://tracing
    #[arg(long, value_name = "FILE", help_heading = "Results", add = Scope::OneRun)]
    pub trace: Option<PathBuf>,
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

/// What is computed once more on the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Nothing
    None,
    /// The inside of each block: of a residual block, or of the layers between two poolings
    Blocks,
}

/// Whether kernels of our own are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fused {
    /// Where they are right: on a GPU they are compiled first, by NVRTC or hipRTC
    Auto,
    /// Nowhere
    Off,
}

/// Whether steps are given to a GPU as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CudaGraph {
    /// Where a step can be recorded: else one line says why not
    Auto,
    /// One operation at a time
    Off,
}
