//! Images with their labels, wherever they lie: decoded side by side in memory, in a mapped cache, or as files.

mod array;
mod bytes;
mod checks;
mod file;
mod masks;
mod moments;
mod per_image;
mod percentiles;
mod targets;

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

pub(crate) use array::{ArrayLayout, Element, for_element, not_a_number};
pub use array::{Axes, Numbers, OnNan};
pub(crate) use bytes::Bytes;
pub use bytes::MappedFile;
pub(crate) use checks::{Checks, Checksum, checksum};
pub use file::{FileSpec, LabelKind};
pub use masks::{Ignored, MaskRule, MaskValues};
pub(crate) use masks::{MaskSet, MaskStore, MaskTools};
pub(crate) use per_image::PerImage;
pub use percentiles::Percentiles;
pub(crate) use targets::{TargetRows, adds_up, likeliest};

use crate::archive::{Files, Member};
use crate::decode::Source;
use crate::scan::Sample;
use crate::{Decoder, Decoding, Error, Listing, OnBadImage, PixelFormat, Result, Size, Split, ValSplit, Watch};

/// A set to train on and one to validate on, with the names of their classes.
#[derive(Debug)]
pub struct Dataset {
    /// The names of the classes; a label is an index here. Where labels are rows of numbers, those of the numbers.
    pub classes: Vec<String>,
    /// The images to train on.
    pub train: ImageSet,
    /// The images to validate on; there may be none.
    pub val: ImageSet,
    /// The images for the end, where there are any.
    pub test: Option<ImageSet>,
}

impl Dataset {
    /// Whether a folder holds files with arrays, and neither lists nor class folders of images.
    pub fn is_folder_of_arrays(folder: &Path) -> bool {
        folder.is_dir() && file::is_set(folder)
    }

    /// Opens a file that holds a data set, and is used as it is: HDF5, netCDF 4 or NumPy's `.npz` with images and labels. Or a
    /// folder of such files, which are one set.
    ///
    /// # Errors
    /// A file of another format, one that is not laid out as it must be, or a `val_split` where there are images to validate
    /// on.
    pub fn of_file(path: &Path, spec: &FileSpec) -> Result<Self> {
        file::open(path, spec)
    }

    /// Whether its classes have names, and not their numbers alone.
    pub fn has_names(&self) -> bool {
        let is_number = |(label, name): (usize, &String)| *name == label.to_string();
        !self.classes.iter().enumerate().all(is_number)
    }

    /// The same, where it is known which numbers of its masks stand for which `classes`.
    #[must_use]
    pub fn with_mask_values(self, values: &MaskValues, classes: Vec<String>) -> Self {
        let with = |set: ImageSet| set.with_mask_values(values);
        Self { classes, train: with(self.train), val: with(self.val), test: self.test.map(with) }
    }

    /// The files of a listing, decoded whenever they are asked for.
    pub fn of_files(listing: &Listing, decoding: Decoding) -> Self {
        let set = |split| ImageSet::of_files(listing, split, decoding);
        let test = (!listing.test.is_empty()).then(|| set(Split::Test));
        Self { classes: listing.classes.clone(), train: set(Split::Train), val: set(Split::Val), test }
    }
}

/// Images with their labels.
#[derive(Debug)]
pub struct ImageSet {
    store: Store,
    labels: PerImage<i64>,
    /// Of each image of the store, if labels are more than a class.
    targets: Option<TargetRows>,
    /// The class of each pixel of each image of the store, if that is what is told.
    masks: Option<MaskSet>,
    /// Where each image stands in the store, if some of the store's were skipped.
    slots: Option<Vec<u32>>,
    checks: Option<Checks>,
}

