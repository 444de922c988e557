//! Folders of classes, looked at and not kept: whether their cache is current can be said without the list of all images.

use std::ffi::OsString;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::fingerprint::{Digest, of_run, of_runs};
use super::left_out::LeftOut;
use super::{Listing, Sample, Split, folder, is_unlabelled, list, say_missing_classes, say_unlabelled};
use crate::fields;
use crate::watch::Counter;
use crate::{Error, Result, Watch};

/// A data set that consists of folders of classes: `DIR/train/CLASS`.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    root: PathBuf,
    classes: Vec<String>,
    /// The folder of each class in each split, below the root, in the order of the samples.
    folders: Vec<ClassFolder>,
    /// Beside the folders of classes. It stays with who has looked.
    left_out: LeftOut,
}

#[derive(Clone, Debug, PartialEq)]
struct ClassFolder {
    split: Split,
    class: usize,
    path: PathBuf,
}

/// What is in the folder of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Looked {
    digest: Digest,
    images: u64,
    left_out: LeftOut,
}

impl Survey {
    /// The folders of classes below `root`; `None` where the data set is laid out otherwise, or not as it must be: who lists it says
    /// why. Classes are sorted by name, or are `classes` in their order. Reads the folders of splits alone.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn find(root: &Path, classes: Option<&[String]>, watch: &Watch<'_>) -> Result<Option<Self>> {
        let (mut folders, mut names, mut left_out) = (Vec::new(), Vec::new(), LeftOut::default());
        let counter = Counter::new(watch);
        for split in Split::ALL {
            if !folder::LAYOUT.is_there(root, split) {
                match list::LAYOUT.is_there(root, split) {
                    true => return Ok(None),
                    false => continue,
                }
            }
            if split == Split::Test && is_unlabelled(root) {
                continue;
            }
            let place = (folder::LAYOUT.place)(root, split);
            let mut found = folder::class_folders(&place, &mut left_out, &counter)?;
            found.sort_unstable();
            if found.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return Ok(None); // two folders of one class
            }
            let texts: Vec<_> = found.iter().map(|(name, _)| name.clone()).collect();
            if split == Split::Train {
                names = classes.map_or_else(|| texts.clone(), <[String]>::to_vec);
                let mut listed = names.clone();
                listed.sort_unstable();
                if listed != texts {
                    return Ok(None);
                }
            } else if names.is_empty() || texts.iter().any(|text| !names.contains(text)) {
                return Ok(None);
            }
            let below_root = place.strip_prefix(root).unwrap_or(&place);
            let mut of_split: Vec<_> = found
                .into_iter()
                .filter_map(|(text, name)| {
                    let class = names.iter().position(|name| *name == text)?;
                    Some(ClassFolder { split, class, path: below_root.join(name) })
                })
                .collect();
            of_split.sort_by_key(|folder| folder.class);
            folders.extend(of_split);
        }
        let is_whole = !names.is_empty();
        Ok(is_whole.then(|| Self { root: root.to_owned(), classes: names, folders, left_out }))
    }

    /// The number of folders.
    pub fn len(&self) -> usize {
        self.folders.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// The folders of its splits, below the root.
    pub fn splits(&self) -> Vec<PathBuf> {
        let mut splits: Vec<_> =
            self.folders.iter().filter_map(|folder| Some(folder.path.parent()?.to_owned())).collect();
        splits.dedup();
        splits
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Looks at the images of some of the folders, on the current rayon pool: one call for the size and time of each. `watch` is
    /// called for each image.
    ///
    /// # Errors
    /// A folder or file that cannot be looked at; [`Error::Interrupted`].
    pub fn look(&self, folders: Range<usize>, watch: &Watch<'_>) -> Result<Vec<Looked>> {
        let counter = Counter::new(watch);
        let look = |folder: &ClassFolder| {
            let mut left_out = LeftOut::default();
            let samples = self.samples(folder, usize::MAX, &mut left_out, &counter)?;
            Ok(Looked { digest: of_run(&samples, &[]), images: samples.len() as u64, left_out })
        };
        self.folders[folders].par_iter().map(look).collect()
    }

    fn samples(
        &self,
        folder: &ClassFolder,
        most: usize,
        left_out: &mut LeftOut,
        counter: &Counter<'_>,
    ) -> Result<Vec<Sample>> {
        let images = folder::images(&self.root, folder.path.clone(), left_out, counter)?;
        let whole = self.root.join(&folder.path);
        let open = File::open(&whole).map_err(Error::io(whole, "looking at its images"))?;
        let sample = |path: PathBuf| {
            counter.one()?;
            let below = path.strip_prefix(&folder.path).unwrap_or(&path).to_owned();
            Sample::look_up_in(&open, &below, &self.root, path, folder.class)
        };
        images.into_par_iter().take(most).map(sample).collect()
    }

    /// The first images to train on, so many: what they hold says what all do.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub fn first(&self, most: usize, watch: &Watch<'_>) -> Result<Listing> {
        let counter = Counter::new(watch);
        let mut listing = Listing::of_classes(&self.root, self.classes.clone());
        for folder in self.folders.iter().filter(|folder| folder.split == Split::Train) {
            let left = most - listing.train.len();
            if left == 0 {
                break;
            }
            listing.train.extend(self.samples(folder, left, &mut LeftOut::default(), &counter)?);
        }
        Ok(listing)
    }

    /// The number of images of a split, by what was `looked` at: all folders, in their order.
    pub fn images(&self, split: Split, looked: &[Looked]) -> u64 {
        self.of_split(split, looked).map(|looked| looked.images).sum()
    }

    fn of_split<'a>(&'a self, split: Split, looked: &'a [Looked]) -> impl Iterator<Item = &'a Looked> {
        self.folders.iter().zip(looked).filter(move |(folder, _)| folder.split == split).map(|(_, looked)| looked)
    }

    /// Whether what was `looked` at is a data set: every class has an image to train on.
    pub fn is_complete(&self, looked: &[Looked]) -> bool {
        looked.len() == self.folders.len() && self.of_split(Split::Train, looked).all(|looked| looked.images > 0)
    }

    /// The fingerprint that a listing of the same images has.
    pub fn fingerprint(&self, settings: &str, looked: &[Looked]) -> String {
        let splits = Split::ALL.map(|split| {
            let runs = self.of_split(split, looked).filter(|looked| looked.images > 0).map(|looked| &looked.digest);
            (self.images(split, looked), runs.collect())
        });
        of_runs(settings, &self.classes, splits)
    }

    /// Says what a listing would: which classes have no images to validate or test on, and what is left out.
    pub fn say(&self, looked: &[Looked]) {
        let mut left_out = self.left_out.clone();
        looked.iter().for_each(|looked| left_out.add(&looked.left_out));
        left_out.say(&self.root);
        for split in [Split::Val, Split::Test] {
            let folders = self.folders.iter().zip(looked);
            let found = folders.filter(|(folder, looked)| folder.split == split && looked.images > 0);
            let found: Vec<_> = found.map(|(folder, _)| self.classes[folder.class].clone()).collect();
            if !found.is_empty() {
                let place = (folder::LAYOUT.place)(&self.root, split);
                say_missing_classes(&found, &self.classes, &place);
            }
        }
        if is_unlabelled(&self.root) {
            say_unlabelled(&self.root);
        }
    }

    /// All but the root: fields that end with a zero byte.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut field = |field: &[u8]| fields::push(&mut bytes, field);
        field(self.classes.len().to_string().as_bytes());
        self.classes.iter().for_each(|class| field(class.as_bytes()));
        for ClassFolder { split, class, path } in &self.folders {
            field(format!("{} {class}", *split as usize).as_bytes());
            field(path.as_os_str().as_encoded_bytes());
        }
        bytes
    }

    /// The other way round, for the folder `root`. `None` where the bytes are none.
    pub fn from_bytes(root: &Path, bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.strip_suffix(b"\0")?.split(|&byte| byte == 0);
        let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
        let count: usize = text(fields.next()?)?.parse().ok()?;
        let classes = (0..count).map(|_| text(fields.next()?)).collect::<Option<_>>()?;
        let mut folders = Vec::new();
        while let Some(numbers) = fields.next() {
            let (split, class) = str::from_utf8(numbers).ok()?.split_once(' ')?;
            let split = *Split::ALL.get(split.parse::<usize>().ok()?)?;
            let path = PathBuf::from(OsString::from_vec(fields.next()?.to_vec()));
            folders.push(ClassFolder { split, class: class.parse().ok()?, path });
        }
        Some(Self { root: root.to_owned(), classes, folders, left_out: LeftOut::default() })
    }
}

