//! Which archives a data set consists of, and what their names say: splits, shards, classes.
//!
//! ```text
//! DIR/train-000.tar  DIR/train-001.tar  DIR/val-000.tar       shards, by their names
//! DIR/data/train-00000-of-00002.parquet …                     tables, by their names
//! DIR/train/ant.tar  DIR/train/bee.tar  DIR/val/ant.tar …     one of each class, in the folder of a split
//! DIR/train/0000.tar …                                        shards, in the folder of a split
//! FILE.zip                                                    all in one
//! DIR/train_lmdb/data.mdb  DIR/val.lmdb …                     LMDB, by the names of its folders or files
//! DIR/kitchen_train_lmdb/  DIR/tower_train_lmdb/ …            one of each class, as LSUN has them
//! DIR/data_batch_1.bin …  DIR/raw/train-images-idx3-ubyte …   CIFAR and MNIST, as they come
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::left_out::{LeftOut, is_trace};
use super::{Listing, Part, Sample, Split, class_name, is_image, say_missing_classes};
use crate::archive::{Index, Kind, database_in, find_raster, is_archive, is_bgr, name_of};
use crate::{Error, Result};

/// Folders of a data set that say nothing: where Hugging Face's hub keeps the files of one.
const DATA: &str = "data";

/// The archives of a data set, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveSet {
    pub(super) root: PathBuf,
    pub(super) archives: Vec<Found>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// Below the root; empty where that is the archive itself.
    pub path: PathBuf,
    /// By its name or its folder; `None` where what is in it says.
    pub split: Option<Split>,
    /// Whether it lies in the folder of a split, so that its name may be that of a class.
    is_in_folder: bool,
    /// The class that its name says beside the split: of LSUN's databases.
    class: Option<String>,
}

