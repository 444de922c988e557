//! Folders of classes and lists, looked at and not kept: whether their cache is current can be said without the list of all images.

use std::collections::HashMap;
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

/// A data set that consists of folders of classes, `DIR/train/CLASS`, or of lists, `DIR/train.tsv`.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    root: PathBuf,
    classes: Vec<String>,
    /// In the order of the samples.
    runs: Vec<Run>,
    /// Beside the folders of classes. It stays with who has looked, as what follows does.
    left_out: LeftOut,
    /// The classes in the list of each split that has one.
    in_lists: Vec<(Split, Vec<String>)>,
}

/// Images that are looked at together.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    split: Split,
    place: Place,
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    /// The folder of a class in a split, below the root.
    Folder { class: usize, path: PathBuf },
    /// Some lines of the split's list.
    Lines(Range<u64>),
}

/// What was found in a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Looked {
    digest: Digest,
    images: u64,
    left_out: LeftOut,
}

impl Survey {
    /// The folders of classes and the lists below `root`; `None` where the data set is laid out otherwise, or not as it must be: who
    /// lists it says why. Classes are sorted by name, or are `classes` in their order. Reads the folders of splits alone, and lists.
    ///
    /// # Errors
    /// A folder or a list that cannot be read.
    pub fn find(root: &Path, classes: Option<&[String]>, watch: &Watch<'_>) -> Result<Option<Self>> {
        let counter = Counter::new(watch);
        let mut survey = Self {
            root: root.to_owned(),
            classes: Vec::new(),
            runs: Vec::new(),
            left_out: LeftOut::default(),
            in_lists: Vec::new(),
        };
        for split in Split::ALL {
            let is_there = match (folder::LAYOUT.is_there(root, split), list::LAYOUT.is_there(root, split)) {
                (false, false) => continue,
                (true, _) if split == Split::Test && is_unlabelled(root) => continue,
                (true, _) => survey.find_folders(split, classes, &counter)?,
                (false, true) => survey.find_lines(split, classes, &counter)?,
            };
            if !is_there {
                return Ok(None);
            }
        }
        Ok((!survey.classes.is_empty()).then_some(survey))
    }

    /// Whether the classes of a split, sorted, are those that there must be: all of them to train on, or else some.
    fn take_classes(&mut self, split: Split, found: &[String], classes: Option<&[String]>) -> bool {
        if found.windows(2).any(|pair| pair[0] == pair[1]) {
            return false; // two folders of one class
        }
        if split != Split::Train {
            return !self.classes.is_empty() && found.iter().all(|text| self.classes.contains(text));
        }
        self.classes = classes.map_or_else(|| found.to_vec(), <[String]>::to_vec);
        let mut listed = self.classes.clone();
        listed.sort_unstable();
        listed == found
    }

    fn find_folders(&mut self, split: Split, classes: Option<&[String]>, counter: &Counter<'_>) -> Result<bool> {
        let place = (folder::LAYOUT.place)(&self.root, split);
        let mut found = folder::class_folders(&place, &mut self.left_out, counter)?;
        found.sort_unstable();
        let texts: Vec<_> = found.iter().map(|(name, _)| name.clone()).collect();
        if !self.take_classes(split, &texts, classes) {
            return Ok(false);
        }
        let below_root = place.strip_prefix(&self.root).unwrap_or(&place);
        let labels = self.labels();
        let mut folders: Vec<_> =
            found.into_iter().filter_map(|(text, name)| Some((*labels.get(&text)?, below_root.join(name)))).collect();
        folders.sort_by_key(|(class, _)| *class);
        let run = |(class, path)| Run { split, place: Place::Folder { class, path } };
        self.runs.extend(folders.into_iter().map(run));
        Ok(true)
    }

    fn find_lines(&mut self, split: Split, classes: Option<&[String]>, counter: &Counter<'_>) -> Result<bool> {
        let summary = list::summarize(&self.list_of(split), counter)?;
        let mut texts: Vec<_> = summary.classes.into_iter().map(|class| class.text).collect();
        texts.sort_unstable();
        if !self.take_classes(split, &texts, classes) {
            return Ok(false);
        }
        self.runs.extend(summary.runs.into_iter().map(|bytes| Run { split, place: Place::Lines(bytes) }));
        self.in_lists.push((split, texts));
        Ok(true)
    }

    fn list_of(&self, split: Split) -> PathBuf {
        (list::LAYOUT.place)(&self.root, split)
    }

    fn labels(&self) -> HashMap<String, usize> {
        self.classes.iter().cloned().zip(0..).collect()
    }

