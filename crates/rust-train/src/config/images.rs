//! The flags about images as validated values: which, of what size, and what is kept of them.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use architectures::Architecture;
use clap::ValueEnum;
use dataset::{
    ArchiveSet, ArchiveSpec, Axes, Contents, Crop, Dataset, Decoding, FileSpec, Fit, Ignored, LabelKind, MaskFolders,
    MaskRule, MaskValues, Normalization, OnBadImage, OnNan, TableSpec, ValSplit, digits, is_archive,
};
use flags::{
    AxesKind, BadImage, CacheFormat, CacheScope, CheckFiles, DataArgs, IgnoreIndex, MaskArgs, MembersArgs, NanKind,
    NormalizeKind, ReadMode, TableArgs, TaskKind, TiffPages,
};
use world::Scope;

use crate::config::preprocessing::{
    Preprocessing, decoding, normalization, refuse_crop, refuse_too_small, refuse_values, usual_normalization,
};
use crate::errors::usage;

/// Images up to this side are cropped with padding; larger ones get a random part, scaled.
const LARGEST_PADDED_SIZE: usize = 64;

/// Which images, of what size, and what is kept of them.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    pub source: Source,
    pub classes: Option<PathBuf>,
    /// What is set aside from the training images to validate on.
    pub val_split: Option<ValSplit>,
    /// Height and width of the images that the network sees in training, in pixels.
    pub image_size: usize,
    /// Which part of an image the network sees in training.
    pub augmented_crop: Crop,
    /// What evaluation makes of an image; decoding and normalization are those of training too.
    pub evaluation: Preprocessing,
    /// What 8-bit RGB is normalized by, where nothing else is asked for.
    pub usual_normalization: Normalization,
    /// The table that names the images, if the folder does not.
    pub table: Option<TableSpec>,
    /// Where masks lie and what their numbers mean, if the class of each pixel is told.
    pub masks: Option<MaskInput>,
    /// What image files are read as.
    pub read_mode: ReadMode,
    /// Whether the pages of a TIFF file are images of their own.
    pub pages_apart: bool,
    /// What a file that holds a data set is to be read as.
    pub file: FileSpec,
    /// What the cache keeps; `None` for no cache.
    pub contents: Option<Contents>,
    /// The folder of the cache, if the user named one.
    pub cache: Option<PathBuf>,
    /// Who builds it. Without a scope the job finds out whether its nodes share the folder.
    pub cache_scope: Option<Scope>,
    /// What is looked at to know whether it is current.
    pub check_files: CheckFiles,
    pub on_bad_image: OnBadImage,
}

/// Where masks lie and what their numbers mean.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MaskInput {
    pub folders: MaskFolders,
    pub rule: MaskRule,
    /// What follows from the rule; `None` as long as the masks have not been looked at.
    pub values: Option<MaskValues>,
}

impl MaskInput {
    fn new(members: &MembersArgs, masks: &MaskArgs) -> Self {
        let folders = MaskFolders { images: members.images.clone(), masks: members.labels.clone() };
        Self { folders, rule: mask_rule(masks), values: None }
    }
}

/// What the flags say of the numbers in masks.
pub(crate) fn mask_rule(args: &MaskArgs) -> MaskRule {
    MaskRule {
        values: (!args.mask_values.is_empty()).then(|| args.mask_values.clone()),
        ignored: match args.ignore_index {
            None => Ignored::Usual,
            Some(IgnoreIndex::None) => Ignored::None,
            Some(IgnoreIndex::Number(number)) => Ignored::Number(number),
        },
    }
}

/// Where the images come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// The digits inside the program.
    Digits,
    /// Images of the program itself, under this name.
    Own(String),
    /// A folder of image files or of archives, or an archive.
    Folder(PathBuf),
    /// A file that holds a data set.
    File(PathBuf),
}

impl Source {
    /// What the flags say, or the images that the program brings along, which are called `own`.
    pub(crate) fn new(args: &DataArgs, own: Option<&str>) -> anyhow::Result<Self> {
        if let Some(table) = &args.table.table {
            return of_table(table, args.data.as_deref(), own);
        }
        Ok(match (&args.data, own) {
            (Some(path), Some(_)) => {
                return Err(usage(format!(
                    "--data {}: this program brings its own images; leave it out",
                    path.display()
                )));
            }
            (None, Some(name)) => Self::Own(name.to_owned()),
            (None, None) => Self::Digits,
            (Some(path), None) if path.is_file() && is_archive(path) => Self::Folder(path.clone()),
            (Some(path), None) if path.is_file() || Dataset::is_folder_of_arrays(path) => Self::File(path.clone()),
            (Some(path), None) => Self::Folder(path.clone()),
        })
    }

