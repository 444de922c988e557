//! Somebody else's file with images and labels, used as it is: HDF5 (and netCDF 4), or NumPy's `.npz`.
//!
//! ```text
//! images  of a split: train/images, train_images or images_train; or one set at the top: images
//!         (or pixels, data, x, or what the user names)   N×H×W×C, N×C×H×W or N×H×W numbers
//! labels  in the same place (or label, targets, y)       N integers, or N×K numbers
//! masks   instead of labels                              N×H×W integers
//! classes names, optional
//! ```
//!
//! Several files in a folder are one set.
//!
//! Images that lie in the file as they are, are mapped; those in chunks, or compressed, come through HDF5 and its one lock, and
//! those that NumPy has compressed are inflated once.
//!
//! Somebody else's file is not trusted with memory: how many labels, names and bytes of a chunk it claims is compared with
//! its size. What HDF5 itself makes of a structure that is damaged is not ours to check.

mod hdf5;
mod numpy;

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use super::array::{ArrayLayout, Axes, Element, Numbers};
use super::targets::{TargetRows, adds_up, likeliest};
use super::{Bytes, Dataset, ImageSet, MaskSet, MaskStore, OnNan, Store};
use crate::scan::composed;
use crate::{Error, Listing, Result, Size, Split, ValSplit, limits};

const IMAGES: &[&str] = &["images", "pixels", "data", "x", "X"];
/// Of masks, before those of labels.
const MASKS: &[&str] = &["masks", "mask", "segmentations", "segmentation"];
const LABELS: &[&str] = &["labels", "label", "targets", "y", "Y"];
/// Endings of files that can be a set together.
const EXTENSIONS: &[&str] = &["h5", "hdf5", "nc", "npz"];
/// Labels are below this.
const MOST_CLASSES: f64 = (1 << 20) as f64;
/// Members of a file that an error names.
const NAMED: usize = 12;
/// Most numbers that a sample's label has.
const MOST_TARGETS: usize = 1 << 16;

/// What a file is to be read as.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileSpec {
    /// What the images are called in it, if that cannot be guessed.
    pub images: Option<String>,
    /// What the labels are called in it.
    pub labels: Option<String>,
    /// Where the channels are, if that cannot be guessed from the shape.
    pub axes: Option<Axes>,
    /// What a label is.
    pub kind: LabelKind,
    /// What a number that is none becomes.
    pub on_nan: OnNan,
    /// Images to validate on that are set aside from those to train on, by their numbers.
    pub val_split: Option<ValSplit>,
}

/// What the label of an image is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelKind {
    /// One class.
    #[default]
    Class,
    /// For each of K classes, whether it is there.
    Flags,
    /// K numbers.
    Numbers,
    /// The class of each pixel.
    Mask,
}

impl LabelKind {
    /// Whether a label is a row of numbers.
    pub(crate) fn is_rows(self) -> bool {
        matches!(self, Self::Flags | Self::Numbers)
    }
}

/// An array of a file.
trait Array {
    /// Its name in the file.
    fn name(&self) -> String;

    fn shape(&self) -> Vec<usize>;

    fn element(&self) -> Checked<Element>;

    fn packing(&self) -> Packing {
        Packing::default()
    }

    /// Its rows, of so many numbers each, and what these are as they are read.
    fn rows(&self, count: usize) -> Checked<(Bytes, Element)>;

    /// All its numbers.
    fn numbers(&self) -> Checked<Vec<f64>>;

    /// The largest piece that is in memory at once, in bytes, beside what was asked for.
    fn piece(&self) -> Option<u64> {
        None
    }
}

/// A file of arrays.
trait Container {
    /// The array of this name.
    fn array(&self, name: &str) -> Checked<Option<Box<dyn Array>>>;

    /// A list of texts.
    fn texts(&self, name: &str, memory: &mut Memory) -> Option<Checked<Vec<String>>>;

    /// What is at the top.
    fn members(&self) -> Vec<String>;
}

type Checked<T> = std::result::Result<T, String>;

/// How numbers are packed: netCDF's `scale_factor`, `add_offset` and `_FillValue`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Packing {
    scale: Option<f64>,
    offset: Option<f64>,
    fill: Option<f64>,
}

/// The memory that a file may still take, in bytes.
struct Memory(u64);