#[derive(Debug)]
pub(crate) enum Store {
    /// Decoded, all of one size: N×height×width×3 bytes.
    Pixels { bytes: Bytes, size: Size },
    /// Numbers of any kind and number of channels, all of one size; `numbers` are those that were in the files that they are of.
    Array { path: PathBuf, bytes: Bytes, layout: ArrayLayout, numbers: Numbers, on_nan: OnNan },
    /// Image files, one after the other; number i lies at `offsets[i]..offsets[i + 1]`.
    Encoded { bytes: Bytes, offsets: Vec<u64>, decoding: Decoding },
    /// Several sets one after the other; number i is in the last that does not begin behind it.
    Parts { parts: Vec<(PathBuf, ImageSet)>, starts: Vec<usize> },
    /// Image files on disk or in archives, with their sizes in bytes.
    Files { files: Files, list: Vec<(PathBuf, u64, Option<Member>)>, decoding: Decoding },
}

/// An image as it is stored.
pub(crate) enum Stored<'a> {
    Pixels(Size, &'a [u8]),
    Array(&'a ArrayLayout, OnNan, &'a [u8]),
    Encoded(Decoding, &'a [u8]),
    /// A large image file, which stays on the disk.
    OnDisk(Decoding, File),
}

/// Smaller images come with their neighbours' pages.
const SMALLEST_PREFETCHED: usize = 32 << 10;

/// The set that image `slot` of several is in, and its place there.
fn part_of(starts: &[usize], slot: usize) -> (usize, usize) {
    let part = starts.partition_point(|&start| start <= slot) - 1;
    (part, slot - starts[part])
}

impl Stored<'_> {
    /// Where the image file is, if it is one.
    pub fn source(&self) -> Source<'_> {
        match self {
            Stored::OnDisk(_, file) => Source::Disk(file),
            Stored::Encoded(_, bytes) | Stored::Pixels(_, bytes) | Stored::Array(.., bytes) => Source::Memory(bytes),
        }
    }
}

impl ImageSet {
    /// No images.
    pub fn empty() -> Self {
        Self::from_memory(Vec::new(), Vec::new(), 1)
    }

    /// Decoded images in memory, `side`×`side`×3 bytes each.
    ///
    /// # Panics
    /// If `pixels` are not as many as the labels' images have.
    pub fn from_memory(pixels: Vec<u8>, labels: Vec<i64>, side: usize) -> Self {
        assert_eq!(pixels.len(), labels.len() * side * side * 3, "an image for each label");
        let size = Size { width: side as u32, height: side as u32 };
        Self {
            store: Store::Pixels { bytes: Bytes::Memory(pixels), size },
            labels: labels.into(),
            targets: None,
            masks: None,
            slots: None,
            checks: None,
        }
    }

    /// Whether the labels are one class each, in rows or without.
    pub(crate) fn is_one_hot(&self) -> bool {
        (0..self.len()).all(|index| self.targets(index).iter().all(|&share| share == 0.0 || share == 1.0))
    }

    /// The same with a share of each of so many classes, all of it that of the label's, if it has classes alone.
    pub(crate) fn with_shares(mut self, width: usize) -> Self {
        if self.targets.is_none() && width > 0 {
            let slots = (0..self.len()).map(|index| self.slot(index) + 1).max().unwrap_or(0);
            let mut rows = vec![0.0; slots * width];
            for index in 0..self.len() {
                rows[self.slot(index) * width + self.labels[index] as usize] = 1.0;
            }
            self.targets = Some(TargetRows::new(rows, width));
        }
        self
    }

    /// Sets of one format, one after the other, with the files that they are of.
    pub(crate) fn joined(mut parts: Vec<(PathBuf, Self)>) -> Self {
        let starts = parts.iter().scan(0, |end, (_, set)| {
            let start = *end;
            *end += set.len();
            Some(start)
        });
        let starts: Vec<_> = starts.collect();
        let labels: Vec<_> = parts.iter().flat_map(|(_, set)| set.labels.iter().copied()).collect();
        let width = parts.first().map_or(0, |(_, set)| set.target_width());
        let rows = || parts.iter().flat_map(|(_, set)| (0..set.len()).flat_map(|index| set.targets(index))).copied();
        let targets = (width > 0).then(|| TargetRows::new(rows().collect(), width));
        let masks: Vec<_> = parts.iter_mut().filter_map(|(_, set)| set.masks.take()).collect();
        let masks = (!masks.is_empty()).then(|| {
            let starts = starts.clone();
            MaskSet::new(MaskStore::Parts { parts: masks, starts }, None, None)
        });
        Self { store: Store::Parts { parts, starts }, labels: labels.into(), targets, masks, slots: None, checks: None }
    }

