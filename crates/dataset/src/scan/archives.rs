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

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use super::left_out::{LeftOut, is_trace};
use super::{Listing, Sample, Split, ValSplit, class_name, is_image, refuse_val, same_classes, same_classes_or_fewer};
use crate::archive::{ArchiveSpec, Entry, Index, Kind, Member, Told, index, is_archive};
use crate::limits::quote;
use crate::{Error, Result, Watch};

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
        set.refuse_gaps()?;
        Ok(Some(set))
    }

    /// The data set's folder, or the archive that is all of it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The whole path of each archive.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.archives.iter().map(|found| self.path(found)).collect()
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

    fn path(&self, found: &Found) -> PathBuf {
        if found.path.as_os_str().is_empty() { self.root.clone() } else { self.root.join(&found.path) }
    }

    /// Of `train-00001-of-00003.parquet` all are there; of shards with a gap in their numbers that is said.
    fn refuse_gaps(&self) -> Result<()> {
        let mut series: BTreeMap<(PathBuf, String, String), (BTreeSet<u64>, usize)> = BTreeMap::new();
        for found in &self.archives {
            let Some(name) = found.path.file_name().and_then(OsStr::to_str) else { continue };
            let Some((before, number, after)) = numbered(name) else { continue };
            let key = (found.path.with_file_name(""), before.to_owned(), after.to_owned());
            let (numbers, digits) = series.entry(key).or_default();
            numbers.extend(number.parse::<u64>());
            *digits = number.len();
        }
        for ((folder, before, after), (numbers, digits)) in series {
            let first_missing = |end: u64| (0..end).find(|number| !numbers.contains(number));
            let name = |number: u64| self.root.join(&folder).join(format!("{before}{number:0digits$}{after}"));
            let count = after.strip_prefix("-of-").and_then(|after| after.split('.').next()?.parse::<u64>().ok());
            if let Some(missing) = count.and_then(first_missing) {
                return Err(Error::Input(format!("{}: is missing; its neighbours are there", name(missing).display())));
            }
            let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) else { continue };
            if let Some(missing) = first_missing(last).filter(|&missing| missing > first) {
                log::warn!("{}: is missing; its neighbours are there", name(missing).display());
            }
        }
        Ok(())
    }
}

