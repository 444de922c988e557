//! Images in archives: which archives there are, which split each is of, and the classes of what is in them.
//!
//! ```text
//! DIR/train-000.tar  DIR/train-001.tar  DIR/val-000.tar       shards, by their names
//! DIR/data/train-00000-of-00002.parquet …                     tables, by their names
//! DIR/train/ant.tar  DIR/train/bee.tar  DIR/val/ant.tar …     one of each class, in the folder of a split
//! DIR/train/0000.tar …                                        shards, in the folder of a split
//! FILE.zip with train/ant/1.jpg  val/ant/2.jpg …              all in one
//! ```
//!
//! The class of an image is what the archive tells of it, or else the folder that it is in, or else the archive that it is in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use super::left_out::{LeftOut, is_trace};
use super::{
    Listing, Part, Sample, Split, ValSplit, class_name, is_image, refuse_unknown_classes, refuse_val, same_classes,
    say_missing_classes,
};
use crate::archive::{ArchiveSpec, Entry, Index, Kind, Member, Told, index, is_archive};
use crate::limits::quote;
use crate::{Error, Result, Watch};

/// More classes than that are something else: the numbers of images, or dates.
const MOST_CLASSES: i64 = 1 << 20;
/// Folders of a data set that say nothing: where Hugging Face's hub keeps the files of one.
const DATA: &str = "data";

/// The archives of a data set, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveSet {
    root: PathBuf,
    archives: Vec<Found>,
}

#[derive(Clone, Debug, PartialEq)]
struct Found {
    /// Below the root; empty where that is the archive itself.
    path: PathBuf,
    /// By its name or its folder; `None` where what is in it says.
    split: Option<Split>,
    /// Whether it lies in the folder of a split, so that its name may be that of a class.
    is_in_folder: bool,
}

