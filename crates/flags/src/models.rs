//! The flags of the verbs about models: profile, export, eval, predict.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ImageArgs, MaskArgs, MembersArgs, OptimizerKind, PrecisionKind, Recompute, StoreArgs, TableArgs};

/// The network of a run that names none.
pub const DEFAULT_MODEL: &str = "cifar_resnet20";

/// Which network, and which weights.
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// The network's name
    #[arg(long, help = format!("{}. Default: what the model card of the weights says, or the one that they fit", model_help()))]
    pub model: Option<String>,

    /// Weights: the folder of a run or of a checkpoint, or a file: .safetensors, .pth or .npz; a path, file://, https:// or hf:ORG/NAME
    #[arg(long, value_name = "SOURCE", conflicts_with = "pretrained")]
    pub weights: Option<String>,

    /// SHA-256 of the weights, or its first digits
    #[arg(long, value_name = "HEX")]
    pub weights_sha256: Option<String>,

    /// Key of the weights in a .pth that holds more, as model_ema or state.model. Default: state_dict, model, module and the like
    #[arg(long, value_name = "KEY")]
    pub weights_key: Option<String>,

    /// What stands before the names of the weights, as encoder_q. Default: whatever stands before all of the network's
    #[arg(long, value_name = "PREFIX")]
    pub weights_prefix: Option<String>,

    /// The weights that torchvision publishes for the network
    #[arg(long)]
    pub pretrained: bool,

    /// What an image becomes
    #[command(flatten)]
    pub images: ImageArgs,

    /// File with the names of the classes, one a line, in the order of their labels. Default: those of the model card
    #[arg(long, value_name = "FILE")]
    pub classes: Option<PathBuf>,

    /// Where fetched files are kept
    #[command(flatten)]
    pub store: StoreArgs,

    /// Longest wait for another rank that makes no progress before the job gives up, in seconds
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS")]
    pub timeout: f64,
}

/// The flags of `models`.
#[derive(Args, Clone, Debug)]
pub struct ModelsArgs {
    /// Only the networks whose names contain one of these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Only those with published weights
    #[arg(long)]
    pub pretrained: bool,

    /// Only those with at most so many million parameters
    #[arg(long, value_name = "MILLIONS")]
    pub max_parameters: Option<f64>,

    /// Sort by this column
    #[arg(long, value_enum, default_value_t = ModelColumn::Name)]
    pub sort: ModelColumn,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A column of the table of networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModelColumn {
    /// By family, as they are listed
    Name,
    /// Smallest first
    Parameters,
    /// Cheapest first
    Macs,
    /// Best first; those without published weights last
    Accuracy,
}

/// The flags of `profile`.
#[derive(Args, Clone, Debug)]
pub struct ProfileArgs {
    /// The network's name
    #[arg(long, default_value = DEFAULT_MODEL, help = model_help())]
    pub model: String,

    /// Height and width of the images, in pixels. Default: what the model was made for
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<usize>,

    /// Images at a time on one device
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub batch: usize,

    /// Classes that the head tells apart. Default: 1000; 21 where it tells them at each pixel
    #[arg(long, value_name = "N")]
    pub classes: Option<usize>,

    /// Optimizer whose state counts
    #[arg(long, value_enum, default_value_t = OptimizerKind::Sgd)]
    pub optimizer: OptimizerKind,

    /// Type that activations have
    #[arg(long, value_enum, default_value_t = PrecisionKind::Fp32)]
    pub precision: PrecisionKind,