impl ArchiveSet {
    /// The archives that the data set at `root` consists of; `None` where it has none, or is laid out as files.
    ///
    /// # Errors
    /// A folder that cannot be read; archives and image files mixed; an archive that its neighbours' names say is missing.
    pub fn find(root: &Path) -> Result<Option<Self>> {
        if root.is_file() {
            let found = Found { path: PathBuf::new(), split: None, is_in_folder: false, class: None };
            return Ok(is_archive(root).then(|| Self { root: root.to_owned(), archives: vec![found] }));
        }
        let is_laid_out = Split::ALL.into_iter().any(|split| Part::is_there(root, split));
        let of_raster = if is_laid_out { Vec::new() } else { find_raster(root)? };
        let found = |(path, split)| Found { path, split: Some(split), is_in_folder: false, class: None };
        let of_raster: Vec<_> = of_raster.into_iter().map(found).collect();
        if !of_raster.is_empty() {
            return Ok(Some(Self { root: root.to_owned(), archives: of_raster }));
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
        let is_bgr = |(found, index): (&Found, &Index)| {
            self.is_lmdb(found) && index.contents.entries.iter().any(|entry| is_bgr(entry.packed))
        };
        if self.archives.iter().zip(indices).any(is_bgr) {
            log::info!(
                "{}: bare bytes of three channels are taken for blue, green and red, as Caffe's tools write them; if they are red, green \
                 and blue: --images rgb",
                self.root.display()
            );
        }
        for split in Split::ALL {
            let found: BTreeSet<_> = listing.split(split).iter().map(|sample| sample.class).collect();
            let found: Vec<_> = found.into_iter().map(|class| listing.classes[class].clone()).collect();
            if !found.is_empty() {
                say_missing_classes(&found, &listing.classes, &self.root.join(split.name()));
            }
        }
    }

    /// The data set's folder, or the archive that is all of it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether all are databases of LMDB.
    pub fn is_of_databases(&self) -> bool {
        self.archives.iter().all(|found| self.is_lmdb(found))
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
    pub(super) fn path_in_folders(&self, sample: &Sample, classes: &[String]) -> PathBuf {
        let found = sample.member.and_then(|member| self.archives.get(member.archive as usize));
        let Some((found, class)) = found.zip(classes.get(sample.class)) else { return sample.path.clone() };
        let name = sample.path.strip_prefix(&found.path).unwrap_or(&sample.path);
        let parts: Vec<_> = name.iter().collect();
        let at = parts.iter().position(|part| class_name(part.as_encoded_bytes()).text == *class);
        let is_split = |part: &&OsStr| is_spelling(Split::Train, part);
        let below = match at {
            Some(at) => parts[at + 1..].iter().collect::<PathBuf>(),
            // In the archive of its class.
            None if found.is_in_folder || found.class.is_some() => name.to_owned(),
            None => return sample.path.clone(),
        };
        let says_split = found.split.is_some() || parts[..at.unwrap_or(0)].iter().any(is_split);
        let folder = if says_split { Path::new(Split::Train.name()) } else { Path::new("") };
        folder.join(class).join(below)
    }

    /// Whether the name of an archive in the folder of a split may be that of a class, and not of a shard.
    pub(super) fn is_class(&self, archive: usize, is_alone: bool) -> bool {
        let found = &self.archives[archive];
        let (path, stem) = (&found.path, self.class_of(archive));
        let words = stem.split(|letter: char| !letter.is_ascii_alphanumeric());
        let mut words =
            words.map(|word| word.trim_end_matches(|letter: char| letter.is_ascii_digit()).to_ascii_lowercase());
        let name = name_of(path).to_str().unwrap_or_default();
        let is_like = |other: &Found| {
            let other = name_of(&other.path).to_str().and_then(numbered);
            numbered(name)
                .zip(other)
                .is_some_and(|(one, other)| one.0 == other.0 && one.1 != other.1 && one.2 == other.2)
        };
        let is_number = stem.bytes().all(|letter| letter.is_ascii_digit() || letter == b'-' || letter == b'_');
        // ImageNet's are n01440764 and n01443537: letters, and many digits.
        let is_series = || self.archives.iter().any(is_like) && !is_wordnet(&stem);
        if found.class.is_some() {
            return !is_number;
        }
        let is_split = split_of_name(Path::new(&stem)) == found.split
            && (is_alone || stem.bytes().any(|letter| letter.is_ascii_digit()));
        found.is_in_folder
            && !is_number
            && !is_split
            && !words.any(|word| ["shard", "part"].contains(&word.as_str()))
            && !is_series()
    }

    /// The class that an archive is of, if it is of one: what it is called; of LSUN's `tower_train_lmdb`, `tower`.
    pub(super) fn class_of(&self, archive: usize) -> String {
        let found = &self.archives[archive];
        found.class.clone().unwrap_or_else(|| stem(&found.path))
    }

    fn is_lmdb(&self, found: &Found) -> bool {
        Kind::of(&self.path(found)) == Some(Kind::Lmdb)
    }

    pub(super) fn path(&self, found: &Found) -> PathBuf {
        if found.path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(&found.path) }
    }

    /// An archive that is not there, by the numbers of its neighbours: of `train-00001-of-00003.parquet` for certain, which is told, of
    /// others with a gap perhaps.
    fn missing(&self) -> Option<(PathBuf, bool)> {
        let mut series: BTreeMap<(PathBuf, String, String), (BTreeSet<u64>, usize)> = BTreeMap::new();
        for found in &self.archives {
            // Of a database in a folder the folder has the name.
            let own = found.path.ancestors().find(|path| path.file_name() == Some(name_of(&found.path)));
            let Some(name) = name_of(&found.path).to_str() else { continue };
            let Some((before, number, after)) = numbered(name) else { continue };
            let key = (own.unwrap_or(&found.path).with_file_name(""), before.to_owned(), after.to_owned());
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

/// What the name of one of LSUN's databases says, without its ending: `tower_train`, `train`.
fn split_and_class(stem: &str) -> Option<(Split, String)> {
    let split = |word: &str| {
        Split::ALL.into_iter().find(|split| split.folder_names().contains(&word.to_ascii_lowercase().as_str()))
    };
    let whole = split(stem).map(|split| (split, String::new()));
    let last = || stem.rsplit_once(['_', '-']).and_then(|(class, word)| Some((split(word)?, class.to_owned())));
    let first = || stem.split_once(['_', '-']).and_then(|(word, class)| Some((split(word)?, class.to_owned())));
    whole.or_else(last).or_else(first)
}

/// What stands before and after the number of a shard: of `train-00001-of-00003.parquet` the first one.
fn numbered(name: &str) -> Option<(&str, &str, &str)> {
    let stem = without_ending(name).len();
    let head = name[..stem].rfind("-of-").unwrap_or(stem);
    let start = name[..head].trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    (start < head).then(|| (&name[..start], &name[start..head], &name[head..]))
}

/// The name of an archive without its ending.
fn without_ending(name: &str) -> &str {
    let of_bytes = name.strip_suffix(".bin").unwrap_or(name); // CIFAR's
    Kind::of_name(name).map_or(of_bytes, |(_, stem)| stem)
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
pub(super) fn is_spelling(split: Split, name: &OsStr) -> bool {
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
                class: None,
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
                true => match database_in(&entry.path()) {
                    Some(file) => names.push(path.join(file.file_name().unwrap_or_default())),
                    None => return Ok(Vec::new()), // of a class, perhaps
                },
                false if is_archive(&entry.path()) => names.push(path),
                false => others.push(root.join(path)),
            }
        }
    }
    if !names.is_empty() {
        others.iter().try_for_each(|path| refuse_unread(path))?;
    }
    names.sort_unstable();
    let found = |path: PathBuf| {
        let name = name_of(&path);
        let is_lmdb = Kind::of_name(&name.to_string_lossy()).is_some_and(|(kind, _)| kind == Kind::Lmdb);
        let (split, class) = match split_and_class(&stem(&path)).filter(|_| is_lmdb) {
            Some((split, class)) => (Some(split), Some(class).filter(|class| !class.is_empty())),
            None => (split_of_name(Path::new(name)), None),
        };
        Found { split, path, is_in_folder: false, class }
    };
    let mut all: Vec<_> = names.into_iter().map(found).collect();
    // What is the same in all names is the data set's.
    let classes: BTreeSet<_> = all.iter().filter_map(|found| found.class.as_ref()).collect();
    if classes.len() < 2 {
        all.iter_mut().for_each(|found| found.class = None);
    }
    let (of_splits, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|found: &Found| found.split.is_some());
    Ok(if of_splits.is_empty() { rest } else { of_splits })
}

/// The split that is a word of a file's name: `imagenet1k-train-0001.tar`.
pub(crate) fn split_of_name(path: &Path) -> Option<Split> {
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
        if entry.path().is_dir() {
            let Some(file) = database_in(&entry.path()) else { return Ok(None) };
            names.push(name.join(file.file_name().unwrap_or_default()));
            continue;
        }
        if is_image(&name) {
            return Ok(None);
        }
        match is_archive(&entry.path()) {
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

/// The name of an archive without its ending.
fn stem(path: &Path) -> String {
    without_ending(&name_of(path).to_string_lossy()).to_owned()
}