/// Whose the classes are.
#[derive(Clone, Copy, Debug)]
pub enum Names<'a> {
    /// Those that are found, sorted.
    Found,
    /// These, in their order.
    Listed(&'a [String]),
    /// A model's, some of which may have no images.
    Model(&'a [String]),
}

impl ArchiveSet {
    /// The archives that the data set at `root` consists of; `None` where it has none, or is laid out as files.
    ///
    /// # Errors
    /// A folder that cannot be read; archives and image files mixed; an archive that its neighbours' names say is missing.
    pub fn find(root: &Path) -> Result<Option<Self>> {
        if root.is_file() {
            let found = Found { path: PathBuf::new(), split: None, is_in_folder: false };
            return Ok(is_archive(root).then(|| Self { root: root.to_owned(), archives: vec![found] }));
        }
        let archives = match in_folders(root)? {
            Some(archives) => archives,
            None => by_names(root)?,
        };
        if archives.is_empty() {
            return Ok(None);
        }
        let set = Self { root: root.to_owned(), archives };
        match set.missing() {
            Some((path, true)) => {
                Err(Error::Input(format!("{}: is missing; its neighbours are there", path.display())))
            }
            _ => Ok(Some(set)),
        }
    }

    /// Says what is in the archives and left out, which shards seem to be missing, and which classes have no images.
    pub fn say(&self, indices: &[Index], listing: &Listing) {
        if let Some((path, _)) = self.missing() {
            log::warn!("{}: is missing; its neighbours are there", path.display());
        }
        let mut left_out = LeftOut::default();
        indices.iter().for_each(|index| left_out.add(&index.contents.left_out));
        left_out.say(&self.root);
        for split in Split::ALL {
            let found: BTreeSet<_> = listing.split(split).iter().map(|sample| &listing.classes[sample.class]).collect();
            let found: Vec<_> = found.into_iter().cloned().collect();
            if !found.is_empty() {
                say_missing_classes(&found, &listing.classes, &self.root.join(split.name()));
            }
        }
    }

    /// The data set's folder, or the archive that is all of it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The whole path of each archive.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.archives.iter().map(|found| self.path(found)).collect()
    }

    /// The same below the root; an empty path is the root itself.
    pub fn names(&self) -> impl Iterator<Item = &Path> {
        self.archives.iter().map(|found| found.path.as_path())
    }

    /// Whether every image in them is found at once, so that they can be used without a cache.
    ///
    /// # Errors
    /// One in which it is not: the message names it.
    pub fn refuse_sequential(&self) -> Result<()> {
        let is_slow = |found: &&Found| Kind::of(&self.path(found)).is_some_and(|kind| !kind.is_random());
        match self.archives.iter().find(is_slow) {
            None => Ok(()),
            Some(found) => Err(Error::Input(format!(
                "{}: its images are found only by reading all that comes before them; use --cache-format encoded or pixels",
                self.path(found).display()
            ))),
        }
    }

    /// Where an image to train on would lie in folders with the same files: `train/CLASS/…`, or `CLASS/…` where nothing says that it is to
    /// train on. What its archive tells of it stays where it is.
    fn path_in_folders(&self, sample: &Sample, classes: &[String]) -> PathBuf {
        let found = sample.member.and_then(|member| self.archives.get(member.archive as usize));
        let Some((found, class)) = found.zip(classes.get(sample.class)) else { return sample.path.clone() };
        let name = sample.path.strip_prefix(&found.path).unwrap_or(&sample.path);
        let parts: Vec<_> = name.iter().collect();
        let at = parts.iter().position(|part| class_name(part.as_encoded_bytes()).text == *class);
        let is_split = |part: &&OsStr| is_spelling(Split::Train, part);
        let below = match at {
            Some(at) => parts[at + 1..].iter().collect::<PathBuf>(),
            None if found.is_in_folder => name.to_owned(), // in the archive of its class
            None => return sample.path.clone(),
        };
        let says_split = found.split.is_some() || parts[..at.unwrap_or(0)].iter().any(is_split);
        let folder = if says_split { Path::new(Split::Train.name()) } else { Path::new("") };
        folder.join(class).join(below)
    }

    /// Whether the name of an archive in the folder of a split may be that of a class, and not of a shard.
    fn is_class(&self, archive: usize, is_alone: bool) -> bool {
        let Found { path, is_in_folder, .. } = &self.archives[archive];
        let stem = stem(path);
        let words = stem.split(|letter: char| !letter.is_ascii_alphanumeric());
        let mut words =
            words.map(|word| word.trim_end_matches(|letter: char| letter.is_ascii_digit()).to_ascii_lowercase());
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let is_like = |other: &Found| {
            let other = other.path.file_name().and_then(OsStr::to_str).and_then(numbered);
            numbered(name)
                .zip(other)
                .is_some_and(|(one, other)| one.0 == other.0 && one.1 != other.1 && one.2 == other.2)
        };
        let is_number = stem.bytes().all(|letter| letter.is_ascii_digit() || letter == b'-' || letter == b'_');
        // ImageNet's are n01440764 and n01443537: letters, and many digits.
        let is_series = || self.archives.iter().any(is_like) && !is_wordnet(&stem);
        let is_split =
            split_of_name(path).is_some() && (is_alone || stem.bytes().any(|letter| letter.is_ascii_digit()));
        *is_in_folder
            && !is_number
            && !is_split
            && !words.any(|word| ["shard", "part"].contains(&word.as_str()))
            && !is_series()
    }

    fn path(&self, found: &Found) -> PathBuf {
        if found.path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(&found.path) }
    }

    /// An archive that is not there, by the numbers of its neighbours: of `train-00001-of-00003.parquet` for certain, which is told, of
    /// others with a gap perhaps.
    fn missing(&self) -> Option<(PathBuf, bool)> {
        let mut series: BTreeMap<(PathBuf, String, String), (BTreeSet<u64>, usize)> = BTreeMap::new();
        for found in &self.archives {
            let Some(name) = found.path.file_name().and_then(OsStr::to_str) else { continue };
            let Some((before, number, after)) = numbered(name) else { continue };
            let key = (found.path.with_file_name(""), before.to_owned(), after.to_owned());
            let (numbers, digits) = series.entry(key).or_default();
            numbers.extend(number.parse::<u64>());
            *digits = number.len();
        }
        let mut gap = None;
        for ((folder, before, after), (numbers, digits)) in series {
            let first_missing = |from: u64, end: u64| (from..end).find(|number| !numbers.contains(number));
            let path = |number: u64| self.root.join(&folder).join(format!("{before}{number:0digits$}{after}"));
            let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) else { continue };
            let count = after.strip_prefix("-of-").and_then(|after| after.split('.').next()?.parse::<u64>().ok());
            // Counted from 0, or from 1.
            let missing = count.and_then(|count| first_missing(first.min(1), count + first.min(1)));
            if let Some(missing) = missing {
                return Some((path(missing), true));
            }
            gap = gap.or_else(|| first_missing(first, last).map(path));
        }
        gap.map(|path| (path, false))
    }
}

