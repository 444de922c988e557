//! The class of each pixel of images, where there is one: which numbers stand for which classes, and masks wherever they lie.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use augmentations::IGNORED;
use rayon::prelude::*;

use super::{Bytes, Checks, Element, MappedFile, part_of};
use crate::decode::{MaskDecoder, RawMask, Source};
use crate::limits::MOST_MASK_CLASSES;
use crate::scan::MaskFile;
use crate::size::Size;
use crate::watch::Counter;
use crate::{Error, Result, Watch};

/// The number that marks pixels which do not count, unless somebody says another.
const USUALLY_IGNORED: i64 = 255;
/// Numbers of classes are below this.
const NUMBERS: usize = 1 << 16;
/// In the table: no class has this number.
const NONE: u8 = 254;

/// What is said of the numbers in masks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskRule {
    /// Those of the classes, in their order. `None`: 0, 1, 2 and so on where the classes are known, or else all that occur.
    pub values: Option<Vec<u32>>,
    /// Which marks pixels that do not count.
    pub ignored: Ignored,
}

/// Which number of a mask marks pixels that do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ignored {
    /// 255, unless that is a class.
    #[default]
    Usual,
    /// None: every pixel counts.
    None,
    /// This one.
    Number(i64),
}

impl MaskRule {
    /// What follows from the rule where so many `classes` have names; if the rule does not say it, from the numbers that `found`
    /// finds in masks (none where there are none to look at).
    ///
    /// # Errors
    /// Numbers that cannot be those of classes, or what `found` says.
    pub fn values(&self, classes: Option<usize>, found: impl FnOnce() -> Result<BTreeSet<i64>>) -> Result<MaskValues> {
        match (&self.values, classes) {
            (Some(values), Some(count)) if values.len() != count => {
                Err(Error::Input(format!("--mask-values: {} numbers, and there are {count} classes", values.len())))
            }
            (Some(values), _) => {
                let ignored = self.ignored(values.iter().any(|&value| i64::from(value) == USUALLY_IGNORED));
                MaskValues::new(values.clone(), ignored)
                    .map_err(|reason| Error::Input(format!("--mask-values: {reason}")))
            }
            (None, classes) => self.of_found(found()?, classes).map_err(Error::Input),
        }
    }

    /// The number that does not count; where nobody says it, the usual one unless that is a class.
    fn ignored(&self, usual_is_class: bool) -> Option<i64> {
        match self.ignored {
            Ignored::Usual => Some(USUALLY_IGNORED).filter(|_| !usual_is_class),
            Ignored::None => None,
            Ignored::Number(number) => Some(number),
        }
    }

    /// Those that occur, in their order, without the one that does not count; or where there are so many `classes` and no others
    /// occur, 0, 1, 2 and so on.
    fn of_found(&self, mut found: BTreeSet<i64>, classes: Option<usize>) -> std::result::Result<MaskValues, String> {
        let is_black_and_white = found.iter().copied().eq([0, USUALLY_IGNORED]);
        let ignored = self.ignored(is_black_and_white);
        if let Some(ignored) = ignored {
            found.remove(&ignored);
        }
        if let Some(number) = found.first().filter(|&&number| number < 0) {
            return Err(format!(
                "the masks have the number {number}, which is no class; --ignore-index {number} leaves its pixels out"
            ));
        }
        if let Some(count) = classes {
            if found.last().is_none_or(|&last| last < count as i64) {
                return MaskValues::new((0..count as u32).collect(), ignored);
            }
            if found.len() != count {
                return Err(format!(
                    "the masks have the numbers {}, and there are {count} classes; --mask-values names those of the classes",
                    some(&found)
                ));
            }
        }
        if found.len() > MOST_MASK_CLASSES {
            return Err(format!(
                "the masks have {} different numbers, and there may be {MOST_MASK_CLASSES} classes; are they masks? \
                 --mask-values names those of the classes",
                found.len()
            ));
        }
        if found.len() < 2 {
            return Err(format!(
                "the pixels of the masks are all of one class, or of none: their numbers are {}; there is nothing to tell apart",
                some(&found)
            ));
        }
        let values: std::result::Result<Vec<u32>, _> = found.into_iter().map(u32::try_from).collect();
        MaskValues::new(values.map_err(|_| "the masks have numbers of more than 32 bits".to_owned())?, ignored)
    }
}