impl Looked {
    /// A line of words.
    pub fn to_line(&self) -> String {
        let digest = blake3::Hash::from_bytes(self.digest).to_hex();
        let left_out: String = self.left_out.0.iter().map(|(kind, count)| format!("\t{count} {kind}")).collect();
        format!("{digest} {}{left_out}\n", self.images)
    }

    /// The other way round; `None` where a line is none.
    pub fn of_lines(lines: &str) -> Option<Vec<Self>> {
        let of_line = |line: &str| {
            let mut fields = line.split('\t');
            let (digest, images) = fields.next()?.split_once(' ')?;
            let kind = |field: &str| {
                field.split_once(' ').and_then(|(count, kind)| Some((kind.to_owned(), count.parse().ok()?)))
            };
            let left_out = LeftOut(fields.map(kind).collect::<Option<_>>()?);
            let digest = *blake3::Hash::from_hex(digest).ok()?.as_bytes();
            Some(Self { digest, images: images.parse().ok()?, left_out })
        };
        lines.lines().map(of_line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;
    use crate::unwatched;

    #[test]
    fn a_survey_has_the_fingerprint_of_a_listing() {
        let root = tree(&[
            "train/bee/2.png",
            "train/bee/deep/1.png",
            "train/bee/note.txt",
            "train/ant/1.png",
            "train/ant/._1.png",
            "Validation/ant/1.png",
            "Validation/bee/",
            "test/1.png",
        ]);
        for classes in [None, Some(["bee".to_owned(), "ant".to_owned()])] {
            let classes = classes.as_ref().map(<[String; 2]>::as_slice);
            let listing = Listing::scan(root.path(), classes).unwrap();
            let survey = Survey::find(root.path(), classes, &unwatched).unwrap().unwrap();
            let survey = Survey::from_bytes(root.path(), &survey.to_bytes()).unwrap();
            assert_eq!(survey.len(), 4);
            // Each folder by somebody else.
            let lines: String =
                (0..4).map(|folder| survey.look(folder..folder + 1, &unwatched).unwrap()[0].to_line()).collect();
            let looked = Looked::of_lines(&lines).unwrap();
            assert!(survey.is_complete(&looked));
            assert_eq!(survey.fingerprint("32", &looked), listing.fingerprint("32"));
            assert_eq!(Split::ALL.map(|split| survey.images(split, &looked)), [3, 1, 0]);
            let first = survey.first(2, &unwatched).unwrap();
            assert_eq!(first.train, listing.train[..2]);
        }
    }

    #[test]
    fn what_is_laid_out_otherwise_is_listed() {
        for files in [
            &["train.tsv", "val/ant/1.png"][..],
            &["train/ant/1.png", "val.tsv"],
            &["ant/1.png"],
            &["train/ant/1.png", "val/bee/1.png"],
            &["train/cafe\u{301}/1.png", "train/caf\u{e9}/1.png"],
        ] {
            let root = tree(files);
            assert_eq!(Survey::find(root.path(), None, &unwatched).unwrap(), None, "{files:?}");
        }
        let root = tree(&["train/ant/1.png", "train/bee/"]);
        let survey = Survey::find(root.path(), None, &unwatched).unwrap().unwrap();
        assert!(!survey.is_complete(&survey.look(0..2, &unwatched).unwrap()), "the listing names the folder");
    }
}