/// What stands before and after the number of a shard: of `train-00001-of-00003.parquet` the first one.
fn numbered(name: &str) -> Option<(&str, &str, &str)> {
    let stem = name.len() - ending(name);
    let head = name[..stem].rfind("-of-").unwrap_or(stem);
    let start = name[..head].trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    (start < head).then(|| (&name[..start], &name[start..head], &name[head..]))
}

/// How many bytes an archive's ending takes in its name.
fn ending(name: &str) -> usize {
    let lower = name.to_ascii_lowercase();
    let endings = [".tar.gz", ".tar.zst", ".tgz", ".tar", ".zip", ".parquet"];
    endings.iter().find(|ending| lower.ends_with(*ending)).map_or(0, |ending| ending.len())
}

/// Archives that are not read here, by their endings.
const UNREAD: &[&str] = &[
    ".tar.bz2",
    ".tbz2",
    ".tbz",
    ".tar.xz",
    ".txz",
    ".tar.lz4",
    ".tar.lzma",
    ".tar.z",
    ".7z",
    ".rar",
    ".tfrecord",
    ".tfrecords",
    ".mdb",
    ".arrow",
    ".feather",
];

/// Refuses one that is not read among those that are: nothing is left out in silence.
fn refuse_unread(path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match UNREAD.iter().find(|ending| name.ends_with(*ending)) {
        Some(ending) => Err(Error::Input(format!(
            "{}: {ending} is not read here, and other archives beside it are; pack it as .tar or .zip",
            path.display()
        ))),
        None => Ok(()),
    }
}