/// Some numbers, for people.
fn some(numbers: &BTreeSet<i64>) -> String {
    const SHOWN: usize = 10;
    let mut shown: Vec<_> = numbers.iter().take(SHOWN).map(i64::to_string).collect();
    if numbers.len() > SHOWN {
        shown.push("…".to_owned());
    }
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

/// Which number of a mask stands for which class.
#[derive(Clone, PartialEq)]
pub struct MaskValues {
    values: Arc<[u32]>,
    ignored: Option<i64>,
    /// The class of each number.
    table: Arc<[u8]>,
}

impl fmt::Debug for MaskValues {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MaskValues({})", self.to_words())
    }
}

impl MaskValues {
    /// The numbers of the classes, in their order, and the one that marks pixels that do not count.
    ///
    /// # Errors
    /// Too many, or numbers of two meanings.
    pub fn new(values: Vec<u32>, ignored: Option<i64>) -> std::result::Result<Self, String> {
        if values.len() < 2 || values.len() > MOST_MASK_CLASSES {
            return Err(format!("masks of {} classes: there may be 2 to {MOST_MASK_CLASSES}", values.len()));
        }
        let mut table = vec![NONE; NUMBERS];
        for (class, &value) in values.iter().enumerate() {
            match table.get_mut(value as usize) {
                Some(place) if *place == NONE => *place = class as u8,
                Some(_) => return Err(format!("has {value} twice")),
                None => return Err(format!("{value} is more than {}, the largest number of a class", NUMBERS - 1)),
            }
        }
        if let Some(number) = ignored {
            match usize::try_from(number).ok().and_then(|number| table.get_mut(number)) {
                Some(place) if *place == NONE => *place = IGNORED,
                Some(_) => return Err(format!("{number}, which --ignore-index leaves out, is the number of a class")),
                None => {} // -1, say, which no table has
            }
        }
        Ok(Self { values: values.into(), ignored, table: table.into() })
    }

    /// The numbers of the classes, in their order.
    pub fn values(&self) -> &[u32] {
        &self.values
    }

    /// The number that marks pixels that do not count.
    pub fn ignored(&self) -> Option<i64> {
        self.ignored
    }

    /// Names of the classes where nobody has given them any: their numbers.
    pub fn names(&self) -> Vec<String> {
        self.values.iter().map(u32::to_string).collect()
    }

    /// For settings and people: `0-20 ignored 255`, `0,255`.
    pub fn to_words(&self) -> String {
        let runs = self.values.chunk_by(|one, next| one + 1 == *next);
        let run = |run: &[u32]| match run {
            [first, .., last] if run.len() > 2 => format!("{first}-{last}"),
            few => few.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        };
        let values = runs.map(run).collect::<Vec<_>>().join(",");
        self.ignored.map_or_else(|| values.clone(), |ignored| format!("{values} ignored {ignored}"))
    }

    /// The other way round.
    pub fn of_words(words: &str) -> Option<Self> {
        let (values, ignored) =
            words.split_once(" ignored ").map_or((words, None), |(values, own)| (values, Some(own)));
        let run = |run: &str| -> Option<Range<u32>> {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let (first, last) = (first.parse().ok()?, last.parse::<u16>().ok()?);
            Some(first..u32::from(last) + 1)
        };
        let values: Option<Vec<_>> = values.split(',').map(run).collect();
        let values = values?.into_iter().flatten().take(MOST_MASK_CLASSES + 1).collect();
        Self::new(values, ignored.map(str::parse).transpose().ok()?).ok()
    }

    /// Makes numbers of this type classes, one for each pixel.
    ///
    /// # Errors
    /// A number that no class has.
    pub(crate) fn classes(
        &self,
        element: Element,
        numbers: &[u8],
        classes: &mut Vec<u8>,
    ) -> std::result::Result<(), String> {
        classes.clear();
        if element == Element::U8 {
            classes.extend(numbers.iter().map(|&number| self.table[usize::from(number)]));
        } else {
            element.each(numbers, |number| classes.push(self.class(number)));
        }
        match classes.iter().position(|&class| class == NONE) {
            None => Ok(()),
            Some(at) => {
                let mut number = 0.0;
                element.each(&numbers[at * element.width()..][..element.width()], |own| number = own);
                Err(format!(
                    "{number} is the number of no class; there are {} (--mask-values, --ignore-index)",
                    self.to_words()
                ))
            }
        }
    }