impl Memory {
    fn take(&mut self, what: &str, bytes: Option<u64>) -> Checked<()> {
        let left = bytes.and_then(|bytes| self.0.checked_sub(bytes));
        self.0 = left.ok_or_else(|| {
            let bytes = bytes.map_or("more than 2^64".to_owned(), |bytes| bytes.to_string());
            format!("{what} would take {bytes} bytes, more than 64 MB and 4 times the file; is it damaged?")
        })?;
        Ok(())
    }
}

/// Whether `folder` is a set of such files: it has some, and neither lists nor class folders of images.
pub(super) fn is_set(folder: &Path) -> bool {
    !Split::ALL.into_iter().any(|split| Listing::has(folder, split))
        && files_in(folder).is_ok_and(|files| !files.is_empty())
        && !has_class_folders(folder)
}

/// Whether a folder in it has an image.
fn has_class_folders(folder: &Path) -> bool {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries(folder).filter(|path| path.is_dir()).any(|path| entries(&path).any(|path| crate::is_image(&path)))
}

/// The files of a set, sorted by name.
fn files_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    let is_one = |path: &PathBuf| {
        let extension = path.extension().map(OsStr::to_ascii_lowercase);
        extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known)) && path.is_file()
    };
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(is_one).collect();
    files.sort_unstable();
    Ok(files)
}

/// One file, and the split that what stands at its top belongs to.
struct Opened {
    /// Whether it has given images of any split.
    is_used: bool,
    path: PathBuf,
    container: Box<dyn Container>,
    memory: Memory,
    top: Split,
}

impl Opened {
    /// Opens the file at `path`, one of a `set`.
    fn new(path: &Path, top: Split, set: &[PathBuf]) -> Result<Self> {
        let input = |reason: String| Error::Input(format!("{}: {reason}", path.display()));
        let length = std::fs::metadata(path).map_err(Error::io(path, "reading its size"))?.len();
        let container: Box<dyn Container> = match numpy::is_archive(path) {
            true => Box::new(numpy::open(path, length).map_err(input)?),
            false => Box::new(hdf5::open(path, set).map_err(input)?),
        };
        Ok(Self { is_used: false, path: path.to_owned(), container, memory: Memory(limits::of_hdf5(length)), top })
    }

    fn input(&self, reason: impl Display) -> Error {
        Error::Input(format!("{}: {reason}", self.path.display()))
    }

    /// The images of a split, if it has some.
    fn set(&mut self, split: Split, spec: &FileSpec) -> Result<Option<ImageSet>> {
        let finder = Finder { container: &*self.container, spec, top: self.top };
        let found = finder.find(split).map_err(|reason| self.input(format_args!("/{}: {reason}", split.name())))?;
        let Some(found) = found else { return Ok(None) };
        let read = read_set(&self.path, &*found.images, &*found.labels, spec, &mut self.memory);
        self.is_used = true;
        Ok(Some(read.map_err(|reason| self.input(format_args!("{}: {reason}", found.place)))?))
    }

    /// Why it has no images.
    fn none(&self, spec: &FileSpec) -> Error {
        let members = members(self.container.members());
        match &spec.images {
            Some(name) => self.input(format_args!("--images {name}: nothing of that name; it holds {members}")),
            None => self.input(format_args!("no group /train; it holds {members}")),
        }
    }
}

/// The images of a split in all of several files.
fn joined(files: &mut [Opened], split: Split, spec: &FileSpec) -> Result<Option<ImageSet>> {
    let mut parts: Vec<(PathBuf, ImageSet)> = Vec::new();
    for file in files {
        parts.extend(file.set(split, spec)?.map(|set| (file.path.clone(), set)));
    }
    let width = parts.iter().map(|(_, set)| set.target_width()).max().unwrap_or(0);
    for (path, set) in &mut parts {
        *set = shared(std::mem::replace(set, ImageSet::empty()), width, spec, path)?;
    }
    for (path, set) in &parts {
        same(&parts[0].1, set).map_err(|reason| Error::Input(format!("{}: {reason}", path.display())))?;
    }
    Ok(if parts.len() > 1 { Some(ImageSet::joined(parts)) } else { parts.pop().map(|(_, set)| set) })
}