/// Whether a name is one of WordNet's numbers, as classes of ImageNet have: `n01440764`.
fn is_wordnet(name: &str) -> bool {
    name.len() == 9 && name.starts_with('n') && name[1..].bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether a folder is called as that of a split.
fn is_spelling(split: Split, name: &OsStr) -> bool {
    split.spellings().any(|spelling| name == OsStr::new(&spelling))
}

/// The archives in the folders of splits, if there is one of images to train on, and it holds archives and no images.
fn in_folders(root: &Path) -> Result<Option<Vec<Found>>> {
    let mut archives = Vec::new();
    for split in Split::ALL {
        let Some(folder) = split.spellings().find(|name| root.join(name).is_dir()) else { continue };
        let whole = root.join(&folder);
        let inside = archives_in(&whole)?;
        match (inside, archives.is_empty()) {
            (Some(inside), _) if !inside.is_empty() => archives.extend(inside.into_iter().map(|name| Found {
                path: Path::new(&folder).join(name),
                split: Some(split),
                is_in_folder: true,
            })),
            (_, true) => return Ok(None),
            (Some(_), false) => {}
            (None, false) => {
                return Err(Error::Input(format!(
                    "{}: holds image files, and the images to train on are in archives; put all of them into one or the other",
                    whole.display()
                )));
            }
        }
    }
    Ok(if archives.is_empty() { None } else { Some(archives) })
}

/// The archives beside each other, where nothing else is there that images could be in: those that say in their names which split
/// they are of; or all of them, where none does.
fn by_names(root: &Path) -> Result<Vec<Found>> {
    if Split::ALL.into_iter().any(|split| Part::is_there(root, split)) {
        return Ok(Vec::new());
    }
    let (mut names, mut others) = (Vec::new(), Vec::new());
    for folder in ["", DATA] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let path = Path::new(folder).join(&name);
            if is_trace(&name) || (folder.is_empty() && name == DATA) {
                continue;
            }
            match entry.path().is_dir() {
                true => return Ok(Vec::new()), // of a class, perhaps
                false if is_archive(&path) => names.push(path),
                false => others.push(root.join(path)),
            }
        }
    }
    if !names.is_empty() {
        others.iter().try_for_each(|path| refuse_unread(path))?;
    }
    names.sort_unstable();
    let found = |path: PathBuf| Found { split: split_of_name(&path), path, is_in_folder: false };
    let (of_splits, rest): (Vec<_>, Vec<_>) = names.into_iter().map(found).partition(|found| found.split.is_some());
    Ok(if of_splits.is_empty() { rest } else { of_splits })
}

/// The split that is a word of a file's name: `imagenet1k-train-0001.tar`.
fn split_of_name(path: &Path) -> Option<Split> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let mut words = name.split(|letter: char| !letter.is_ascii_alphabetic());
    words.find_map(|word| Split::ALL.into_iter().find(|split| split.folder_names().contains(&word)))
}

/// The names of the archives in a folder, sorted; `None` where there are folders or images in it.
fn archives_in(folder: &Path) -> Result<Option<Vec<PathBuf>>> {
    let unreadable = || Error::io(folder, "listing the images");
    let (mut names, mut others) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(unreadable())? {
        let entry = entry.map_err(unreadable())?;
        let name = PathBuf::from(entry.file_name());
        if is_trace(name.as_os_str()) {
            continue;
        }
        if entry.path().is_dir() || is_image(&name) {
            return Ok(None);
        }
        match is_archive(&name) {
            true => names.push(name),
            false => others.push(entry.path()),
        }
    }
    if !names.is_empty() {
        others.iter().try_for_each(|path| refuse_unread(path))?;
    }
    names.sort_unstable();
    Ok(Some(names))
}

/// An image, and what is known of its class.
struct Labelled<'a> {
    archive: usize,
    entry: &'a Entry,
    /// The folders that it is in, without those that all of its split are in.
    folders: Vec<&'a OsStr>,
}

enum Label {
    Number(i64),
    Name(String),
}

impl Listing {
    /// Lists the images that lie at `path`, in a folder of images or in archives, which this process indexes alone. `classes` and
    /// `val_split` are those of [`scan_watched`](Self::scan_watched).
    ///
    /// # Errors
    /// As [`scan_watched`](Self::scan_watched) and [`of_archives`](Self::of_archives).
    pub fn of_path(
        path: &Path,
        classes: Option<&[String]>,
        val_split: Option<ValSplit>,
        watch: &Watch<'_>,
    ) -> Result<Self> {
        let Some(set) = ArchiveSet::find(path)? else { return Self::scan_watched(path, classes, val_split, watch) };
        let index = |path: &PathBuf| index(path, &ArchiveSpec::default(), watch);
        let indices = set.paths().par_iter().map(index).collect::<Result<Vec<_>>>()?;
        let mut listing = Self::of_archives(&set, &indices, classes.map_or(Names::Found, Names::Listed))?;
        set.say(&indices, &listing);
        val_split.map_or(Ok(()), |val_split| listing.set_aside(&set, val_split))?;
        Ok(listing)
    }

