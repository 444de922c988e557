//! What there is to learn from: classes, and the image files of each split in a fixed order. Reads no image.
//!
//! ```text
//! DIR/train/<class>/…  ── folder ─┐
//! DIR/train.tsv        ── list ───┼──> Listing ── fingerprint ──> is the cache current?
//! TABLE.csv            ── table ──┤
//! DIR/train/masks/…    ── masks ──┘
//! DIR/train-000.tar … ── archives ─┤
//! FILE with names      ── classes ─┘        no val/: a share of train/ (val_split)
//! ```

mod archive_set;
mod archives;
mod classes;
mod fingerprint;
mod folder;
mod left_out;
mod list;
mod masks;
mod pages;
mod survey;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod val_split;
mod wire;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Stat, stat, statat};
use rustix::io::Errno;

use crate::archive::{Files, Member};
use crate::limits::quote;
use crate::watch::Counter;
use crate::{Error, Result, Watch, unwatched};

pub use archive_set::ArchiveSet;
pub(crate) use archive_set::split_of_name;
pub use archives::Names;
pub(crate) use classes::composed;
pub use classes::read_classes;
pub use folder::is_image;
pub(crate) use folder::written as folder_written;
pub use left_out::OWN_FOLDER;
pub(crate) use left_out::{LeftOut, is_left_behind};
pub(crate) use masks::MaskFile;
pub use masks::MaskFolders;
pub use survey::{Looked, Survey};
pub use table::{Part as TablePart, TableSpec};
pub use val_split::ValSplit;

/// File names that count as images, in lower case.
const EXTENSIONS: &[&str] =
    &["jpg", "jpeg", "png", "bmp", "gif", "pgm", "ppm", "tif", "tiff", "webp", "npy", "fits", "fit", "fts"];

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Images to train on.
    Train,
    /// Images to validate on while training.
    Val,
    /// Images for the end.
    Test,
}

impl Split {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// Its folder, its list and its group in a cache have this name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }

    /// What its folder may be called, in lower case, the likeliest first.
    fn folder_names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train", "training"],
            Self::Val => &["val", "valid", "validation"],
            Self::Test => &["test", "testing"],
        }
    }

    /// The same names in lower case, capitalized, and in capitals.
    fn spellings(self) -> impl Iterator<Item = String> {
        let spell = |name: &&str| [(*name).to_owned(), name[..1].to_uppercase() + &name[1..], name.to_uppercase()];
        self.folder_names().iter().flat_map(spell)
    }
}

/// One image file.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Where it lies: below the listing's root, or absolute. One in an archive: the archive's path, and its name in it.
    pub path: PathBuf,
    /// The index of its class; 0 where its label is numbers alone.
    pub class: usize,
    /// The numbers of its label; none where that is a class.
    pub(crate) targets: Box<[f64]>,
    /// The class of each of its pixels, if that is what is told.
    pub(crate) mask: Option<Box<MaskFile>>,
    /// Bytes.
    pub(crate) size: u64,
    /// When it, or the archive that it is in, was last written, in nanoseconds since 1970.
    pub(crate) modified: u64,
    /// Where it lies, if that is in an archive.
    pub(crate) member: Option<Member>,
}

/// The image files of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The folder that paths are relative to, or the archive that all images are in.
    pub root: PathBuf,
    /// The folders that were listed, below the root, and when they were last written, in nanoseconds since 1970: where they are of
    /// classes, and whatever is changed in them changes that.
    pub(crate) folders: Vec<(PathBuf, u64)>,
    /// The splits whose images lists name, in their order.
    pub(crate) in_lists: Vec<Split>,
    /// The archives that images are in, below the root; an empty path is the root itself.
    pub(crate) archives: Vec<PathBuf>,
    /// The names of the classes; a label is an index here.
    pub classes: Vec<String>,
    /// The images to train on.
    pub train: Vec<Sample>,
    /// The images to validate on: none where there is neither `DIR/val` nor `DIR/val.tsv`, and none were set aside.
    pub val: Vec<Sample>,
    /// The images for the end: none where there is neither `DIR/test` nor `DIR/test.tsv`.
    pub test: Vec<Sample>,
}