/// What stands before and after the number of a shard: of `train-00001-of-00003.parquet` the first one.
fn numbered(name: &str) -> Option<(&str, &str, &str)> {
    let stem = name.find('.').unwrap_or(name.len());
    let head = name[..stem].find("-of-").unwrap_or(stem);
    let start = name[..head].trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    (start < head).then(|| (&name[..start], &name[start..head], &name[head..]))
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

/// The archives beside each other that say in their names which split they are of; or all of them, where none does and nothing
/// else is there.
fn by_names(root: &Path) -> Result<Vec<Found>> {
    if Split::Train.spellings().any(|name| root.join(name).is_dir()) || root.join("train.tsv").is_file() {
        return Ok(Vec::new());
    }
    let (mut names, mut has_folders) = (Vec::new(), false);
    for folder in ["", DATA] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let path = Path::new(folder).join(&name);
            if is_trace(&name) || (folder.is_empty() && name == DATA) {
                continue;
            }
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => has_folders = true,
                false if is_archive(&path) => names.push(path),
                false => {}
            }
        }
    }
    names.sort_unstable();
    let found = |path: PathBuf| Found { split: split_of_name(&path), path, is_in_folder: false };
    let (of_splits, others): (Vec<_>, Vec<_>) = names.into_iter().map(found).partition(|found| found.split.is_some());
    if of_splits.is_empty() {
        return Ok(if has_folders { Vec::new() } else { others });
    }
    if !of_splits.iter().any(|found| found.split == Some(Split::Train)) {
        return Ok(of_splits);
    }
    for other in others {
        log::warn!("{}: is left out; its name says no split", root.join(&other.path).display());
    }
    Ok(of_splits)
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
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable())? {
        let entry = entry.map_err(unreadable())?;
        let name = PathBuf::from(entry.file_name());
        if is_trace(name.as_os_str()) {
            continue;
        }
        if entry.path().is_dir() || is_image(&name) {
            return Ok(None);
        }
        if is_archive(&name) {
            names.push(name);
        }
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
        Self::of_archives(&set, &indices, classes.map_or(Names::Found, Names::Listed), val_split)
    }

    /// Lists the images of a set of archives, which have been indexed in their order. With a `val_split` the images to validate
    /// on are set aside from those to train on.
    ///
    /// Where classes are folders or archives, samples are sorted as those of a folder are; otherwise they stay in the order of
    /// the archives.
    ///
    /// # Errors
    /// No images to train on, images without a class, labels that are no classes, or a `val_split` where there are images to
    /// validate on.
    pub fn of_archives(
        set: &ArchiveSet,
        indices: &[Index],
        names: Names<'_>,
        val_split: Option<ValSplit>,
    ) -> Result<Self> {
        let mut left_out = LeftOut::default();
        indices.iter().for_each(|index| left_out.add(&index.contents.left_out));
        left_out.say(&set.root);
        let mut parts: BTreeMap<usize, Vec<Labelled<'_>>> = BTreeMap::new();
        for (split, labelled) in by_split(set, indices) {
            parts.entry(split as usize).or_default().push(labelled);
        }
        let own_names = own_names(set, indices)?;
        let mut labelled = Vec::new();
        for split in Split::ALL {
            let part = parts.remove(&(split as usize)).unwrap_or_default();
            labelled.push((split, labels(set, part, &own_names)?));
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
        if let Some(val_split) = val_split {
            if !listing.val.is_empty() {
                return Err(refuse_val(&set.root));
            }
            (listing.train, listing.val) = val_split.divide(std::mem::take(&mut listing.train));
        }
        Ok(listing)
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
    Ok(names.to_vec())
}

/// All images with their splits: by the archive, or by a folder in it.
fn by_split<'a>(set: &ArchiveSet, indices: &'a [Index]) -> Vec<(Split, Labelled<'a>)> {
    let mut all: Vec<(Option<Split>, Labelled<'a>)> = Vec::new();
    for (archive, (found, index)) in set.archives.iter().zip(indices).enumerate() {
        for entry in &index.contents.entries {
            let folders = entry.name.parent().into_iter().flat_map(Path::components);
            let folders = folders.filter_map(|part| match part {
                Component::Normal(name) => Some(name),
                _ => None,
            });
            all.push((found.split, Labelled { archive, entry, folders: folders.collect() }));
        }
    }
    // Those that do not say which split they are of: a folder that all are in comes before the splits, or before the classes.
    let mut unknown: Vec<_> = all.iter_mut().filter(|(split, _)| split.is_none()).collect();
    let depth = common(unknown.iter().map(|(_, labelled)| &labelled.folders[..]));
    let split_at = |folders: &[&OsStr], depth: usize| {
        let name = folders.get(depth)?.to_str()?;
        Split::ALL.into_iter().find(|split| split.spellings().any(|spelling| spelling == name))
    };
    // One that all are in may be that of the only split.
    let depth = (0..=depth).rev().find(|&depth| unknown.iter().all(|(_, all)| split_at(&all.folders, depth).is_some()));
    for (split, labelled) in &mut unknown {
        *split = match depth {
            Some(depth) => {
                let split = split_at(&labelled.folders, depth);
                labelled.folders.drain(..=depth);
                split
            }
            None => Some(Split::Train),
        };
    }
    all.into_iter().map(|(split, labelled)| (split.unwrap_or(Split::Train), labelled)).collect()
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
    // The folder of a class stays, if there is only one.
    let least = part.iter().map(|of| of.folders.len()).min().unwrap_or(0);
    let depth = common(part.iter().map(|of| &of.folders[..])).min(least.saturating_sub(1));
    let mut labels = Vec::with_capacity(part.len());
    for of in &part {
        let found = &set.archives[of.archive];
        let name = match of.folders.get(depth) {
            Some(folder) => class_name(folder.as_encoded_bytes()).text,
            None if found.is_in_folder && of.folders.is_empty() && !is_shard(&found.path) => {
                class_name(stem(&found.path).as_bytes()).text
            }
            None => {
                return Err(Error::Input(format!(
                    "{}: has no label; put the images of each class into a folder of its own in the archive, or a .cls beside \
                     each, or name what tells labels with --labels",
                    place(of).display()
                )));
            }
        };
        labels.push(name);
    }
    for of in &mut part {
        of.folders.drain(..depth.min(of.folders.len()));
    }
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

/// Whether an archive's name is that of a shard, and not of a class.
fn is_shard(path: &Path) -> bool {
    let stem = stem(path);
    let mut words = stem.split(|letter: char| !letter.is_ascii_alphanumeric());
    stem.bytes().all(|letter| letter.is_ascii_digit() || letter == b'-' || letter == b'_')
        || words.any(|word| ["shard", "part"].contains(&word.to_ascii_lowercase().as_str()))
        || split_of_name(path).is_some()
}

fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let lower = name.to_ascii_lowercase();
    let endings = [".tar.gz", ".tar.zst", ".tgz", ".tar", ".zip", ".parquet"];
    let ending = endings.iter().find(|ending| lower.ends_with(*ending)).map_or(0, |ending| ending.len());
    name[..name.len() - ending].to_owned()
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
    let largest = train.iter().filter_map(|(label, _)| match label {
        Label::Number(number) => Some(*number),
        Label::Name(_) => None,
    });
    let largest = largest.max();
    let in_train = found(train);
    let is_mixed = largest.is_some_and(|number| number >= 0) && !in_train.is_empty();
    if is_mixed {
        return Err(Error::Input(format!(
            "{}: has labels that are numbers, and labels that are names",
            set.root.display()
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
    if in_train.len() < names.len() && !in_train.is_empty() {
        same_classes_or_fewer(&in_train, &names, &set.root)?;
    }
    for (split, part) in labelled.iter().skip(1).filter(|(_, part)| !part.is_empty()) {
        let found = found(part);
        if !found.is_empty() {
            same_classes_or_fewer(&found, &names, &set.root.join(split.name()))?;
        }
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