    /// Lists the images of a set of archives, which have been indexed in their order.
    ///
    /// Where classes are folders or archives, samples are sorted as those of a folder are; otherwise they stay in the order of
    /// the archives.
    ///
    /// # Errors
    /// No images to train on, images without a class, or labels that are no classes.
    pub fn of_archives(set: &ArchiveSet, indices: &[Index], names: Names<'_>) -> Result<Self> {
        let mut parts: BTreeMap<usize, Vec<Labelled<'_>>> = BTreeMap::new();
        for (split, labelled) in by_split(set, indices) {
            parts.entry(split as usize).or_default().push(labelled);
        }
        let own_names = own_names(set, indices)?;
        let mut labelled = Vec::new();
        for split in Split::ALL {
            let part = parts.remove(&(split as usize)).unwrap_or_default();
            labelled.push((split, labels(set, split, part, &own_names)?));
        }
        let is_unlabelled = |label: &Label| matches!(label, Label::Number(-1));
        if let Some((_, test)) = labelled.iter_mut().find(|(split, _)| *split == Split::Test)
            && !test.is_empty()
            && test.iter().all(|(label, _)| is_unlabelled(label))
        {
            log::warn!("{}: the images to test on have no labels, and are left out", set.root.display());
            test.clear();
        }
        let classes = classes(set, &labelled, names, own_names)?;
        let mut listing = Self::of_classes(&set.root, classes);
        listing.archives = set.archives.iter().map(|found| found.path.clone()).collect();
        for (split, part) in labelled {
            *listing.split_mut(split) = samples(set, indices, part, &listing.classes)?;
        }
        Ok(listing)
    }

    /// Sets images to validate on aside from those to train on, in these archives: the same ones as from a folder with the same files.
    ///
    /// # Errors
    /// There are images to validate on.
    pub fn set_aside(&mut self, set: &ArchiveSet, val_split: ValSplit) -> Result<()> {
        if !self.val.is_empty() {
            return Err(refuse_val(&set.root));
        }
        let keys: Vec<_> = self.train.iter().map(|sample| set.path_in_folders(sample, &self.classes)).collect();
        (self.train, self.val) = val_split.divide_by(std::mem::take(&mut self.train), |index| &keys[index]);
        Ok(())
    }
}

/// The names of classes that the archives tell, which must not contradict each other.
fn own_names(set: &ArchiveSet, indices: &[Index]) -> Result<Vec<String>> {
    let mut names: &[String] = &[];
    for (found, index) in set.archives.iter().zip(indices) {
        let own = &index.contents.names;
        if !own.is_empty() && !names.is_empty() && own != names {
            let path = set.path(found);
            return Err(Error::Input(format!("{}: has other names of classes than those before it", path.display())));
        }
        names = if own.is_empty() { names } else { own };
    }
    let mut seen = HashSet::new();
    if let Some(name) = names.iter().find(|name| !seen.insert(*name)) {
        return Err(Error::Input(format!("{}: two classes are called '{}'", set.root.display(), quote(name))));
    }
    Ok(names.to_vec())
}