    /// A short name of what is trained on.
    pub(crate) fn name(&self) -> String {
        let path = match self {
            Self::Digits => return "digits".to_owned(),
            Self::Own(name) => return name.clone(),
            Self::Folder(path) | Self::File(path) => path,
        };
        let whole = path.canonicalize().ok();
        let name = whole.as_ref().and_then(|path| path.file_stem());
        name.map_or_else(|| "data".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

/// The folder that a table's paths are below.
pub(crate) fn of_table(table: &Path, data: Option<&Path>, own: Option<&str>) -> anyhow::Result<Source> {
    let shown = table.display();
    if own.is_some() {
        return Err(usage(format!("--table {shown}: this program brings its own images; leave it out")));
    }
    if !table.is_file() {
        return Err(usage(format!("--table {shown}: no such file")));
    }
    match data {
        Some(file) if file.is_file() => {
            Err(usage(format!("--table {shown}: is of image files, and --data names a file of arrays")))
        }
        Some(folder) => Ok(Source::Folder(folder.to_owned())),
        None => Ok(Source::Folder(folder_of(table))),
    }
}

/// The folder that a table lies in.
fn folder_of(table: &Path) -> PathBuf {
    let parent = table.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

impl Images {
    /// Validates the flags for a network.
    pub(crate) fn new(
        args: &DataArgs,
        task: TaskKind,
        source: Source,
        architecture: &Architecture,
    ) -> anyhow::Result<Self> {
        let images = Self::of_network(args, task, source, architecture.image_size, usual_normalization(architecture))?;
        let network = architecture.network(1).with_image_side(images.image_size);
        for (flag, size) in [("--image-size", images.image_size), ("--crop", images.evaluation.size)] {
            network.shapes(size, size).map_err(|error| usage(format!("{flag}: {error}")))?;
        }
        Ok(images)
    }

    /// Validates the flags for a network that was made for images of `made_for` × `made_for` pixels.
    pub(crate) fn of_size(args: &DataArgs, task: TaskKind, source: Source, made_for: usize) -> anyhow::Result<Self> {
        Self::of_network(args, task, source, made_for, Normalization::imagenet())
    }

    /// The same, where 8-bit RGB is normalized by `usual` unless the flags say something else.
    fn of_network(
        args: &DataArgs,
        task: TaskKind,
        source: Source,
        made_for: usize,
        usual_normalization: Normalization,
    ) -> anyhow::Result<Self> {
        let by_default = || match args.images.normalize {
            Some(NormalizeKind::Imagenet) => Normalization::imagenet(),
            _ => usual_normalization.clone(),
        };
        if !matches!(source, Source::File(_)) {
            refuse_what_files_have(&args.members, task, &source, args.table.table.is_some())?;
        }
        if args.read_mode != ReadMode::Auto && !matches!(source, Source::Folder(_)) {
            return Err(usage("--read-mode: is for folders of image files"));
        }
        let pages_apart = args.tiff_pages == TiffPages::Images;
        if pages_apart && (task == TaskKind::Segment || !matches!(source, Source::Folder(_))) {
            return Err(usage("--tiff-pages images: is for folders, lists and tables of image files, without masks"));
        }
        if let Source::Digits | Source::Own(_) = source {
            refuse_what_numbers_have(&args.members)?;
        }
        let is_masks = task == TaskKind::Segment;
        refuse_masks(&args.masks, is_masks)?;
        if let (true, Source::Folder(_)) = (is_masks, &source) {
            refuse_folders_elsewhere(&args.members)?;
        }
        if let (true, Source::Digits | Source::Own(_)) = (is_masks, &source) {
            return Err(usage("--task segment: needs --data, with images and masks"));
        }
        if let Source::Digits | Source::Own(_) = source {
            refuse_values(&args.images, true)?;
        }
        let image_size = image_size(args.images.image_size, &source, made_for)?;
        let augmented_crop = crop(args.crop_padding, args.crop_scale, is_masks, image_size)?;
        let size = args.images.crop.unwrap_or(image_size);
        if is_masks {
            refuse_crop(&args.images, image_size)?;
        }
        let is_cut = matches!(augmented_crop, Crop::Resized { .. }) && !is_masks;
        let usual = if is_cut { size.saturating_mul(8) / 7 } else { size };
        let resize = args.images.resize.unwrap_or(usual);
        refuse_too_small(resize, size)?;
        let contents = match args.cache_format {
            CacheFormat::Pixels => Some(Contents::Pixels { side: resize, crop: size }),
            CacheFormat::Encoded => Some(Contents::Encoded),
            CacheFormat::None => None,
        };
        let on_bad_image = match args.on_bad_image {
            BadImage::Fail => OnBadImage::Fail,
            BadImage::Skip => OnBadImage::Skip,
        };
        if contents.is_none() && args.cache.is_some() {
            return Err(usage("--cache: there is none with --cache-format none"));
        }
        if contents.is_none() && on_bad_image == OnBadImage::Skip {
            return Err(usage(
                "--on-bad-image skip: needs a cache, which says what is left; use --cache-format encoded or pixels",
            ));
        }
        let val_split = args.val_split.map(val_split).transpose()?;
        if let (Some(_), Source::Digits | Source::Own(_)) = (val_split, &source) {
            return Err(usage(format!("--val-split: is for --data; {} are divided already", source.name())));
        }
        let evaluation = Preprocessing {
            size,
            resize,
            decoding: decoding(
                &args.images,
                Decoding {
                    on_nan: on_nan(&args.members),
                    axes: axes(&args.members),
                    fit: if is_masks { Fit::Squash } else { Fit::Crop },
                    ..Decoding::default()
                },
            ),
            normalization: match source {
                // Until it is known what they hold.
                Source::File(_) => by_default(),
                Source::Folder(_) => normalization(&args.images, by_default()).unwrap_or_else(|_| by_default()),
                Source::Digits | Source::Own(_) => normalization(&args.images, by_default())?,
            },
        };
        Ok(Self {
            source,
            classes: args.classes.clone(),
            val_split,
            table: table_spec(&args.table, task),
            masks: is_masks.then(|| MaskInput::new(&args.members, &args.masks)),
            read_mode: args.read_mode,
            pages_apart,
            file: file_spec(&args.members, task, val_split),
            image_size,
            augmented_crop,
            evaluation,
            usual_normalization,
            contents,
            cache: args.cache.clone(),
            cache_scope: match args.cache_scope {
                CacheScope::Auto => None,
                CacheScope::World => Some(Scope::World),
                CacheScope::Node => Some(Scope::Node),
            },
            check_files: args.check_files,
            on_bad_image,
        })
    }
}

impl Images {
    /// What is looked for in archives.
    pub(crate) fn archives(&self) -> ArchiveSpec {
        ArchiveSpec { images: self.file.images.clone(), labels: self.file.labels.clone() }
    }
}

/// What a file that holds a data set is to be read as.
pub(crate) fn file_spec(args: &MembersArgs, task: TaskKind, val_split: Option<ValSplit>) -> FileSpec {
    FileSpec {
        images: args.images.clone(),
        labels: args.labels.clone(),
        axes: axes(args),
        kind: label_kind(task),
        on_nan: on_nan(args),
        val_split,
    }
}

/// What a table is to be read as, if there is one.
pub(crate) fn table_spec(args: &TableArgs, task: TaskKind) -> Option<TableSpec> {
    Some(TableSpec {
        path: args.table.clone()?,
        image: args.column_image.clone(),
        labels: args.column_label.clone(),
        split: args.column_split.clone(),
        separator: args.label_separator.clone(),
        kind: label_kind(task),
    })
}

/// What the label of an image is.
fn label_kind(task: TaskKind) -> LabelKind {
    match task {
        TaskKind::Classify => LabelKind::Class,
        TaskKind::Multilabel => LabelKind::Flags,
        TaskKind::Regress => LabelKind::Numbers,
        TaskKind::Segment => LabelKind::Mask,
    }
}

/// What a run was told of the files that it read, from the plan in its model card.
pub(crate) fn members_of_plan(plan: &BTreeMap<String, serde_json::Value>) -> MembersArgs {
    let text = |flag: &str| plan.get(flag).and_then(serde_json::Value::as_str);
    MembersArgs {
        images: text("images").map(str::to_owned),
        labels: text("labels").map(str::to_owned),
        image_layout: text("image-layout").and_then(|order| AxesKind::from_str(order, true).ok()),
        nan: text("nan").and_then(|kind| NanKind::from_str(kind, true).ok()).unwrap_or_default(),
    }
}

/// The order of the axes that the flags say.
pub(crate) fn axes(args: &MembersArgs) -> Option<Axes> {
    args.image_layout.map(|order| match order {
        AxesKind::Nhwc => Axes::ChannelsLast,
        AxesKind::Nchw => Axes::ChannelsFirst,
    })
}

/// What a number that is none becomes, as the flags say.
pub(crate) fn on_nan(args: &MembersArgs) -> OnNan {
    match args.nan {
        NanKind::Fail => OnNan::Fail,
        NanKind::Mean => OnNan::Mean,
    }
}

fn refuse_what_files_have(args: &MembersArgs, task: TaskKind, source: &Source, has_table: bool) -> anyhow::Result<()> {
    let name = match task {
        TaskKind::Classify | TaskKind::Segment => None,
        TaskKind::Multilabel => Some("multilabel"),
        TaskKind::Regress => Some("regress"),
    };
    if let Some(name) = name.filter(|_| !has_table) {
        return Err(usage(format!(
            "--task {name}: needs --table FILE, a CSV with the labels of the images, or --data FILE, an HDF5, netCDF or .npz file \
             with rows of numbers as labels; folders give classes"
        )));
    }
    for (flag, is_given) in [("--images", args.images.is_some()), ("--labels", args.labels.is_some())] {
        match is_given {
            true if task == TaskKind::Segment && has_table => {
                return Err(usage(format!("{flag}: the table says where images and masks are; leave it out")));
            }
            true if task != TaskKind::Segment && !is_in_archives(source)? => {
                return Err(usage(format!(
                    "{flag}: is for --data FILE, an HDF5, netCDF or .npz file, and for archives"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_in_archives(source: &Source) -> anyhow::Result<bool> {
    match source {
        Source::Folder(root) => Ok(ArchiveSet::find(root)?.is_some()),
        _ => Ok(false),
    }
}

/// Refuses folders of images or masks that are the same for all splits, because they do not lie below them.
fn refuse_folders_elsewhere(args: &MembersArgs) -> anyhow::Result<()> {
    for (flag, name) in [("--images", &args.images), ("--labels", &args.labels)] {
        let is_below = |name: &str| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if let Some(name) = name.as_deref().filter(|name| !is_below(name)) {
            return Err(usage(format!(
                "{flag} {name}: must be a folder below --data or below its train, val and test"
            )));
        }
    }
    Ok(())
}

/// Refuses what is said of masks where there are none.
fn refuse_masks(args: &MaskArgs, is_masks: bool) -> anyhow::Result<()> {
    for (flag, is_given) in
        [("--mask-values", !args.mask_values.is_empty()), ("--ignore-index", args.ignore_index.is_some())]
    {
        if is_given && !is_masks {
            return Err(usage(format!("{flag}: is for --task segment")));
        }
    }
    Ok(())
}

fn refuse_what_numbers_have(args: &MembersArgs) -> anyhow::Result<()> {
    for (flag, is_given) in [("--image-layout", args.image_layout.is_some()), ("--nan", args.nan != NanKind::Fail)] {
        if is_given {
            return Err(usage(format!("{flag}: is for --data with images that are not made RGB of 8 bits")));
        }
    }
    Ok(())
}

/// The share that is set aside to validate on.
pub(crate) fn val_split(share: f64) -> anyhow::Result<ValSplit> {
    ValSplit::new(share)
        .ok_or_else(|| usage(format!("--val-split {share}: must be above 0 and below 1; 0.1 is a tenth of each class")))
}

fn image_size(wanted: Option<usize>, source: &Source, made_for: usize) -> anyhow::Result<usize> {
    let side = digits::SIDE;
    Ok(match (wanted, source) {
        (Some(size), Source::Digits) if size != side => {
            return Err(usage(format!("--image-size {size}: the digits are {side}×{side} pixels")));
        }
        (_, Source::Digits) => side,
        (size, Source::Own(_) | Source::Folder(_) | Source::File(_)) => size.unwrap_or(made_for),
    })
}

/// Which part of an image is seen in training: `--crop-scale` before `--crop-padding`. With masks large parts, so that what
/// is small in an image is seen as it is, too.
fn crop(padding: Option<usize>, scale: Option<f64>, is_masks: bool, image_size: usize) -> anyhow::Result<Crop> {
    if let Some(scale) = scale {
        if !(scale > 0.0 && scale <= 1.0) {
            return Err(usage(format!("--crop-scale {scale}: must be above 0 and at most 1")));
        }
        return Ok(Crop::Resized { least: scale });
    }
    Ok(match padding {
        Some(padding) if padding >= image_size => {
            return Err(usage(format!("--crop-padding {padding}: must be less than the images' {image_size} pixels")));
        }
        Some(padding) => Crop::Padded { padding },
        None if image_size <= LARGEST_PADDED_SIZE => Crop::Padded { padding: image_size / 8 },
        None => Crop::Resized { least: if is_masks { 0.25 } else { 0.08 } },
    })
}