/// Which images are to be evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ToEvaluate {
    /// Those to validate on, or what this sets aside from those to train on.
    Val(Option<ValSplit>),
    /// Those to test on.
    Test,
}

impl ToEvaluate {
    fn val_split(self) -> Option<ValSplit> {
        match self {
            Self::Val(val_split) => val_split,
            Self::Test => None,
        }
    }
}

impl Listing {
    /// Lists the images below `root`. Classes are sorted by name, or are `classes` in their order.
    ///
    /// Each split is a folder of class folders (`DIR/train/<class>/…`, samples sorted as torchvision's ImageFolder
    /// sorts them) or a list (`DIR/train.tsv`, lines of `path<TAB>class`, in its own order). Reads directories and the
    /// size and time of each file, one call for each.
    ///
    /// A class may have no images to validate or test on, which is said; a folder of test images without classes is left out.
    ///
    /// # Errors
    /// A missing folder, no classes, a class without images to train on, classes that are not in the list or not trained on, or a
    /// list that is not as it must be.
    pub fn scan(root: &Path, classes: Option<&[String]>) -> Result<Self> {
        Self::scan_watched(root, classes, None, &unwatched)
    }

    /// As [`scan`](Self::scan). With a `val_split` the images to validate on are set aside from those to train on, and where
    /// `root` has no splits at all, its folders are the classes. `watch` is called for each entry of a folder, and again for
    /// each image whose size is asked for.
    ///
    /// # Errors
    /// As [`scan`](Self::scan), [`Error::Interrupted`], and a `val_split` where there are images to validate on.
    pub fn scan_watched(
        root: &Path,
        classes: Option<&[String]>,
        val_split: Option<ValSplit>,
        watch: &Watch<'_>,
    ) -> Result<Self> {
        let counter = Counter::new(watch);
        if !root.is_dir() {
            return Err(Error::Input(format!("{}: no such folder; --data wants DIR/train/<class>/*", root.display())));
        }
        let train = match val_split {
            None => Part::find(root, Split::Train, &counter)?,
            Some(_) => {
                refuse_second_val(root)?;
                Part::find_or_flat(root, Split::Train, &counter)?
            }
        };
        let find = |split| {
            if Part::is_there(root, split) { Part::find(root, split, &counter).map(Some) } else { Ok(None) }
        };
        let is_unlabelled = is_unlabelled(root);
        if is_unlabelled {
            say_unlabelled(root);
        }
        let (val, test) = (find(Split::Val)?, if is_unlabelled { None } else { find(Split::Test)? });
        let names = match classes {
            None => train.classes(),
            Some(listed) => {
                same_classes(&train.classes(), listed, &train.place, "the classes file")?;
                listed.to_vec()
            }
        };
        for part in [&val, &test].into_iter().flatten() {
            same_classes_or_fewer(&part.classes(), &names, &part.place)?;
        }
        let is_listed = |part: &Part| part.order.is_some();
        let listed = [Some(&train), val.as_ref(), test.as_ref()].map(|part| part.is_some_and(is_listed));
        let in_lists =
            Split::ALL.into_iter().zip(listed).filter(|(_, listed)| *listed).map(|(split, _)| split).collect();
        let mut folders = Vec::new();
        let mut are_folders = true;
        let mut samples = |part: Part| {
            are_folders &= !part.folders.is_empty();
            folders.extend_from_slice(&part.folders);
            part.samples(root, &names, &counter)
        };
        let train = samples(train)?;
        let [val, test] = [val, test].map(|part| part.map(&mut samples).transpose());
        let (val, test) = (val?.unwrap_or_default(), test?.unwrap_or_default());
        if !are_folders {
            folders.clear(); // they do not tell what a list says
        }
        let (train, val) = match val_split {
            None => (train, val),
            Some(val_split) => val_split.divide(train),
        };
        Ok(Self { folders, in_lists, train, val, test, ..Self::of_classes(root, names) })
    }