    /// The image files of a split, read and decoded whenever they are asked for.
    pub fn of_files(listing: &Listing, split: Split, decoding: Decoding) -> Self {
        let samples = listing.split(split);
        let list = samples.iter().map(|Sample { path, size, member, .. }| (path.clone(), *size, *member)).collect();
        let labels: Vec<_> = samples.iter().map(|sample| sample.class as i64).collect();
        let width = samples.first().map_or(0, |sample| sample.targets.len());
        let rows = || samples.iter().flat_map(|sample| sample.targets.iter().copied()).collect();
        let masks: Option<Vec<_>> = samples.iter().map(|sample| sample.mask.as_deref().cloned()).collect();
        let masks = masks.filter(|masks| !masks.is_empty());
        Self {
            store: Store::Files { files: listing.files(), list, decoding },
            labels: labels.into(),
            targets: (width > 0).then(|| TargetRows::new(rows(), width)),
            masks: masks.map(|files| MaskSet::new(MaskStore::Files { root: listing.root.clone(), files }, None, None)),
            slots: None,
            checks: None,
        }
    }

    /// The files that the images and their masks are read from, as far as they are mapped: a cache, archives, files of arrays; each once
    /// for each part that is read on its own.
    ///
    /// # Errors
    /// An archive that cannot be opened.
    pub fn mapped_files(&self) -> Result<Vec<MappedFile>> {
        let mut files = match &self.store {
            Store::Pixels { bytes, .. } | Store::Array { bytes, .. } | Store::Encoded { bytes, .. } => {
                bytes.mapped_file().into_iter().collect()
            }
            Store::Parts { parts, .. } => {
                let of_parts = parts.iter().map(|(_, set)| set.mapped_files()).collect::<Result<Vec<_>>>()?;
                of_parts.concat()
            }
            Store::Files { files, list, .. } => {
                let archives: BTreeSet<_> =
                    list.iter().filter_map(|(.., member)| Some(member.as_ref()?.archive)).collect();
                files.mapped_files(&archives)?
            }
        };
        files.extend(self.masks.iter().flat_map(MaskSet::mapped_files));
        Ok(files)
    }

    /// Images of a store. Those with a negative label were skipped: they are not part of the set.
    pub(crate) fn of_store(store: Store, labels: impl Into<PerImage<i64>>, checks: Option<Checks>) -> Self {
        let labels = labels.into();
        if labels.iter().all(|&label| label >= 0) {
            return Self { store, labels, targets: None, masks: None, slots: None, checks };
        }
        let slots: Vec<u32> = (0..labels.len() as u32).filter(|&slot| labels[slot as usize] >= 0).collect();
        let labels: Vec<_> = labels.iter().copied().filter(|&label| label >= 0).collect();
        Self { store, labels: labels.into(), targets: None, masks: None, slots: Some(slots), checks }
    }

    /// The same images with a row of numbers each, by their places in the store.
    pub(crate) fn with_targets(self, targets: Option<TargetRows>) -> Self {
        Self { targets, ..self }
    }

    /// The same images with a mask each, by their places in the store.
    pub(crate) fn with_masks(self, masks: Option<MaskSet>) -> Self {
        Self { masks, ..self }
    }

    /// The same, where it is known what the numbers of its masks are.
    #[must_use]
    pub fn with_mask_values(self, values: &MaskValues) -> Self {
        let masks = self.masks.map(|masks| masks.with_values(values.clone()));
        Self { masks, ..self }
    }

