//! The images in a set of archives: their splits, their classes and their order.
//!
//! The class of an image is what the archive tells of it, or else the folder that it is in, or else the archive that it is in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use super::archive_set::{ArchiveSet, is_spelling};
use super::{Listing, Sample, Split, ValSplit, class_name, refuse_unknown_classes, refuse_val, same_classes};
use crate::archive::{ArchiveSpec, Entry, Index, Kind, Member, Told, index};
use crate::limits::quote;
use crate::{Error, Result, Watch};

/// More classes than that are something else: the numbers of images, or dates.
const MOST_CLASSES: i64 = 1 << 20;
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
            None => {
                let is_lmdb = Kind::of(&set.path(&set.archives[of.archive])) == Some(Kind::Lmdb);
                let what = match is_lmdb {
                    true => "neither its value nor the key of its label tells one",
                    false => "add its .cls, or name what tells labels with --labels",
                };
                Err(Error::Input(format!("{}: has no label, and others have; {what}", place(&of).display())))
            }
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
    let of_archive = |of: &Labelled<'_>| class_name(set.class_of(of.archive).as_bytes()).text;
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