    /// Lists the images of one `split` below `root` alone; where `root` has no splits at all, it is one itself: its folders
    /// are the classes. The classes are `names`, in their order, of which some may have no images here; or, sorted by name,
    /// those that are found. `watch` is called as by [`scan_watched`](Self::scan_watched).
    ///
    /// # Errors
    /// As [`scan`](Self::scan), and [`Error::Interrupted`].
    pub fn scan_split(root: &Path, split: Split, names: Option<&[String]>, watch: &Watch<'_>) -> Result<Self> {
        let counter = Counter::new(watch);
        refuse_missing(root)?;
        Self::of_part(Part::find_or_flat(root, split, &counter)?, root, split, names, &counter)
    }

    /// Lists the images that `val_split` sets aside for validation from those to train on, and nothing else; otherwise as
    /// [`scan_split`](Self::scan_split).
    ///
    /// # Errors
    /// As [`scan_watched`](Self::scan_watched).
    pub fn scan_set_aside(
        root: &Path,
        val_split: ValSplit,
        names: Option<&[String]>,
        watch: &Watch<'_>,
    ) -> Result<Self> {
        let counter = Counter::new(watch);
        refuse_missing(root)?;
        refuse_second_val(root)?;
        let part = Part::find_or_flat(root, Split::Train, &counter)?;
        let mut listing = Self::of_part(part, root, Split::Train, names, &counter)?;
        (_, listing.val) = val_split.divide(std::mem::take(&mut listing.train));
        Ok(listing)
    }

    /// Whether there are images of this split below `root`: a folder or a list.
    pub fn has(root: &Path, split: Split) -> bool {
        Part::is_there(root, split)
    }

    fn of_part(part: Part, root: &Path, split: Split, names: Option<&[String]>, counter: &Counter<'_>) -> Result<Self> {
        let classes = match names {
            None => part.classes(),
            Some(names) => {
                let known: HashSet<_> = names.iter().collect();
                if let Some(class) = part.classes().iter().find(|class| !known.contains(class)) {
                    let place = part.place.display();
                    return Err(Error::Input(format!("{place}: class '{}' is none of the model's", quote(class))));
                }
                names.to_vec()
            }
        };
        let samples = part.samples(root, &classes, counter)?;
        let mut listing = Self::of_classes(root, classes);
        *listing.split_mut(split) = samples;
        Ok(listing)
    }

    /// No images of these classes yet.
    pub(crate) fn of_classes(root: &Path, classes: Vec<String>) -> Self {
        let (train, val, test) = (Vec::new(), Vec::new(), Vec::new());
        let (folders, in_lists, archives) = (Vec::new(), Vec::new(), Vec::new());
        Self { root: root.to_owned(), folders, in_lists, archives, classes, train, val, test }
    }

    /// Where its images are read from.
    pub(crate) fn files(&self) -> Files {
        let samples = Split::ALL.into_iter().flat_map(|split| self.split(split));
        Files::new(&self.root, &self.archives, samples)
    }

    /// The samples of a split.
    pub fn split(&self, split: Split) -> &[Sample] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    pub(crate) fn split_mut(&mut self, split: Split) -> &mut Vec<Sample> {
        match split {
            Split::Train => &mut self.train,
            Split::Val => &mut self.val,
            Split::Test => &mut self.test,
        }
    }
}

/// A way in which the images of a split may lie below a folder.
struct Layout {
    /// Where they would be said to lie: a folder, or a list.
    place: fn(&Path, Split) -> PathBuf,
    /// Whether they lie there.
    is_at: fn(&Path) -> bool,
    /// The images of the split below this root, at this place.
    read: fn(&Path, Split, &Path, &Counter<'_>) -> Result<Part>,
}

/// The first that is there counts; where none is, the first says so.
const LAYOUTS: &[Layout] = &[folder::LAYOUT, list::LAYOUT];

/// A split before the order of classes is known: the files of each class, by its name.
struct Part {
    /// The folder or the list, for messages.
    place: PathBuf,
    files: Vec<(String, Vec<PathBuf>)>,
    /// All folders of it, below the root, and when they were last written.
    folders: Vec<(PathBuf, u64)>,
    /// Where each sample stands in a list: its class and its place among that class's files. A folder has none; its
    /// samples are sorted by class.
    order: Option<Vec<(usize, usize)>>,
}

impl Layout {
    fn is_there(&self, root: &Path, split: Split) -> bool {
        (self.is_at)(&(self.place)(root, split))
    }
}

impl Part {
    fn is_there(root: &Path, split: Split) -> bool {
        LAYOUTS.iter().any(|layout| layout.is_there(root, split))
    }