    fn class(&self, number: f64) -> u8 {
        match self.table.get(number as usize) {
            Some(&class) if number >= 0.0 => class,
            _ if self.ignored.is_some_and(|ignored| ignored as f64 == number) => IGNORED,
            _ => NONE,
        }
    }
}

/// The masks of images, in the order of a store.
#[derive(Debug)]
pub(crate) struct MaskSet {
    store: MaskStore,
    /// `None` until it is known what their numbers are.
    values: Option<MaskValues>,
    checks: Option<Checks>,
}

#[derive(Debug)]
pub(crate) enum MaskStore {
    /// Classes, all of one size.
    Classes { bytes: Bytes, size: Size },
    /// Numbers of one type, all of one size, in somebody's file.
    Numbers { path: PathBuf, bytes: Bytes, element: Element, size: Size },
    /// Files, one after the other; number i lies at `offsets[i]..offsets[i + 1]`.
    Encoded { bytes: Bytes, offsets: Vec<u64> },
    /// Several sets one after the other; number i is in the last that does not begin behind it.
    Parts { parts: Vec<MaskSet>, starts: Vec<usize> },
    /// Files on disk, below a folder.
    Files { root: PathBuf, files: Vec<MaskFile> },
}

/// A thread's decoder and buffers.
#[derive(Debug, Default)]
pub(crate) struct MaskTools {
    decoder: MaskDecoder,
    stored: Vec<u8>,
    classes: Vec<u8>,
}

impl MaskSet {
    /// The files that are mapped.
    pub fn mapped_files(&self) -> Vec<MappedFile> {
        match &self.store {
            MaskStore::Classes { bytes, .. } | MaskStore::Numbers { bytes, .. } | MaskStore::Encoded { bytes, .. } => {
                bytes.mapped_file().into_iter().collect()
            }
            MaskStore::Parts { parts, .. } => parts.iter().flat_map(Self::mapped_files).collect(),
            MaskStore::Files { .. } => Vec::new(),
        }
    }

    pub fn new(store: MaskStore, values: Option<MaskValues>, checks: Option<Checks>) -> Self {
        Self { store, values, checks }
    }

    /// The same, where it is known what their numbers are.
    pub fn with_values(self, values: MaskValues) -> Self {
        Self { values: Some(values), ..self }
    }

    pub fn values(&self) -> Option<&MaskValues> {
        self.values.as_ref()
    }

    /// Calls `take` with the numbers of mask `slot`, as they are stored. The first time that one of a cache is read, its checksum is
    /// compared.
    fn raw<T>(
        &self,
        slot: usize,
        decoder: &mut MaskDecoder,
        scratch: &mut Vec<u8>,
        take: impl FnOnce(RawMask<'_>) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let verified = |bytes: &[u8]| self.checks.as_ref().map_or(Ok(()), |checks| checks.verify(slot, bytes, None));
        let taken = match &self.store {
            MaskStore::Classes { bytes, size } => {
                let count = size.count() as usize;
                let bytes = bytes.get(slot * count..(slot + 1) * count, scratch)?;
                verified(bytes)?;
                take(RawMask { size: *size, element: Element::U8, bytes })
            }
            MaskStore::Numbers { bytes, element, size, .. } => {
                let length = size.count() as usize * element.width();
                let bytes = bytes.get(slot * length..(slot + 1) * length, scratch)?;
                take(RawMask { size: *size, element: *element, bytes })
            }
            MaskStore::Encoded { bytes, offsets } => {
                let bytes = bytes.get(offsets[slot] as usize..offsets[slot + 1] as usize, scratch)?;
                verified(bytes)?;
                decoder.read(Source::Memory(bytes)).and_then(take)
            }
            MaskStore::Parts { parts, starts } => {
                let (part, slot) = part_of(starts, slot);
                return parts[part].raw(slot, decoder, scratch, take);
            }
            MaskStore::Files { root, files } => {
                let MaskFile { path, size, .. } = &files[slot];
                let file = crate::file::read(&root.join(path), *size, scratch)?;
                decoder.read(Source::of(file.as_ref(), scratch)).and_then(take)
            }
        };
        taken.map_err(|reason| Error::Mask { path: self.name(slot), reason })
    }

    /// The class of each pixel of mask `slot`, and its size.
    ///
    /// # Errors
    /// A mask that cannot be read, or has a number that no class has.
    pub fn classes<'a>(&'a self, slot: usize, tools: &'a mut MaskTools) -> Result<(Size, &'a [u8])> {
        // Those of a cache need no table, and lie where they are.
        if let (MaskStore::Classes { bytes, size }, checks) = (&self.store, &self.checks) {
            let count = size.count() as usize;
            let bytes = bytes.get(slot * count..(slot + 1) * count, &mut tools.stored)?;
            checks.as_ref().map_or(Ok(()), |checks| checks.verify(slot, bytes, None))?;
            return Ok((*size, bytes));
        }
        let MaskTools { decoder, stored, classes } = tools;
        let values = self.values.as_ref().ok_or_else(|| Error::Input("masks of unknown numbers".to_owned()))?;
        let size =
            self.raw(slot, decoder, stored, |raw| values.classes(raw.element, raw.bytes, classes).map(|()| raw.size))?;
        Ok((size, classes))
    }