    /// Whether each image has a mask.
    pub fn has_masks(&self) -> bool {
        self.masks.is_some()
    }

    /// Which numbers of its masks stand for which classes, as far as that is known.
    pub fn mask_values(&self) -> Option<&MaskValues> {
        self.masks.as_ref().and_then(MaskSet::values)
    }

    /// All numbers that its masks have, but for those that cannot be read, if such are to be left out; found on the current rayon
    /// pool. `watch` is called for each mask.
    ///
    /// # Errors
    /// A mask that cannot be read; [`Error::Interrupted`].
    pub fn mask_numbers(&self, on_bad: OnBadImage, watch: &Watch<'_>) -> Result<BTreeSet<i64>> {
        let skips_bad = on_bad == OnBadImage::Skip;
        let slots: Vec<_> = (0..self.len()).map(|index| self.slot(index)).collect();
        self.masks.as_ref().map_or_else(|| Ok(BTreeSet::new()), |masks| masks.numbers(&slots, skips_bad, watch))
    }

    /// The size of the mask of image `index` and the class of each of its pixels, [`IGNORED`](crate::IGNORED) for none; `None`
    /// where images have no masks.
    ///
    /// # Errors
    /// A mask that cannot be read, or has a number that no class has.
    pub fn mask_classes(&self, index: usize) -> Result<Option<(Size, Vec<u8>)>> {
        let mut tools = MaskTools::default();
        Ok(self.mask(index, &mut tools)?.map(|(size, classes)| (size, classes.to_vec())))
    }