/// All images with their splits: by the archive, or by a folder in it. Where such folders are of several splits, what lies beside them is
/// left out, and said.
fn by_split<'a>(set: &ArchiveSet, indices: &'a [Index]) -> Vec<(Split, Labelled<'a>)> {
    let mut all: Vec<(Option<Split>, Labelled<'a>)> = Vec::new();
    for (archive, (found, index)) in set.archives.iter().zip(indices).enumerate() {
        // A table's rows come before the names that they give their images.
        let rows = usize::from(Kind::of(&set.path(found)) == Some(Kind::Parquet));
        for entry in &index.contents.entries {
            let folders = entry.name.parent().into_iter().flat_map(Path::components);
            let folders = folders.filter_map(|part| match part {
                Component::Normal(name) => Some(name),
                _ => None,
            });
            all.push((found.split, Labelled { archive, entry, folders: folders.skip(rows).collect() }));
        }
    }
    let unknown = || all.iter().filter(|(split, _)| split.is_none()).map(|(_, labelled)| &labelled.folders[..]);
    let split_at = |folders: &[&OsStr], depth: usize| {
        let name = folders.get(depth)?;
        Split::ALL.into_iter().find(|&split| is_spelling(split, name))
    };
    // A folder that all are in comes before the splits, or before the classes; or it is that of the only split.
    let says = |depth: &usize| {
        let found: Vec<_> = unknown().map(|folders| split_at(folders, *depth)).collect();
        let has = |split| found.contains(&Some(split));
        // Trains may be a class; trains beside tests are not.
        !found.is_empty() && (!found.contains(&None) || has(Split::Train) && (has(Split::Val) || has(Split::Test)))
    };
    let depth = (0..=common(unknown())).rev().find(says);
    let mut beside = 0;
    let mut placed = Vec::with_capacity(all.len());
    for (split, mut labelled) in all {
        let split = match (split, depth) {
            (Some(split), _) => split,
            (None, None) => Split::Train,
            (None, Some(depth)) => match split_at(&labelled.folders, depth) {
                Some(split) => {
                    labelled.folders.drain(..=depth);
                    split
                }
                None => {
                    beside += 1;
                    continue;
                }
            },
        };
        placed.push((split, labelled));
    }
    if beside > 0 {
        log::warn!("{}: {beside} images in no folder of a split are left out", set.root.display());
    }
    placed
}

/// How many folders all have in common.
fn common<'a, 'b: 'a>(all: impl Iterator<Item = &'a [&'b OsStr]>) -> usize {
    let same = |(one, other): &(&&OsStr, &&OsStr)| one == other;
    let prefix = |one: &'a [&'b OsStr], other: &'a [&'b OsStr]| &one[..one.iter().zip(other).take_while(same).count()];
    all.reduce(prefix).map_or(0, <[_]>::len)
}