    /// The number of runs of images.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The folders of its splits, below the root; `None` where a list names images, of which no folder tells.
    pub fn splits(&self) -> Option<Vec<PathBuf>> {
        let split = |run: &Run| match &run.place {
            Place::Folder { path, .. } => Some(path.parent()?.to_owned()),
            Place::Lines(_) => None,
        };
        let mut splits = self.runs.iter().map(split).collect::<Option<Vec<_>>>()?;
        splits.dedup();
        Some(splits)
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Looks at the images of some of the runs, on the current rayon pool: one call for the size and time of each. `watch` is
    /// called for each image.
    ///
    /// # Errors
    /// A folder, list or file that cannot be looked at; [`Error::Interrupted`].
    pub fn look(&self, runs: Range<usize>, watch: &Watch<'_>) -> Result<Vec<Looked>> {
        let (counter, labels) = (Counter::new(watch), self.labels());
        let look = |run: &Run| {
            let mut left_out = LeftOut::default();
            let samples = self.samples(run, &labels, usize::MAX, &mut left_out, &counter)?;
            Ok(Looked { digest: of_run(&samples, &[]), images: samples.len() as u64, left_out })
        };
        self.runs[runs].par_iter().map(look).collect()
    }

    fn samples(
        &self,
        run: &Run,
        labels: &HashMap<String, usize>,
        most: usize,
        left_out: &mut LeftOut,
        counter: &Counter<'_>,
    ) -> Result<Vec<Sample>> {
        match &run.place {
            Place::Folder { class, path } => {
                let images = folder::images(&self.root, path.clone(), left_out, counter)?;
                let whole = self.root.join(path);
                let open = File::open(&whole).map_err(Error::io(whole, "looking at its images"))?;
                let sample = |image: PathBuf| {
                    counter.one()?;
                    let below = image.strip_prefix(path).unwrap_or(&image).to_owned();
                    Sample::look_up_in(&open, &below, &self.root, image, *class)
                };
                images.into_par_iter().take(most).map(sample).collect()
            }
            Place::Lines(bytes) => {
                let path = self.list_of(run.split);
                let entries = list::entries(&path, bytes.clone())?;
                let sample = |(image, class): (PathBuf, super::ClassName)| {
                    counter.one()?;
                    let class = labels.get(&class.text).copied();
                    let class = class.ok_or_else(|| {
                        Error::Input(format!("{}: has changed while it was looked at; start again", path.display()))
                    })?;
                    Sample::look_up(&self.root, image, class)
                };
                entries.into_par_iter().take(most).map(sample).collect()
            }
        }
    }

    /// The first images to train on, so many: what they hold says what all do.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub fn first(&self, most: usize, watch: &Watch<'_>) -> Result<Listing> {
        let (counter, labels) = (Counter::new(watch), self.labels());
        let mut listing = Listing::of_classes(&self.root, self.classes.clone());
        for run in self.runs.iter().filter(|run| run.split == Split::Train) {
            let left = most - listing.train.len();
            if left == 0 {
                break;
            }
            listing.train.extend(self.samples(run, &labels, left, &mut LeftOut::default(), &counter)?);
        }
        Ok(listing)
    }

    /// The number of images of a split, by what was `looked` at: all runs, in their order.
    pub fn images(&self, split: Split, looked: &[Looked]) -> u64 {
        self.of_split(split, looked).map(|looked| looked.images).sum()
    }

    fn of_split<'a>(&'a self, split: Split, looked: &'a [Looked]) -> impl Iterator<Item = &'a Looked> {
        self.runs.iter().zip(looked).filter(move |(run, _)| run.split == split).map(|(_, looked)| looked)
    }

