//! The flags about images: which, and how they are kept.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

use super::{Essential, ImageArgs, Scope};

/// Where the images come from and how they are kept. The same flags make the same cache, in a run and in `cache`.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DataArgs {
    /// Images: DIR/train/CLASS/*, DIR/val/CLASS/* [default: digits]
    ///
    /// For --task segment DIR/train/images/* and DIR/train/masks/*, or DIR/images/train/* and DIR/masks/train/*. Or lists with PATH, a tab and CLASS: DIR/train.tsv and DIR/val.tsv. Or archives, in DIR or alone: .tar (WebDataset's shards, too), .zip, .tar.gz, .parquet, LMDB. Or a file with images and labels, or a folder of such files: HDF5, netCDF 4
    /// or NumPy's .npz, of any number of channels. Default: the digits inside the program
    #[arg(long, value_name = "DIR", help_heading = "Data", add = Essential)]
    pub data: Option<PathBuf>,

    /// What is in a file
    #[command(flatten)]
    #[serde(flatten)]
    pub members: MembersArgs,

    /// What is in a table
    #[command(flatten)]
    #[serde(flatten)]
    pub table: TableArgs,

    /// What is in masks
    #[command(flatten)]
    #[serde(flatten)]
    pub masks: MaskArgs,

    /// File with the names of the classes, one a line, in the order of their labels. Default: the folders' names
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub classes: Option<PathBuf>,

    /// Share of each class's training images to set aside for validation, such as 0.1, where DIR has none to validate on
    ///
    /// The same images in every run, whatever its seed and number of ranks. DIR may then hold the class folders itself
    #[arg(long, value_name = "SHARE", help_heading = "Data", allow_negative_numbers = true)]
    pub val_split: Option<f64>,

    /// What image files are read as
    #[arg(long, value_enum, default_value_t = ReadMode::Auto, value_name = "MODE", help_heading = "Data")]
    pub read_mode: ReadMode,

    /// What the pages of a TIFF file are
    #[arg(long, value_enum, default_value_t = TiffPages::Channels, value_name = "WHAT", help_heading = "Data")]
    pub tiff_pages: TiffPages,

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

    /// Copy the cache, archives or files of arrays to this folder on each node's own disk while training begins, and read them there
    #[arg(long, value_name = "DIR", help_heading = "Data", add = Scope::Free)]
    pub stage: Option<PathBuf>,

    /// What is looked at to know whether the cache is still of these images, where DIR has a folder for each class
    #[arg(long, value_enum, default_value_t = CheckFiles::Full, help_heading = "Data", add = Scope::Free)]
    pub check_files: CheckFiles,

    /// What to do with an image that cannot be decoded
    #[arg(long, value_enum, default_value_t = BadImage::Fail, help_heading = "Data")]
    pub on_bad_image: BadImage,

    /// Black pixels around an image before a random window is cut out. Default for sizes up to 64: an eighth of the
    /// size. Larger sizes get a random part of the image, scaled
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    pub crop_padding: Option<usize>,

    /// Smallest share of an image's area that such a random part has. In the place of
    /// --crop-padding. Default: 0.08; 0.25 for --task segment
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    pub crop_scale: Option<f64>,

    /// What they become
    #[command(flatten)]
    #[serde(flatten)]
    pub images: ImageArgs,
}

/// What is in a file that holds a data set.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MembersArgs {
    /// Name of the images in a file, as x or /data/images. Default: images, pixels, data or x, in the group of the split or with
    /// its name: train/images, train_images, x_train. With --task segment, of the folder of images, too. In archives the column of images,
    /// or the ending of their files; of LMDB the order of bare bytes, rgb or bgr
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub images: Option<String>,

    /// Name of the labels in a file. Default: labels, label, targets or y. With --task segment, of the folder of masks, too. Default:
    /// masks, labels, annotations or the like. In archives the column of labels, the ending of their files, or the key in a .json
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub labels: Option<String>,

    /// Order of the axes of the images in a file, or of a .npy file. Default: by their shape; the log says which
    #[arg(long, value_enum, value_name = "ORDER", help_heading = "Data")]
    pub image_layout: Option<AxesKind>,

    /// What to do with NaN, infinities and missing values (_FillValue, GDAL_NODATA) in images
    #[arg(long, value_enum, default_value_t = NanKind::Fail, value_name = "HOW", help_heading = "Data")]
    pub nan: NanKind,
}

/// A table of images and its columns.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TableArgs {
    /// Table of images, CSV or TSV: a row for each, with its path and its labels
    ///
    /// Paths are below --data, or beside the table where there is none; a first row names the columns. Labels are a class, shares
    /// of several classes, several labels at once (--task multilabel), numbers (--task regress) or the path of a mask (--task segment)
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub table: Option<PathBuf>,

    /// Column of the images' paths. Default: image, path, file_name, id or the like
    #[arg(long, value_name = "NAME", help_heading = "Data", requires = "table")]
    pub column_image: Option<String>,

    /// Column of the labels, or several. Default: label, class or the like, or else what is left; shares of classes must be named
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Data", requires = "table")]
    pub column_label: Vec<String>,

    /// Column that says which images are to train on, to validate on and for the end: train, val or test. Default: split, if there is
    /// such a column
    #[arg(long, value_name = "NAME", help_heading = "Data", requires = "table")]
    pub column_split: Option<String>,

    /// What stands between the labels of one column. Default: | or ; or a comma, whichever the column has
    #[arg(long, value_name = "TEXT", help_heading = "Data", requires = "table")]
    pub label_separator: Option<String>,
}

/// Which numbers of masks stand for which classes.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MaskArgs {
    /// Numbers that the classes have in masks, in their order, as 0,255. Default: 0, 1, 2 and so on where --classes names them, else
    /// all that the training masks have
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', help_heading = "Data")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mask_values: Vec<u32>,

    /// Number of mask pixels that do not count: a number or none. Default: 255, unless that is a class
    #[arg(long, value_name = "NUMBER", help_heading = "Data", allow_negative_numbers = true)]
    pub ignore_index: Option<IgnoreIndex>,
}

/// Which number marks pixels of masks that do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IgnoreIndex {
    /// Every pixel counts.
    None,
    /// This one.
    Number(i64),
}

impl FromStr for IgnoreIndex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            number => number.parse().map(Self::Number).map_err(|_| format!("'{number}' is neither a number nor none")),
        }
    }
}

impl fmt::Display for IgnoreIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl Serialize for IgnoreIndex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The order of the axes of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AxesKind {
    /// Images, height, width, channels
    Nhwc,
    /// Images, channels, height, width
    Nchw,
}

/// What to do with a number that is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum NanKind {
    /// Name the image, and give up
    #[default]
    Fail,
    /// Take the mean of its channel
    Mean,
}

/// What image files are read as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ReadMode {
    /// As the first image: unchanged if it has more than 8 bits, or more channels than a photograph; else RGB
    #[default]
    Auto,
    /// Red, green and blue of 8 bits, whatever they are
    Rgb,
    /// The numbers that the files hold, of any number of channels, normalized by their own mean and std
    Unchanged,
}

/// What the pages of a TIFF file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TiffPages {
    /// Channels of one image, one after the other
    #[default]
    Channels,
    /// Images of their own, all with the label of their file: a stack of a microscope
    Images,
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

/// What is looked at to know whether a cache is current.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum CheckFiles {
    /// The size and time of every image.
    Full,
    /// The times of their folders: an image that is changed in place is not noticed.
    Folders,
    /// Nothing but the settings and the names of the classes.
    None,
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