    /// All numbers that masks of `slots` have, but for those that cannot be read, if such are to be left out; found on the current
    /// rayon pool. `watch` is called for each mask.
    ///
    /// # Errors
    /// A mask that cannot be read; [`Error::Interrupted`].
    pub fn numbers(&self, slots: &[usize], skips_bad: bool, watch: &Watch<'_>) -> Result<BTreeSet<i64>> {
        let counter = Counter::new(watch);
        let look = |mut found: Found, &slot: &usize| -> Result<Found> {
            let Found { tools, seen, others } = &mut found;
            let looked = self.raw(slot, &mut tools.decoder, &mut tools.stored, |raw| {
                raw.element.each(raw.bytes, |number| match seen.get_mut(number as usize) {
                    Some(is_seen) if number >= 0.0 => *is_seen = true,
                    _ => drop(others.insert(number as i64)),
                });
                Ok(())
            });
            match looked {
                Err(Error::Mask { .. } | Error::Image { .. }) if skips_bad => {}
                looked => looked?,
            }
            counter.one()?;
            Ok(found)
        };
        let all = slots.par_iter().try_fold(Found::default, look);
        all.try_reduce(Found::default, |one, other| Ok(one.and(other))).map(Found::numbers)
    }

    /// What mask `slot` is called.
    pub fn name(&self, slot: usize) -> PathBuf {
        let of = |path: &Path| PathBuf::from(format!("the mask of {}", path.display()));
        match (&self.store, &self.checks) {
            (MaskStore::Files { root, files }, _) => root.join(&files[slot].path),
            (MaskStore::Parts { parts, starts }, _) => {
                let (part, slot) = part_of(starts, slot);
                parts[part].name(slot)
            }
            (_, Some(checks)) => of(&checks.name(slot)),
            (MaskStore::Numbers { path, .. }, None) => {
                PathBuf::from(format!("{}: the mask of image {slot}", path.display()))
            }
            (_, None) => of(Path::new(&format!("image {slot}"))),
        }
    }

    /// Tells the kernel that these masks are soon asked for.
    pub fn prefetch(&self, slot: usize) {
        match &self.store {
            MaskStore::Encoded { bytes, offsets } => bytes.prefetch(offsets[slot] as usize..offsets[slot + 1] as usize),
            MaskStore::Classes { bytes, size } if size.count() >= super::SMALLEST_PREFETCHED as u64 => {
                let count = size.count() as usize;
                bytes.prefetch(slot * count..(slot + 1) * count);
            }
            _ => {}
        }
    }
}

/// Numbers that masks have.
#[derive(Default)]
struct Found {
    tools: MaskTools,
    seen: Seen,
    /// Those that have no place among them.
    others: BTreeSet<i64>,
}

/// Whether each number was seen.
struct Seen(Vec<bool>);

impl Default for Seen {
    fn default() -> Self {
        Self(vec![false; NUMBERS])
    }
}

impl Seen {
    fn get_mut(&mut self, number: usize) -> Option<&mut bool> {
        self.0.get_mut(number)
    }
}

impl Found {
    fn and(mut self, other: Self) -> Self {
        self.seen.0.iter_mut().zip(other.seen.0).for_each(|(one, other)| *one |= other);
        self.others.extend(other.others);
        self
    }