    /// Whether what was `looked` at is a data set: every class has an image to train on.
    pub fn is_complete(&self, looked: &[Looked]) -> bool {
        looked.len() == self.runs.len() && self.of_split(Split::Train, looked).all(|looked| looked.images > 0)
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
            let of_folder = |(run, looked): (&Run, &Looked)| match run.place {
                Place::Folder { class, .. } if run.split == split && looked.images > 0 => {
                    Some(self.classes[class].clone())
                }
                _ => None,
            };
            let listed = self.in_lists.iter().find(|(of, _)| *of == split);
            let (found, place): (Vec<_>, _) = match listed {
                Some((_, classes)) => (classes.clone(), self.list_of(split)),
                None => {
                    let place = (folder::LAYOUT.place)(&self.root, split);
                    (self.runs.iter().zip(looked).filter_map(of_folder).collect(), place)
                }
            };
            if !found.is_empty() {
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
        for Run { split, place } in &self.runs {
            let split = *split as usize;
            match place {
                Place::Folder { class, path } => {
                    field(format!("{split} {class}").as_bytes());
                    field(path.as_os_str().as_encoded_bytes());
                }
                Place::Lines(bytes) => field(format!("{split} {} {}", bytes.start, bytes.end).as_bytes()),
            }
        }
        bytes
    }

    /// The other way round, for the folder `root`. `None` where the bytes are none.
    pub fn from_bytes(root: &Path, bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.strip_suffix(b"\0")?.split(|&byte| byte == 0);
        let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
        let count: usize = text(fields.next()?)?.parse().ok()?;
        let classes = (0..count).map(|_| text(fields.next()?)).collect::<Option<_>>()?;
        let mut runs = Vec::new();
        while let Some(line) = fields.next() {
            let numbers = str::from_utf8(line).ok()?.split(' ').map(|number| number.parse().ok());
            let numbers = numbers.collect::<Option<Vec<u64>>>()?;
            let place = match numbers[1..] {
                [class] => {
                    let path = PathBuf::from(OsString::from_vec(fields.next()?.to_vec()));
                    Place::Folder { class: class as usize, path }
                }
                [start, end] => Place::Lines(start..end),
                _ => return None,
            };
            runs.push(Run { split: *Split::ALL.get(numbers[0] as usize)?, place });
        }
        let (root, left_out, in_lists) = (root.to_owned(), LeftOut::default(), Vec::new());
        Some(Self { root, classes, runs, left_out, in_lists })
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
    use super::super::fingerprint::RUN;
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
    fn lists_are_looked_at_line_by_line() {
        let root = tree(&["a/1.png", "a/2.png", "val/ant/1.png", "val/bee/2.png"]);
        // More than one run, of which the classes change from line to line; with a mark, a comment and an empty line.
        let line = |index: usize| format!("a/{}.png\t{}\n", index % 2 + 1, ["bee", "ant"][index % 3 / 2]);
        let lines: String = (0..RUN * 2 + 5).map(line).collect();
        std::fs::write(root.path().join("train.tsv"), format!("\u{feff}# images\n\n{lines}")).unwrap();
        for classes in [None, Some(["bee".to_owned(), "ant".to_owned()])] {
            let classes = classes.as_ref().map(<[String; 2]>::as_slice);
            let listing = Listing::scan(root.path(), classes).unwrap();
            let found = Survey::find(root.path(), classes, &unwatched).unwrap().unwrap();
            assert_eq!(found.in_lists, [(Split::Train, vec!["ant".to_owned(), "bee".to_owned()])]);
            let survey = Survey::from_bytes(root.path(), &found.to_bytes()).unwrap();
            assert_eq!((survey.len(), survey.splits()), (5, None));
            let looked: Vec<_> = (0..5).flat_map(|run| survey.look(run..run + 1, &unwatched).unwrap()).collect();
            assert_eq!(survey.fingerprint("32", &looked), listing.fingerprint("32"));
            assert_eq!(Split::ALL.map(|split| survey.images(split, &looked)), [RUN as u64 * 2 + 5, 2, 0]);
            assert_eq!(survey.first(RUN + 1, &unwatched).unwrap().train, listing.train[..=RUN]);
        }
        // What is wrong with a list is said with its line, as when it is listed.
        let of = |text: &str| {
            std::fs::write(root.path().join("train.tsv"), text).unwrap();
            let found = Survey::find(root.path(), None, &unwatched).map(|survey| survey.is_some());
            (
                found.map_err(|error| error.to_string()),
                Listing::scan(root.path(), None).map_err(|error| error.to_string()),
            )
        };
        for text in ["# none\n", "a/1.png\tbee\na/2.png ant\n", "a/1.png\tbee\tant\n"] {
            let (found, listed) = of(text);
            assert_eq!(found.unwrap_err(), listed.unwrap_err());
        }
        // A class that is not trained on, and one that looks the same: who lists says so.
        assert_eq!(of("a/1.png\tbee\n").0, Ok(false));
        std::fs::write(root.path().join("train.tsv"), b"a/1.png\tcaf\xe9\na/1.png\tcaf\\xe9\n").unwrap();
        assert_eq!(Survey::find(root.path(), None, &unwatched).unwrap(), None);
    }

    #[test]
    fn what_is_laid_out_otherwise_is_listed() {
        for files in [
            &["ant/1.png"][..],
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