/// The set with shares of classes where others have such.
fn shared(set: ImageSet, width: usize, spec: &FileSpec, path: &Path) -> Result<ImageSet> {
    if spec.kind != LabelKind::Class || width == 0 || set.is_empty() {
        return Ok(set);
    }
    match set.labels().iter().max() {
        Some(&label) if label as usize >= width => {
            let place = path.display();
            Err(Error::Input(format!("{place}: label {label}, where others have shares of {width} classes")))
        }
        _ => Ok(set.with_shares(width)),
    }
}

/// Opens a file with images and labels, or all those of a folder as one set: what stands at the top of a file whose name begins
/// with `val` or `test` is that split.
///
/// # Errors
/// A file that is none, or is not laid out as above; a `val_split` where it has images to validate on.
pub(super) fn open(path: &Path, spec: &FileSpec) -> Result<Dataset> {
    let input = |reason: String| Error::Input(format!("{}: {reason}", path.display()));
    let mut files = if path.is_dir() {
        let split_of = |path: &Path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
            match name.split(|letter: char| !letter.is_alphabetic()).next().unwrap_or_default() {
                "val" | "valid" | "validation" => Split::Val,
                "test" | "testing" => Split::Test,
                _ => Split::Train,
            }
        };
        let paths = files_in(path).map_err(Error::io(path, "listing the files"))?;
        paths.iter().map(|path| Opened::new(path, split_of(path), &paths)).collect::<Result<Vec<_>>>()?
    } else {
        vec![Opened::new(path, Split::Train, &[])?]
    };
    let train = joined(&mut files, Split::Train, spec)?;
    let val = joined(&mut files, Split::Val, spec)?;
    let Some(train) = train else {
        return Err(files.first().map_or_else(|| input("has no files".to_owned()), |file| file.none(spec)));
    };
    let (train, val) = match (spec.val_split, val) {
        (Some(_), Some(_)) => return Err(input("has /val to validate on; leave --val-split out".to_owned())),
        (Some(val_split), None) => {
            let val = joined(&mut files, Split::Train, spec)?.unwrap_or_else(ImageSet::empty);
            let is_val = train.set_aside(val_split);
            let of = |wanted: bool| (0..is_val.len()).filter(|&index| is_val[index] == wanted).collect::<Vec<_>>();
            (train.without(&of(true)), val.without(&of(false)))
        }
        (None, val) => (train, val.unwrap_or_else(ImageSet::empty)),
    };
    let test = joined(&mut files, Split::Test, spec)?;
    let width = [Some(&train), Some(&val), test.as_ref()].into_iter().flatten().map(ImageSet::target_width).max();
    let of_width = |set| shared(set, width.unwrap_or(0), spec, path);
    let (train, val, test) = (of_width(train)?, of_width(val)?, test.map(of_width).transpose()?);
    if let Some(file) = files.iter().find(|file| !file.is_used) {
        return Err(file.none(spec));
    }
    if files.len() > 1 {
        log::info!("{}: {} files are one set", path.display(), files.len());
    }
    let sets = || [Some(&train), Some(&val), test.as_ref()].into_iter().flatten().filter(|set| !set.is_empty());
    for other in sets() {
        same(&train, other).map_err(input)?;
    }
    // Rows that say one class each are that class, of as many as they have.
    let rows = train.target_width();
    let are_one_hot = spec.kind == LabelKind::Class && sets().all(ImageSet::is_one_hot);
    let (train, val, test) = match are_one_hot {
        true => (train.with_targets(None), val.with_targets(None), test.map(|set| set.with_targets(None))),
        false => (train, val, test),
    };
    let sets = || [Some(&train), Some(&val), test.as_ref()].into_iter().flatten().filter(|set| !set.is_empty());
    let classes = match spec.kind {
        LabelKind::Class => {
            let largest = sets().flat_map(|set| set.labels().iter().max()).max().map_or(0, |&label| label as usize + 1);
            largest.max(rows)
        }
        LabelKind::Flags | LabelKind::Numbers => train.target_width(),
        LabelKind::Mask => 0, // as many as the masks have
    };
    let mut given = None;
    for file in &mut files {
        let Some(names) = file.container.texts("classes", &mut file.memory) else { continue };
        let names = names.map_err(|reason| {
            file.input(format_args!("/classes cannot be read: {reason}; it must be a list of strings"))
        })?;
        let names: Vec<_> = names.iter().map(|name| composed(name)).collect();
        if given.as_ref().is_some_and(|given| *given != names) {
            return Err(file.input("/classes has other names than in the files before it"));
        }
        given = Some(names);
    }
    let names = match given {
        Some(names) => names,
        None => (0..classes).map(|label| label.to_string()).collect(),
    };
    match spec.kind {
        LabelKind::Class if names.len() < classes => {
            let (count, most) = (names.len(), classes - 1);
            return Err(input(format!("/classes has {count} names, and there are labels up to {most}")));
        }
        LabelKind::Flags | LabelKind::Numbers if names.len() != classes => {
            return Err(input(format!("/classes has {} names, and a label has {classes} numbers", names.len())));
        }
        _ => {}
    }
    Ok(Dataset { classes: names, train, val, test })
}

