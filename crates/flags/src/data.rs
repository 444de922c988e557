//! The flags about images: which, how they are kept, and what happens to them on their way into a batch.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Scope;

/// Where the images come from and how they are kept. The same flags make the same cache, in a run and in `cache`.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataArgs {
    /// Folder of images: DIR/train/CLASS/* and DIR/val/CLASS/*, or lists with PATH, a tab and CLASS: DIR/train.tsv
    /// and DIR/val.tsv. Or an HDF5 file with images and labels. Default: the digits inside the program
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub data: Option<PathBuf>,

    /// File with the names of the classes, one a line, in the order of their labels. Default: the folders' names
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub classes: Option<PathBuf>,

    /// What is kept of each image
    #[arg(long, value_enum, default_value_t = CacheFormat::Pixels, help_heading = "Data")]
    pub cache_format: CacheFormat,

    /// Folder for the cache (one HDF5 file). Default: beside the images, or where there is no current one and none can
    /// be written, in the user's cache folder
    #[arg(long, value_name = "DIR", help_heading = "Data", add = Scope::Free)]
    pub cache: Option<PathBuf>,

    /// Who builds the cache: all ranks together, on storage that all nodes share, or those of each node, on its own disk
    #[arg(long, value_enum, default_value_t = CacheScope::Auto, help_heading = "Data", add = Scope::Free)]
    pub cache_scope: CacheScope,

    /// What to do with an image that cannot be decoded
    #[arg(long, value_enum, default_value_t = BadImage::Fail, help_heading = "Data")]
    pub on_bad_image: BadImage,

    /// Height and width of the images that the network sees, in pixels. Default: what the model was made for; 8 for the digits
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    pub image_size: Option<usize>,

    /// Black pixels around an image before a random window is cut out. Default for sizes up to 64: an eighth of the
    /// size. Larger sizes get a random part of the image, scaled
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    pub crop_padding: Option<usize>,

    /// How images are scaled
    #[arg(long, value_enum, default_value_t = ResampleKind::Bilinear, help_heading = "Data")]
    pub resample: ResampleKind,

    /// Turn images upright as their EXIF orientation says. torchvision's ImageFolder does not
    #[arg(long, help_heading = "Data")]
    pub exif_orientation: bool,
}

/// What happens to training images, beside the crop.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AugmentationArgs {
    /// Never mirror an image. The digits never are
    #[arg(long, help_heading = "Augmentation")]
    pub no_flip: bool,

    /// Change brightness, contrast and saturation by a random factor of 1 − X to 1 + X
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "Augmentation")]
    pub color_jitter: f64,

    /// Random operations on each image
    #[arg(long, value_enum, default_value_t = AutoAugment::None, help_heading = "Augmentation")]
    pub auto_augment: AutoAugment,

    /// Strength of RandAugment's operations, 0 to 30
    #[arg(long, value_name = "N", default_value_t = 9, help_heading = "Augmentation")]
    pub magnitude: u32,

    /// Fraction of the images that lose a random rectangle
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = "Augmentation")]
    pub random_erasing: f64,

    /// Blend images two by two (mixup), with this parameter of the Beta distribution
    #[arg(long, value_name = "ALPHA", default_value_t = 0.0, help_heading = "Augmentation")]
    pub mixup: f64,

    /// Paste a rectangle of one image into another (cutmix), with this parameter
    #[arg(long, value_name = "ALPHA", default_value_t = 0.0, help_heading = "Augmentation")]
    pub cutmix: f64,

    /// Take each image N times into its batch, each time in another form (repeated augmentation). An epoch is still as
    /// many images as there are, and sees one in N of them
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Augmentation")]
    pub repeats: usize,

    /// Begin with images of this height and width, in pixels, and let them grow to --image-size (progressive resizing)
    #[arg(long, value_name = "PIXELS", help_heading = "Augmentation")]
    pub progressive_resize: Option<usize>,

    /// Epochs in which images grow. Default: 0.8 of all
    #[arg(long, value_name = "EPOCHS", help_heading = "Augmentation")]
    pub progressive_epochs: Option<usize>,

    /// Draw every class as often as any other, however many images each has
    #[arg(long, help_heading = "Augmentation")]
    pub balanced: bool,
}

/// What a cache keeps of each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CacheFormat {
    /// Its pixels, decoded and scaled: the fastest to read
    Pixels,
    /// Its file: a random part is cut from all of the image, decoded every time
    Encoded,
    /// No cache: read the files
    None,
}

/// What to do with an image that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BadImage {
    /// Name it, and give up
    Fail,
    /// Leave it out, and list it
    Skip,
}

/// How images are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ResampleKind {
    /// As torchvision does by default
    Bilinear,
    /// Sharper
    Bicubic,
}

/// A random choice of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AutoAugment {
    /// No operations
    None,
    /// RandAugment: two operations of one strength
    Rand,
    /// TrivialAugment: one operation of a random strength
    Trivial,
}

/// Who builds the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CacheScope {
    /// Find out, with a file that one node makes and the others look for.
    Auto,
    /// Rank 0, for all nodes.
    World,
    /// One rank of each node.
    Node,
}