    fn find(root: &Path, split: Split, counter: &Counter<'_>) -> Result<Self> {
        let layout = LAYOUTS.iter().find(|layout| layout.is_there(root, split)).unwrap_or(&LAYOUTS[0]);
        Self::read(layout, root, split, &(layout.place)(root, split), counter)
    }

    /// Where no split is there, `root` is this one.
    fn find_or_flat(root: &Path, split: Split, counter: &Counter<'_>) -> Result<Self> {
        match Split::ALL.into_iter().any(|split| Self::is_there(root, split)) {
            true => Self::find(root, split, counter),
            false => Self::read(&folder::LAYOUT, root, split, root, counter),
        }
    }

    fn read(layout: &Layout, root: &Path, split: Split, place: &Path, counter: &Counter<'_>) -> Result<Self> {
        let part = (layout.read)(root, split, place, counter)?;
        if let Some(pair) = part.classes().windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::Input(format!(
                "{}: two classes are the same text, '{}', because the name of one is not UTF-8; rename one",
                part.place.display(),
                pair[0]
            )));
        }
        Ok(part)
    }

    fn classes(&self) -> Vec<String> {
        let mut names: Vec<_> = self.files.iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// The samples, with size and time. `names` are the classes of this part.
    fn samples(self, root: &Path, names: &[String], counter: &Counter<'_>) -> Result<Vec<Sample>> {
        let labels: HashMap<_, _> = names.iter().enumerate().map(|(label, name)| (name, label)).collect();
        let label = |name: &String| labels.get(name).copied().unwrap_or(0);
        let mut classes: Vec<(usize, Vec<PathBuf>)> =
            self.files.into_iter().map(|(name, files)| (label(&name), files)).collect();
        let files: Vec<(usize, PathBuf)> = match self.order {
            None => {
                classes.sort_unstable_by_key(|(class, _)| *class);
                classes
                    .into_iter()
                    .flat_map(|(class, files)| files.into_iter().map(move |file| (class, file)))
                    .collect()
            }
            Some(order) => order
                .into_iter()
                .map(|(class, place)| (classes[class].0, std::mem::take(&mut classes[class].1[place])))
                .collect(),
        };
        // On a file system across a network each call waits for an answer: ask many questions at a time.
        let look_up = |(class, path)| {
            counter.one()?;
            Sample::look_up(root, path, class)
        };
        files.into_par_iter().map(look_up).collect()
    }
}

impl Sample {
    fn look_up(root: &Path, path: PathBuf, class: usize) -> Result<Self> {
        let found = stat(root.join(&path));
        Self::found(root, path, class, found)
    }

    /// The same of a file `below` a `folder` that is open: its path is not followed from the start for each file.
    fn look_up_in(folder: &File, below: &Path, root: &Path, path: PathBuf, class: usize) -> Result<Self> {
        let found = statat(folder, below, AtFlags::empty());
        Self::found(root, path, class, found)
    }

    fn found(root: &Path, path: PathBuf, class: usize, found: rustix::io::Result<Stat>) -> Result<Self> {
        let whole = || root.join(&path);
        let found = match found {
            Ok(found) if FileType::from_raw_mode(found.st_mode).is_file() => found,
            Ok(_) => return Err(Error::Input(format!("{}: not a file", whole().display()))),
            Err(Errno::NOENT) => return Err(Error::Input(format!("{}: no such image", whole().display()))),
            Err(error) => return Err(Error::io(whole(), "reading its size")(error.into())),
        };
        let seconds = u64::try_from(found.st_mtime).ok();
        let modified = seconds.map_or(0, |seconds| seconds * 1_000_000_000 + found.st_mtime_nsec as u64);
        let size = u64::try_from(found.st_size).unwrap_or(0);
        Ok(Self { path, class, targets: Box::default(), mask: None, size, modified, member: None })
    }
}