/// Refuses sets that one network cannot see.
fn same(train: &ImageSet, other: &ImageSet) -> Checked<()> {
    let channels = [train, other].map(|set| set.format().channels());
    if train.format() != other.format() {
        return Err(match channels {
            [one, two] if one != two => format!("its training images have {one} channels, and others {two}"),
            _ => "its training images are bytes of three colours, and others are not".to_owned(),
        });
    }
    if let (Some(one), Some(two)) = (train.numbers(), other.numbers())
        && one.scale != two.scale
        && [one, two].iter().all(Numbers::is_plain)
    {
        return Err(format!("its training images have {one}, and others {two}: which unit are they in?"));
    }
    if train.target_width() != other.target_width() {
        let [one, two] = [train, other].map(ImageSet::target_width);
        return Err(format!("its training labels have {one} numbers, and others {two}"));
    }
    Ok(())
}

fn members(mut names: Vec<String>) -> String {
    if names.len() > NAMED {
        names.truncate(NAMED);
        names.push("…".to_owned());
    }
    names.join(", ").chars().flat_map(char::escape_debug).take(500).collect()
}

/// Looks for the arrays of a split.
struct Finder<'a> {
    container: &'a dyn Container,
    spec: &'a FileSpec,
    /// What stands at the top, without the name of a split.
    top: Split,
}

/// The arrays of a split, and the place that an error names.
struct Found {
    images: Box<dyn Array>,
    labels: Box<dyn Array>,
    place: String,
}

impl Finder<'_> {
    /// The images and labels of `split`: in its group, or with its name before or after theirs, or, to train on, at the top.
    fn find(&self, split: Split) -> Checked<Option<Found>> {
        let names = match split {
            Split::Val => &["val", "valid", "validation"][..],
            Split::Train | Split::Test => &[split.name()],
        };
        for name in names {
            type Form = fn(&str, &str) -> String;
            let forms: [Form; 3] = [
                |split, of| format!("{split}/{of}"),
                |split, of| format!("{split}_{of}"),
                |split, of| format!("{of}_{split}"),
            ];
            for (number, form) in forms.into_iter().enumerate() {
                let own = |of: &str| form(name, of);
                if let Some(found) = self.pair(
                    &own,
                    &format!("/{name}"),
                    number == 0 && self.spec.images.is_none() && self.is_group(name),
                )? {
                    return Ok(Some(found));
                }
            }
        }
        if split == self.top { self.pair(&str::to_owned, "/", false) } else { Ok(None) }
    }

    fn is_group(&self, name: &str) -> bool {
        self.container.members().iter().any(|member| member == name)
    }

    /// The images, and the labels that must stand beside them. No images are an error where there `must` be some.
    fn pair(&self, own: &dyn Fn(&str) -> String, place: &str, must: bool) -> Checked<Option<Found>> {
        let find = |given: &Option<String>, usual: &[&str]| -> Checked<Option<Box<dyn Array>>> {
            let names = given.as_ref().map_or_else(|| usual.to_vec(), |name| vec![name.as_str()]);
            for name in names {
                if let Some(array) = self.container.array(&own(name))? {
                    return Ok(Some(array));
                }
            }
            Ok(None)
        };
        let looked = |flag: &str, given: &Option<String>, usual: &[&str]| match given {
            Some(name) => format!("{flag} {name}"),
            None => format!("looked for: {}", usual.join(", ")),
        };
        let Some(images) = find(&self.spec.images, IMAGES)? else {
            if must {
                return Err(format!("no images ({})", looked("--images", &self.spec.images, IMAGES)));
            }
            return Ok(None);
        };
        let (what, usual) = match self.spec.kind {
            LabelKind::Mask => ("masks", [MASKS, LABELS].concat()),
            _ => ("labels", LABELS.to_vec()),
        };
        let labels = find(&self.spec.labels, &usual)?;
        let labels = labels.ok_or_else(|| format!("no {what} ({})", looked("--labels", &self.spec.labels, &usual)))?;
        Ok(Some(Found { images, labels, place: place.to_owned() }))
    }
}