    /// The size of the mask of image `index`, and the class of each pixel.
    pub(crate) fn mask<'a>(&'a self, index: usize, tools: &'a mut MaskTools) -> Result<Option<(Size, &'a [u8])>> {
        self.masks.as_ref().map(|masks| masks.classes(self.slot(index), tools)).transpose()
    }

    /// Which of the image files at these indices cannot be decoded, and why. Works on the current rayon pool.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn undecodable(&self, indices: Range<usize>) -> Result<Vec<(usize, String)>> {
        let check = |(decoder, scratch, masks): &mut (Decoder, Vec<u8>, MaskTools), index: usize| {
            let (checked, size) = match self.stored(index, scratch) {
                Ok(Stored::Pixels(size, _) | Stored::Array(&ArrayLayout { size, .. }, ..)) => (Ok(()), Some(size)),
                Ok(stored @ (Stored::Encoded(..) | Stored::OnDisk(..))) => {
                    (decoder.check_source(stored.source()), decoder.size())
                }
                Err(Error::Image { reason, .. }) => (Err(reason), None),
                Err(error) => return Err(error),
            };
            let mask = match self.mask(index, masks) {
                Ok(mask) => mask.zip(size).map_or(Ok(()), |((own, _), size)| own.refuse_other_than(size)),
                Err(Error::Mask { reason, .. }) => Err(reason),
                Err(error) => return Err(error),
            };
            let checked = checked.and_then(|()| mask.map_err(|reason| format!("its mask: {reason}")));
            Ok(checked.err().map(|reason| (index, reason)))
        };
        let tools = || (Decoder::new(self.decoding()), Vec::new(), MaskTools::default());
        indices.into_par_iter().map_init(tools, check).filter_map(Result::transpose).collect()
    }

    /// The set without the images at these indices.
    #[must_use]
    pub fn without(self, indices: &[usize]) -> Self {
        let left_out: HashSet<_> = indices.iter().collect();
        let slots: Vec<u32> =
            (0..self.len()).filter(|index| !left_out.contains(index)).map(|index| self.slot(index) as u32).collect();
        let labels: Vec<_> =
            (0..self.len()).filter(|index| !left_out.contains(index)).map(|index| self.labels[index]).collect();
        Self { labels: labels.into(), slots: Some(slots), ..self }
    }

    /// Which images a `val_split` sets aside, by their places in the store.
    fn set_aside(&self, val_split: ValSplit) -> Vec<bool> {
        val_split.choose(self.labels.iter().copied(), |index| (self.slot(index) as u64).to_le_bytes().to_vec())
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The label of each image.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// The numbers of the label of image `index`; none where labels are classes.
    pub fn targets(&self, index: usize) -> &[f64] {
        self.targets.as_ref().map_or(&[], |rows| rows.row(self.slot(index)))
    }

    /// How many numbers a label has; 0 where labels are classes.
    pub fn target_width(&self) -> usize {
        self.targets.as_ref().map_or(0, TargetRows::width)
    }

    /// What the images are made of.
    pub fn format(&self) -> PixelFormat {
        match &self.store {
            Store::Array { layout, .. } => layout.format(),
            Store::Encoded { decoding, .. } | Store::Files { decoding, .. } => decoding.format(),
            Store::Pixels { .. } => PixelFormat::Rgb8,
            Store::Parts { parts, .. } => parts[0].1.format(),
        }
    }

    /// The numbers that the files of the images hold; `None` where they are made bytes of three colours.
    pub fn numbers(&self) -> Option<Numbers> {
        match &self.store {
            Store::Array { numbers, .. } => Some(*numbers),
            Store::Encoded { decoding, .. } | Store::Files { decoding, .. } => decoding.numbers,
            Store::Pixels { .. } => None,
            Store::Parts { parts, .. } => parts[0].1.numbers(),
        }
    }

    /// What a number that is none becomes.
    fn on_nan(&self) -> OnNan {
        match &self.store {
            Store::Array { on_nan, .. } => *on_nan,
            Store::Encoded { decoding, .. } | Store::Files { decoding, .. } => decoding.on_nan,
            Store::Pixels { .. } => OnNan::Fail,
            Store::Parts { parts, .. } => parts[0].1.on_nan(),
        }
    }

    /// How image files are decoded.
    fn decoding(&self) -> Decoding {
        match &self.store {
            Store::Encoded { decoding, .. } | Store::Files { decoding, .. } => *decoding,
            Store::Pixels { .. } | Store::Array { .. } | Store::Parts { .. } => Decoding::default(),
        }
    }

    /// The size of every image, where all have the same; `None` where each has its own.
    pub fn size(&self) -> Option<Size> {
        match &self.store {
            Store::Pixels { size, .. } | Store::Array { layout: ArrayLayout { size, .. }, .. } => Some(*size),
            Store::Encoded { .. } | Store::Files { .. } => None,
            Store::Parts { parts, .. } => {
                let first = parts[0].1.size();
                first.filter(|_| parts.iter().all(|(_, set)| set.size() == first))
            }
        }
    }

    /// The image at `index`, which may lie in `scratch`. The first time that an image of a cache is read, its
    /// checksum is compared.
    pub(crate) fn stored<'a>(&'a self, index: usize, scratch: &'a mut Vec<u8>) -> Result<Stored<'a>> {
        let slot = self.slot(index);
        let stored = match &self.store {
            Store::Pixels { bytes, size } => {
                Stored::Pixels(*size, bytes.get(slot * size.bytes()..(slot + 1) * size.bytes(), scratch)?)
            }
            Store::Array { bytes, layout, on_nan, .. } => {
                let length = layout.bytes();
                Stored::Array(layout, *on_nan, bytes.get(slot * length..(slot + 1) * length, scratch)?)
            }
            Store::Encoded { bytes, offsets, decoding } => {
                let range = offsets[slot] as usize..offsets[slot + 1] as usize;
                Stored::Encoded(*decoding, bytes.get(range, scratch)?)
            }
            Store::Parts { parts, starts } => {
                let (part, index) = part_of(starts, slot);
                return parts[part].1.stored(index, scratch);
            }
            Store::Files { files, list, decoding } => {
                let (path, size, member) = &list[slot];
                match files.read(path, *size, *member, scratch)? {
                    None => Stored::Encoded(*decoding, scratch),
                    Some(file) => Stored::OnDisk(*decoding, file),
                }
            }
        };
        if let (Some(checks), Stored::Pixels(_, bytes) | Stored::Array(.., bytes) | Stored::Encoded(_, bytes)) =
            (&self.checks, &stored)
        {
            let copy = match &self.store {
                Store::Pixels { bytes, .. } | Store::Array { bytes, .. } | Store::Encoded { bytes, .. } => bytes.copy(),
                Store::Parts { .. } | Store::Files { .. } => None,
            };
            checks.verify(slot, bytes, copy)?;
        }
        Ok(stored)
    }

    /// The pixels of a decoded image.
    #[cfg(test)]
    pub(crate) fn pixels(&self, index: usize) -> Vec<u8> {
        match self.stored(index, &mut Vec::new()).unwrap() {
            Stored::Pixels(_, pixels) => pixels.to_vec(),
            _ => panic!("not decoded"),
        }
    }

    /// Tells the kernel that these images are soon asked for.
    pub(crate) fn prefetch(&self, indices: impl Iterator<Item = usize>) {
        for slot in indices.map(|index| self.slot(index)) {
            match &self.store {
                Store::Pixels { bytes, size } if size.bytes() >= SMALLEST_PREFETCHED => {
                    bytes.prefetch(slot * size.bytes()..(slot + 1) * size.bytes());
                }
                Store::Array { bytes, layout, .. } if layout.bytes() >= SMALLEST_PREFETCHED => {
                    bytes.prefetch(slot * layout.bytes()..(slot + 1) * layout.bytes());
                }
                Store::Encoded { bytes, offsets, .. } => {
                    bytes.prefetch(offsets[slot] as usize..offsets[slot + 1] as usize);
                }
                Store::Parts { parts, starts } => {
                    let (part, index) = part_of(starts, slot);
                    parts[part].1.prefetch(std::iter::once(index));
                }
                Store::Files { files, list, .. } => files.prefetch(list[slot].1, list[slot].2),
                Store::Pixels { .. } | Store::Array { .. } => {}
            }
            if let Some(masks) = &self.masks {
                masks.prefetch(slot);
            }
        }
    }

    /// The paths of images, or the numbers of those that have none. Names are not kept in memory: those of a cache's
    /// images are read from the file.
    pub fn names(&self, indices: &[usize]) -> Vec<PathBuf> {
        let slots: Vec<_> = indices.iter().map(|&index| self.slot(index)).collect();
        match (&self.store, &self.checks) {
            (Store::Parts { parts, starts }, _) => {
                let name = |&slot: &usize| {
                    let (part, index) = part_of(starts, slot);
                    let (path, set) = &parts[part];
                    PathBuf::from(format!("{}: {}", path.display(), set.names(&[index])[0].display()))
                };
                slots.iter().map(name).collect()
            }
            (Store::Files { files, list, .. }, _) => slots.iter().map(|&slot| files.path(&list[slot].0)).collect(),
            (_, Some(checks)) => checks.names(&slots),
            (_, None) => slots.iter().map(|slot| PathBuf::from(format!("image {slot}"))).collect(),
        }
    }

    /// Names an image in an error.
    pub(crate) fn broken(&self, index: usize, reason: String) -> Error {
        let name = self.names(&[index]).remove(0);
        let path = match &self.store {
            Store::Array { path, .. } if self.checks.is_none() => {
                PathBuf::from(format!("{}: {}", path.display(), name.display()))
            }
            _ => name,
        };
        Error::Image { path, reason }
    }

    /// Names the mask of an image in an error.
    pub(crate) fn broken_mask(&self, index: usize, reason: String) -> Error {
        let path = self.masks.as_ref().map_or_else(PathBuf::new, |masks| masks.name(self.slot(index)));
        Error::Mask { path, reason }
    }

    fn slot(&self, index: usize) -> usize {
        self.slots.as_ref().map_or(index, |slots| slots[index] as usize)
    }
}