    /// What training computes once more on the way back
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Recompute::None)]
    pub recompute: Recompute,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The flags of `export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// What to export: the folder of a run or of a checkpoint, or a file of weights
    #[arg(value_name = "RUN", conflicts_with_all = ["weights", "pretrained"])]
    pub run: Option<String>,

    /// Which network and weights
    #[command(flatten)]
    pub model: ModelArgs,

    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,

    /// Format of the file. Default: by its ending
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// Whose names the weights get, in safetensors and pth
    #[arg(long, value_enum, default_value_t = WeightNames::Torchvision)]
    pub names: WeightNames,
}

/// Whose names weights have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightNames {
    /// torchvision's, as everywhere here
    Torchvision,
    /// timm's, for timm.create_model(…).load_state_dict(…)
    Timm,
}

/// A format that models leave in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Weights alone, in the open format
    Safetensors,
    /// Weights alone, as torch.save writes a state dict
    Pth,
    /// Network and weights, for torch.jit.load
    #[value(name = "torchscript")]
    TorchScript,
    /// Network and weights, for ONNX Runtime and others
    Onnx,
}

/// Which images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplitKind {
    /// Those to validate on
    Val,
    /// Those to test on
    Test,
}

/// The flags of `eval`.
#[derive(Args, Clone, Debug)]
pub struct EvalArgs {
    /// What to evaluate: the folder of a run or of a checkpoint, or a file of weights
    #[arg(value_name = "RUN", conflicts_with_all = ["weights", "pretrained"])]
    pub run: Option<String>,

    /// Which network and weights
    #[command(flatten)]
    pub model: ModelArgs,

    /// Images, as for training: those in DIR/val/CLASS/* or DIR/val.tsv are looked at. Default: those that the run was
    /// validated on
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Look at those images that training with this --val-split sets aside from DIR. Default: as the run did
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub val_split: Option<f64>,

    /// Which images of the data: those to validate on, or those to test on (DIR/test, test.tsv, t10k-images-idx3-ubyte)
    #[arg(long, value_name = "SPLIT", default_value = "val", conflicts_with = "val_split")]
    pub split: SplitKind,

    /// What is in a file
    #[command(flatten)]
    pub members: MembersArgs,

    /// What is in a table
    #[command(flatten)]
    pub table: TableArgs,

    /// What is in masks
    #[command(flatten)]
    pub masks: MaskArgs,

    /// How images become batches
    #[command(flatten)]
    pub inference: InferenceArgs,

    /// Write evaluation.json and report.html, with the scores of each class, into this folder
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Write the logits of every image to FILE, tab-separated
    #[arg(long, value_name = "FILE")]
    pub logits: Option<PathBuf>,

    /// Write the features of every image to FILE, tab-separated: what the head takes
    #[arg(long, value_name = "FILE", conflicts_with = "logits")]
    pub features: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The flags of `predict`.
#[derive(Args, Clone, Debug)]
pub struct PredictArgs {
    /// Images, or folders of images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,

    /// Which network and weights
    #[command(flatten)]
    pub model: ModelArgs,

    /// How images become batches
    #[command(flatten)]
    pub inference: InferenceArgs,

    /// Write the mask of each image into this folder, as NAME.png with a palette, in the size of the image: of weights that tell the
    /// class of each pixel
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// How many classes to show for each image
    #[arg(long, default_value_t = 5, value_name = "K")]
    pub top: usize,

    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// How images become batches.
#[derive(Args, Clone, Debug)]
pub struct InferenceArgs {
    /// Images at a time, per rank
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub batch: usize,

    /// Device of each rank: '' (CUDA where every rank of the node can have one, else the CPU), cpu, cuda, 0, 0,1, cuda:0
    #[arg(long, default_value = "")]
    pub device: String,

    /// Look at each image mirrored left to right, too, and take the mean of both outputs: twice the time
    #[arg(long)]
    pub test_flip: bool,
}

/// The long help of `--model`: all networks by name.
pub(crate) fn model_names() -> String {
    let names: Vec<_> = architectures::ARCHITECTURES.iter().map(|known| known.name).collect();
    format!("Network: {}. rust-train models says what they cost", names.join(", "))
}

/// The help of `--model`.
pub(crate) fn model_help() -> &'static str {
    "Network: rust-train models lists their names"
}