/// The images and labels of a split.
fn read_set(
    path: &Path,
    images: &dyn Array,
    labels: &dyn Array,
    spec: &FileSpec,
    memory: &mut Memory,
) -> Checked<ImageSet> {
    let element = images.element()?;
    let packing = images.packing();
    let (count, layout) = layout(&images.name(), &images.shape(), spec.axes, element, packing)?;
    let (labels, targets, masks) = if spec.kind == LabelKind::Mask {
        (vec![0; count], None, Some(read_masks(path, labels, count, layout.size, memory)?))
    } else {
        let (labels, targets) = read_labels(labels, count, spec.kind, memory)?;
        (labels, targets, None)
    };
    let is_rgb8 = (element, layout.axes, layout.numbers.channels, packing)
        == (Element::U8, Axes::ChannelsLast, 3, Packing::default());
    if let Some(piece) = images.piece() {
        // A chunk as it is stored, inflated, and the image that is taken from it, as planes, too.
        memory.take("a chunk of the images", piece.checked_mul(2))?;
        let planes = if is_rgb8 { 0 } else { layout.count() * size_of::<f32>() };
        memory.take("an image", Some((2 * layout.bytes() + planes) as u64))?;
    }
    let (bytes, element) = images.rows(layout.count())?;
    let store = if is_rgb8 {
        Store::Pixels { bytes, size: layout.size }
    } else {
        let numbers = Numbers { element, ..layout.numbers };
        if packing != Packing::default() {
            log::info!("{}: {} is packed: {numbers}", path.display(), images.name());
        }
        let layout = ArrayLayout { numbers, ..layout };
        Store::Array { path: path.to_owned(), bytes, layout, numbers: layout.numbers, on_nan: spec.on_nan }
    };
    Ok(ImageSet::of_store(store, labels, None).with_targets(targets).with_masks(masks))
}

/// How many images an array of this shape holds, and what each is.
fn layout(
    name: &str,
    shape: &[usize],
    axes: Option<Axes>,
    element: Element,
    packing: Packing,
) -> Checked<(usize, ArrayLayout)> {
    let (count, height, width, channels, axes) = match *shape {
        [count, height, width] => (count, height, width, 1, Axes::ChannelsLast),
        [count, one, two, three] => match axes.unwrap_or_else(|| Axes::of_shape([one, two, three])) {
            Axes::ChannelsFirst => (count, two, three, one, Axes::ChannelsFirst),
            Axes::ChannelsLast => (count, one, two, three, Axes::ChannelsLast),
        },
        _ => return Err(format!("{name} has the shape {shape:?}; N×H×W×C, N×C×H×W or N×H×W is needed")),
    };
    if channels == 0 || channels > limits::MOST_CHANNELS {
        return Err(format!("{name} has the shape {shape:?}: images of {channels} channels are not read"));
    }
    if !element.is_pixel() {
        return Err(format!(
            "{name} holds {}; uint8, uint16, int16, float32 and float64 are read: save it as one of them",
            element.name()
        ));
    }
    let side =
        |side: usize| u32::try_from(side).map_err(|_| format!("images of {width}×{height} pixels are too large"));
    let size = Size { width: side(width)?, height: side(height)? }.check()?;
    if size.count() * channels as u64 > limits::MOST_PIXELS * 4 {
        return Err(format!("images of {width}×{height} pixels and {channels} channels are too large"));
    }
    let plain = Numbers::plain(element, channels);
    let numbers = Numbers {
        scale: packing.scale.unwrap_or(plain.scale),
        offset: packing.offset.unwrap_or(plain.offset),
        fill: packing.fill,
        ..plain
    };
    Ok((count, ArrayLayout { numbers, axes, size }))
}