/// The name of a class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ClassName {
    /// Composed; bytes that are not UTF-8 stand there as `\xe9`.
    text: String,
    /// Whether all of it is UTF-8: one that only looks the same is another.
    is_text: bool,
}

fn class_name(name: &[u8]) -> ClassName {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text += &composed(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    ClassName { text, is_text: str::from_utf8(name).is_ok() }
}

fn refuse_missing(root: &Path) -> Result<()> {
    if root.is_dir() { Ok(()) } else { Err(Error::Input(format!("{}: no such folder", root.display()))) }
}

/// Refuses to set images aside where there are some to validate on.
fn refuse_second_val(root: &Path) -> Result<()> {
    let found = LAYOUTS.iter().find(|layout| layout.is_there(root, Split::Val));
    found.map_or(Ok(()), |layout| Err(refuse_val(&(layout.place)(root, Split::Val))))
}

/// Why no images are set aside to validate on: there are some at this `place`.
fn refuse_val(place: &Path) -> Error {
    Error::Input(format!("{}: has images to validate on; leave --val-split out", place.display()))
}

/// Whether there are images to test with that nobody has sorted into classes.
fn is_unlabelled(root: &Path) -> bool {
    let place = (folder::LAYOUT.place)(root, Split::Test);
    folder::LAYOUT.is_there(root, Split::Test) && !folder::has_folder(&place)
}

fn say_unlabelled(root: &Path) {
    log::warn!(
        "{}: has no folders of classes, and is left out; predict names the classes of its images",
        (folder::LAYOUT.place)(root, Split::Test).display()
    );
}

/// Refuses `found` classes that are none of `names`; says which of those have no images.
fn same_classes_or_fewer(found: &[String], names: &[String], place: &Path) -> Result<()> {
    refuse_unknown_classes(found, names, place)?;
    say_missing_classes(found, names, place);
    Ok(())
}

fn refuse_unknown_classes(found: &[String], names: &[String], place: &Path) -> Result<()> {
    let known: HashSet<_> = names.iter().collect();
    match found.iter().find(|class| !known.contains(class)) {
        Some(class) => Err(Error::Input(format!("{}: class '{}' is not in train", place.display(), quote(class)))),
        None => Ok(()),
    }
}

/// Says which of `names` have no images at a place where others have.
fn say_missing_classes(found: &[String], names: &[String], place: &Path) {
    const SHOWN: usize = 5;
    let here: HashSet<_> = found.iter().collect();
    let without: Vec<_> = names.iter().filter(|name| !here.contains(name)).collect();
    if !without.is_empty() {
        let shown = without.iter().take(SHOWN).map(quote).collect::<Vec<_>>().join(", ");
        let more = if without.len() > SHOWN { ", …" } else { "" };
        log::warn!("{}: has no images of {} of {} classes: {shown}{more}", place.display(), without.len(), names.len());
    }
}

/// Refuses `found` classes that are not exactly the `wanted` ones.
fn same_classes(found: &[String], wanted: &[String], place: &Path, source: &str) -> Result<()> {
    let (known, listed): (HashSet<_>, HashSet<_>) = (wanted.iter().collect(), found.iter().collect());
    let missing = wanted.iter().find(|class| !listed.contains(class));
    let extra = found.iter().find(|class| !known.contains(class));
    let what = if place.is_dir() { "has no folder here" } else { "has no image in this list" };
    match (missing, extra) {
        (Some(class), _) => {
            Err(Error::Input(format!("{}: class '{}' of {source} {what}", place.display(), quote(class))))
        }
        (_, Some(class)) => {
            Err(Error::Input(format!("{}: class '{}' is not in {source}", place.display(), quote(class))))
        }
        (None, None) => Ok(()),
    }
}