/// The label of each image of a split: told, or by its folder, or by its archive.
fn labels<'a>(
    set: &ArchiveSet,
    split: Split,
    mut part: Vec<Labelled<'a>>,
    own_names: &[String],
) -> Result<Vec<(Label, Labelled<'a>)>> {
    let place = |of: &Labelled<'_>| set.path(&set.archives[of.archive]).join(&of.entry.name);
    if part.iter().any(|of| of.entry.told.is_some()) {
        let label = |of: Labelled<'a>| match &of.entry.told {
            Some(Told::Number(number)) if own_names.is_empty() || *number == -1 => Ok((Label::Number(*number), of)),
            Some(Told::Number(number)) => match usize::try_from(*number).ok().and_then(|at| own_names.get(at)) {
                Some(name) => Ok((Label::Name(name.clone()), of)),
                None => {
                    let (place, count) = (place(&of), own_names.len());
                    Err(Error::Input(format!("{}: has the label {number} of {count} classes", place.display())))
                }
            },
            Some(Told::Name(name)) => Ok((Label::Name(name.clone()), of)),
            None => Err(Error::Input(format!(
                "{}: has no label, and others have; add its .cls, or name what tells labels with --labels",
                place(&of).display()
            ))),
        };
        return part.into_iter().map(label).collect();
    }
    // What a split is called is no class, if all of it lies there.
    let is_own = |of: &Labelled<'_>| of.folders.first().is_some_and(|name| is_spelling(split, name));
    if !part.is_empty() && part.iter().all(is_own) {
        for of in &mut part {
            of.folders.remove(0);
        }
    }
    let depth = class_depth(&part);
    let class = |of: &Labelled<'_>| of.folders.get(depth).map(|folder| class_name(folder.as_encoded_bytes()).text);
    // Each archive of a split's folder is a class, unless their names are numbers of shards, or what is in them has classes.
    let archives: BTreeSet<_> = part.iter().map(|of| of.archive).collect();
    let inside: BTreeSet<_> = part.iter().map(class).collect();
    let are_classes = inside.len() <= 1
        && (archives.len() > 1 || inside.contains(&None))
        && archives.iter().all(|&archive| set.is_class(archive, archives.len() == 1));
    let of_archive = |of: &Labelled<'_>| class_name(stem(&set.archives[of.archive].path).as_bytes()).text;
    if split == Split::Test && !are_classes && inside.contains(&None) {
        log::warn!("{}: the images to test on have no labels, and are left out", set.root.display());
        return Ok(Vec::new());
    }
    let (mut labels, mut kept, mut beside) = (Vec::with_capacity(part.len()), Vec::with_capacity(part.len()), None);
    for mut of in part {
        match class(&of) {
            _ if are_classes => labels.push(of_archive(&of)),
            Some(name) => labels.push(name),
            None => {
                beside = beside.or_else(|| Some(place(&of)));
                continue;
            }
        }
        of.folders.drain(..depth.min(of.folders.len()));
        kept.push(of);
    }
    match beside {
        Some(image) if kept.is_empty() || depth == 0 => {
            return Err(Error::Input(format!(
                "{}: has no label; put the images of each class into a folder of its own in the archive, or a .cls beside each, or name \
                 what tells labels with --labels",
                image.display()
            )));
        }
        Some(image) => log::warn!("{}: is in no folder of a class, and others like it: left out", image.display()),
        None => {}
    }
    let part = kept;
    let mut sorted: Vec<_> = labels.into_iter().zip(part).collect();
    // As a folder of them is listed: class, folder, name.
    sorted.sort_by_cached_key(|(class, of)| {
        (class.clone(), of.folders.join(OsStr::new("/")), of.entry.name.file_name().map(OsStr::to_owned))
    });
    if let Some(pair) = sorted.windows(2).find(|pair| {
        pair[0].0 == pair[1].0
            && pair[0].1.folders == pair[1].1.folders
            && pair[0].1.entry.name.file_name() == pair[1].1.entry.name.file_name()
    }) {
        let (one, other) = (place(&pair[0].1), place(&pair[1].1));
        return Err(Error::Input(format!("{}: is also {}; remove one", one.display(), other.display())));
    }
    Ok(sorted.into_iter().map(|(name, of)| (Label::Name(name), of)).collect())
}

/// How many folders come before those of classes: those that all images are in, unless one of them is that of the only class. A few
/// images that lie beside the folders of several classes count as little as in a folder.
fn class_depth(part: &[Labelled<'_>]) -> usize {
    let depth = common(part.iter().map(|of| &of.folders[..]));
    let least = part.iter().map(|of| of.folders.len()).min().unwrap_or(0);
    let inside: BTreeSet<_> = part.iter().filter_map(|of| of.folders.get(depth)).collect();
    let in_folders = part.iter().filter(|of| of.folders.len() > depth).count();
    let are_classes = inside.len() > 1 && in_folders * 10 >= part.len() * 9;
    if are_classes { depth } else { depth.min(least.saturating_sub(1)) }
}

fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name[..name.len() - ending(&name)].to_owned()
}