/// The masks of `count` images of this size: N×H×W whole numbers.
fn read_masks(path: &Path, masks: &dyn Array, count: usize, size: Size, memory: &mut Memory) -> Checked<MaskSet> {
    let (shape, element) = (masks.shape(), masks.element()?);
    let (height, width) = (size.height as usize, size.width as usize);
    let is_one = |shape: &[usize]| matches!(*shape, [h, w] | [1, h, w] | [h, w, 1] if (h, w) == (height, width));
    if shape.first() != Some(&count) || !is_one(&shape[1..]) {
        return Err(format!("{count} images of {height}×{width} pixels, and {} of the shape {shape:?}", masks.name()));
    }
    if element.is_float() {
        return Err(format!("{} holds {}; masks hold whole numbers: save them as uint8", masks.name(), element.name()));
    }
    if let Some(piece) = masks.piece() {
        memory.take("a chunk of the masks", piece.checked_mul(2))?;
    }
    let (bytes, element) = masks.rows(height * width)?;
    Ok(MaskSet::new(MaskStore::Numbers { path: path.to_owned(), bytes, element, size }, None, None))
}

/// The label of each of `count` images: classes, or rows of numbers with every class 0.
fn read_labels(
    labels: &dyn Array,
    count: usize,
    kind: LabelKind,
    memory: &mut Memory,
) -> Checked<(Vec<i64>, Option<TargetRows>)> {
    let shape = labels.shape();
    let width = match shape[..] {
        [of] if of == count => 1,
        [of, width] if of == count && (1..=MOST_TARGETS).contains(&width) => width,
        _ => return Err(format!("{count} images, and labels of the shape {shape:?}")),
    };
    let is_float = labels.element()?.is_float();
    // In the file as they are, as numbers, and once more without those that are left out.
    let claimed = (count as u64).checked_mul(width as u64);
    memory.take(&format!("{count} labels"), claimed.and_then(|claimed| claimed.checked_mul(8 * 3)))?;
    if let Some(bytes) = labels.piece() {
        memory.take("a chunk of the labels", Some(bytes))?;
    }
    let numbers = labels.numbers().map_err(|error| format!("the labels cannot be read: {error}"))?;
    if numbers.len() != count * width {
        return Err(format!("{count} images, and {} labels", numbers.len()));
    }
    match kind {
        LabelKind::Class | LabelKind::Mask => classes(numbers, width, is_float),
        LabelKind::Flags => {
            if let Some(at) = numbers.iter().position(|&number| number != 0.0 && number != 1.0) {
                return Err(format!(
                    "label {} of image {} is {}; --task multilabel needs 0 or 1 for each class",
                    at % width,
                    at / width,
                    numbers[at]
                ));
            }
            Ok((vec![0; count], Some(TargetRows::new(numbers, width))))
        }
        LabelKind::Numbers => {
            if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
                return Err(format!("target {} of image {} is {}", at % width, at / width, numbers[at]));
            }
            Ok((vec![0; count], Some(TargetRows::new(numbers, width))))
        }
    }
}

/// One class for each row: its number, or of `width` numbers the only one that is 1; or where they are shares that add up to 1,
/// these, and the largest.
fn classes(numbers: Vec<f64>, width: usize, is_float: bool) -> Checked<(Vec<i64>, Option<TargetRows>)> {
    if width > 1 {
        return shares(numbers, width);
    }
    let is_label = |label: f64| label.fract() == 0.0 && (-1.0..MOST_CLASSES).contains(&label);
    if let Some(index) = numbers.iter().position(|&label| !is_label(label)) {
        let hint = if is_float { "; for numbers instead of classes: --task regress" } else { "" };
        return Err(format!("{} is not a label: that of image {index}{hint}", numbers[index]));
    }
    let labels: Vec<_> = numbers.iter().map(|&label| label as i64).collect();
    if !labels.is_empty() && labels.iter().all(|&label| label < 0) {
        return Err(format!("all of its {} images are left out: their labels are -1", labels.len()));
    }
    Ok((labels, None))
}

fn shares(numbers: Vec<f64>, width: usize) -> Checked<(Vec<i64>, Option<TargetRows>)> {
    let is_shares = |row: &[f64]| row.iter().all(|&share| share >= 0.0) && adds_up(row);
    if let Some(index) = numbers.chunks(width).position(|row| !is_shares(row)) {
        return Err(format!(
            "the labels have {width} numbers each, and those of image {index} are neither one class nor shares of classes that \
             add up to 1: --task multilabel for several classes at once, --task regress for numbers"
        ));
    }
    let labels = numbers.chunks(width).map(|row| likeliest(row) as i64).collect();
    Ok((labels, Some(TargetRows::new(numbers, width))))
}

#[cfg(test)]
mod tests;