    fn numbers(self) -> BTreeSet<i64> {
        let seen = self.seen.0.into_iter().enumerate().filter(|(_, is_seen)| *is_seen);
        self.others.into_iter().chain(seen.map(|(number, _)| number as i64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(rule: MaskRule, classes: Option<usize>, found: &[i64]) -> std::result::Result<String, String> {
        let found = || Ok(found.iter().copied().collect());
        rule.values(classes, found).map(|values| values.to_words()).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_become_classes() {
        let rule = |values: Option<&[u32]>, ignored| MaskRule { values: values.map(<[u32]>::to_vec), ignored };
        let usual = || rule(None, Ignored::Usual);
        let cases = [
            (usual(), None, &[0, 1, 2, 255][..], Ok("0-2 ignored 255")),
            (usual(), None, &[0, 255], Ok("0,255")),
            (usual(), None, &[1, 2, 3], Ok("1-3 ignored 255")),
            (usual(), None, &[10, 20, 100], Ok("10,20,100 ignored 255")),
            (usual(), Some(3), &[], Ok("0-2 ignored 255")),
            (usual(), Some(3), &[0, 2, 255], Ok("0-2 ignored 255")),
            (usual(), Some(2), &[0, 255], Ok("0,255")),
            (usual(), Some(3), &[1, 2, 3], Ok("1-3 ignored 255")),
            (
                usual(),
                Some(3),
                &[0, 1, 7, 9],
                Err("the masks have the numbers 0, 1, 7, 9, and there are 3 classes; --mask-values"),
            ),
            (
                usual(),
                None,
                &[0],
                Err("the pixels of the masks are all of one class, or of none: their numbers are 0;"),
            ),
            (rule(Some(&[0, 255]), Ignored::Usual), None, &[], Ok("0,255")),
            (rule(Some(&[7, 5]), Ignored::Number(0)), Some(2), &[], Ok("7,5 ignored 0")),
            (rule(None, Ignored::Number(-1)), None, &[-1, 0, 1], Ok("0,1 ignored -1")),
            (rule(None, Ignored::None), None, &[0, 1, 255], Ok("0,1,255")),
            (usual(), None, &[-1, 0], Err("the masks have the number -1, which is no class; --ignore-index -1")),
            (
                usual(),
                None,
                &[255],
                Err("the pixels of the masks are all of one class, or of none: their numbers are none;"),
            ),
            (rule(Some(&[1, 1]), Ignored::Usual), None, &[], Err("--mask-values: has 1 twice")),
            (
                rule(Some(&[1, 2]), Ignored::Number(2)),
                None,
                &[],
                Err("--mask-values: 2, which --ignore-index leaves out, is the number of a class"),
            ),
            (rule(Some(&[1]), Ignored::Usual), Some(2), &[], Err("--mask-values: 1 numbers, and there are 2 classes")),
            (rule(Some(&[1]), Ignored::Usual), None, &[], Err("--mask-values: masks of 1 classes")),
            (rule(Some(&[0, 70_000]), Ignored::Usual), None, &[], Err("--mask-values: 70000 is more than 65535")),
        ];
        for (rule, classes, found, expected) in cases {
            match (values(rule, classes, found), expected) {
                (Ok(words), Ok(expected)) => {
                    assert_eq!(words, expected);
                    assert_eq!(MaskValues::of_words(&words).unwrap().to_words(), words);
                }
                (Err(reason), Err(expected)) => assert!(reason.starts_with(expected), "{reason}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
        let many: Vec<i64> = (0..300).collect();
        assert!(values(usual(), None, &many).unwrap_err().starts_with("the masks have 299 different numbers"));
    }

    #[test]
    fn numbers_of_every_type() {
        let values = MaskValues::new(vec![0, 300], Some(-1)).unwrap();
        let mut classes = Vec::new();
        let signed: Vec<u8> = [0_i64, 300, -1, 0].iter().flat_map(|number| number.to_ne_bytes()).collect();
        values.classes(Element::I64, &signed, &mut classes).unwrap();
        assert_eq!(classes, [0, 1, IGNORED, 0]);
        let short: Vec<u8> = [300_u16, 0, 5].iter().flat_map(|number| number.to_ne_bytes()).collect();
        let reason = values.classes(Element::U16, &short, &mut classes).unwrap_err();
        assert_eq!(reason, "5 is the number of no class; there are 0,300 ignored -1 (--mask-values, --ignore-index)");
    }
}