/// The names of the classes, in the order of their labels.
fn classes(
    set: &ArchiveSet,
    labelled: &[(Split, Vec<(Label, Labelled<'_>)>)],
    names: Names<'_>,
    own_names: Vec<String>,
) -> Result<Vec<String>> {
    let found = |part: &[(Label, Labelled<'_>)]| -> Vec<String> {
        let names = part.iter().filter_map(|(label, _)| match label {
            Label::Name(name) => Some(name.clone()),
            Label::Number(_) => None,
        });
        names.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let train = &labelled[0].1;
    if train.is_empty() && !matches!(names, Names::Model(_)) {
        return Err(Error::Input(format!("{}: has no images to train on", set.root.display())));
    }
    let number = |(label, _): &(Label, Labelled<'_>)| match label {
        Label::Number(number) => Some(*number),
        Label::Name(_) => None,
    };
    let numbers = || labelled.iter().flat_map(|(_, part)| part).filter_map(number).filter(|&number| number >= 0);
    let largest = train.iter().filter_map(number).max();
    let in_train = found(train);
    let has_names = labelled.iter().any(|(_, part)| part.iter().any(|(label, _)| matches!(label, Label::Name(_))));
    if numbers().next().is_some() && has_names && own_names.is_empty() && !matches!(names, Names::Listed(_)) {
        let place = set.root.display();
        return Err(Error::Input(format!("{place}: has labels that are numbers, and labels that are names")));
    }
    if let (Some(largest), Names::Found) = (largest.filter(|&largest| largest >= MOST_CLASSES), names) {
        let place = set.root.display();
        return Err(Error::Input(format!(
            "{place}: has the label {largest}; at most {MOST_CLASSES} classes are told apart"
        )));
    }
    let names = match (names, largest) {
        (Names::Listed(listed), _) if !own_names.is_empty() && own_names != listed => {
            return Err(Error::Input(format!(
                "{}: has other names of its own than the classes file; leave --classes out",
                set.root.display()
            )));
        }
        (Names::Listed(listed), None) if own_names.is_empty() => {
            same_classes(&in_train, listed, &set.root, "the classes file")?;
            listed.to_vec()
        }
        (Names::Listed(listed) | Names::Model(listed), _) => listed.to_vec(),
        (Names::Found, _) if !own_names.is_empty() => own_names,
        (Names::Found, Some(largest)) => (0..=largest).map(|number| number.to_string()).collect(),
        (Names::Found, None) => in_train.clone(),
    };
    refuse_unknown_classes(&in_train, &names, &set.root)?;
    for (split, part) in labelled.iter().skip(1).filter(|(_, part)| !part.is_empty()) {
        refuse_unknown_classes(&found(part), &names, &set.root.join(split.name()))?;
    }
    Ok(names)
}

/// The samples of a split.
fn samples(
    set: &ArchiveSet,
    indices: &[Index],
    part: Vec<(Label, Labelled<'_>)>,
    classes: &[String],
) -> Result<Vec<Sample>> {
    let by_name: HashMap<_, _> = classes.iter().enumerate().map(|(label, name)| (name.as_str(), label)).collect();
    let sample = |(label, Labelled { archive, entry, .. }): (Label, Labelled<'_>)| {
        let found = &set.archives[archive];
        let fault = |label: &str| {
            let place = set.path(found).join(&entry.name);
            let count = classes.len();
            Error::Input(format!("{}: has the label {label}, which is none of {count} classes", place.display()))
        };
        let class = match label {
            Label::Number(number) => {
                let class = usize::try_from(number).ok().filter(|&class| class < classes.len());
                class.ok_or_else(|| fault(&number.to_string()))?
            }
            Label::Name(name) => *by_name.get(name.as_str()).ok_or_else(|| fault(&format!("'{}'", quote(&name))))?,
        };
        let member = Member { archive: archive as u32, at: entry.at, packed: entry.packed };
        Ok(Sample {
            path: found.path.join(&entry.name),
            class,
            targets: Box::default(),
            mask: None,
            size: entry.size,
            modified: indices[archive].modified,
            member: Some(member),
        })
    };
    let is_told = part.iter().any(|(_, of)| of.entry.told.is_some());
    let mut samples: Vec<_> = part.into_iter().map(sample).collect::<Result<_>>()?;
    if !is_told {
        samples.sort_by_key(|sample| sample.class); // a classes file may have another order than their names
    }
    Ok(samples)
}
