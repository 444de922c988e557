//! The cache: the images of a listing in one HDF5 file that any HDF5 tool opens.
//!
//! ```text
//! /                       attributes: format, version, contents, settings, fingerprint
//! /classes                names, in label order
//! /train, /val, /test     labels     i64 N, −1 for an image that was skipped
//!                         targets    f64 N×K, labels of several numbers: only if there are such
//!                         paths      N, below the folder, as text
//!                         path_bytes N, the same as their bytes: only if some are not UTF-8
//!                         sizes      u64 N, bytes of the image files
//!                         modified   u64 N, when they were last written, in nanoseconds since 1970
//!                         checksums  u64 N, the first 8 bytes of the BLAKE3 hash of each image below
//!   contents `pixels`:    pixels     u8 N×side×side×3, contiguous, RGB; or N×C×side×side numbers,
//!                                    of the files' type where no image is scaled, else in single precision
//!   contents `encoded`:   bytes      u8, the image files one after the other
//!                         offsets    u64 N+1, where each begins
//!   if there are masks:   mask_paths, mask_sizes, mask_modified, mask_checksums   as of the images
//!                         masks      u8 N×side×side, contiguous, the class of each pixel, 255 for none;
//!                                    or mask_bytes and mask_offsets, their files
//!   if any were skipped:  skipped, skipped_reasons
//! behind the end          the seal of a complete cache (`trailer`)
//! ```
//!
//! HDF5 writes and reads the structure. The images lie contiguous in the file, so they are written and mapped at
//! their offset by many threads and many ranks at once, past the library's one lock.
//!
//! ```text
//! leader:   CacheWriter::create ───────────────────────────────> CacheWriter::seal ──> the cache has its name
//! all:                     CacheShard::open ──> CacheShard::write ──┘ (all agree that every shard is written)
//! ```

mod explain;
mod lock;
mod striping;
mod structure;
mod trailer;
mod verify;
mod writer;

use std::path::{Path, PathBuf};

use layout::Shard;

use rayon::prelude::*;

use crate::limits::LONGEST_IMAGE_FILE;
use crate::scan::folder_written;
use crate::watch::Counter;
use crate::{
    Axes, Dataset, Decoding, Error, Fit, Listing, MaskValues, Numbers, OnNan, Resample, Result, Sample, Split, Watch,
};

pub use explain::explain;
pub use lock::Lock;
pub use verify::{Verified, verify};
pub use writer::{CacheShard, CacheWriter};

/// What a cache holds of each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Its pixels: the shorter side scaled to `side`, and of that the middle square.
    Pixels {
        /// Height and width, in pixels.
        side: usize,
        /// Height and width of what evaluation will cut out of its middle, in pixels: the square lies where that is
        /// exactly the middle of the whole image. At most `side`.
        crop: usize,
    },
    /// The bytes of its file.
    Encoded,
}

impl Contents {
    /// `pixels` or `encoded`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pixels { .. } => "pixels",
            Self::Encoded => "encoded",
        }
    }

    /// The dataset with the images, or their masks.
    fn dataset(self, of: Of) -> &'static str {
        match (self, of) {
            (Self::Pixels { .. }, Of::Images) => "pixels",
            (Self::Pixels { .. }, Of::Masks) => "masks",
            (Self::Encoded, Of::Images) => "bytes",
            (Self::Encoded, Of::Masks) => "mask_bytes",
        }
    }
}

/// What a file of a sample is: both are kept alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Images,
    Masks,
}

impl Of {
    /// What the names of datasets about them begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Images => "",
            Self::Masks => "mask_",
        }
    }
}

/// What settings say where numbers are kept in their type.
const EXACT: &str = " exact";
/// How pixels are scaled. Another arithmetic gives other bits, and a cache of the former is not current.
const SCALING: &str = "Pillow's arithmetic";
/// What stands in settings before the numbers of the classes in masks.
const MASKS: &str = " with masks ";

/// What a cache is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// What it holds of each image.
    pub contents: Contents,
    /// How images are decoded: for `pixels` when the cache is built, for `encoded` when it is read.
    pub decoding: Decoding,
    /// Which numbers of masks stand for which classes, if there are masks.
    pub masks: Option<MaskValues>,
}

impl Spec {
    /// Everything but the images that decides what the cache holds, as a line for people and for the fingerprint.
    pub fn settings(&self) -> String {
        let Decoding { resample, exif_orientation, numbers, is_exact, on_nan, axes, fit } = self.decoding;
        let masks = self.masks.as_ref().map_or(String::new(), |masks| format!("{MASKS}{}", masks.to_words()));
        let fit = if fit == Fit::Squash { " squash" } else { "" };
        let (resample, orientation) = (resample.name(), if exif_orientation { "upright" } else { "as-stored" });
        let contents = match self.contents {
            // Where both cuts round alike, the square is the same for every such crop.
            Contents::Pixels { side, crop } if (side - crop).is_multiple_of(4) => {
                format!("pixels {side} {resample} {orientation}{fit}")
            }
            Contents::Pixels { side, crop } => format!("pixels {side} {resample} {orientation}{fit} crop {crop}"),
            // Masks are held against images as they are decoded.
            Contents::Encoded if exif_orientation && self.masks.is_some() => format!("encoded {orientation}"),
            Contents::Encoded => "encoded".to_owned(),
        };
        match numbers {
            None => contents + &masks,
            Some(numbers) => {
                let kept = if is_exact && self.contents != Contents::Encoded { EXACT } else { "" };
                let order = axes.map_or("", Axes::suffix);
                format!("{contents}{kept} of {}{}{order}{masks}", numbers.to_words(), on_nan.suffix())
            }
        }
    }

    /// The other way round. The settings of an `encoded` cache do not say how to decode, but for the numbers.
    fn parse(settings: &str) -> Option<Self> {
        let (settings, masks) = match settings.split_once(MASKS) {
            Some((settings, masks)) => (settings, Some(MaskValues::of_words(masks)?)),
            None => (settings, None),
        };
        let (contents, numbers) = settings.split_once(" of ").map_or((settings, None), |(of, words)| (of, Some(words)));
        let (numbers, axes) = numbers.map_or(("", None), Axes::of_suffix);
        let (numbers, on_nan) = OnNan::of_suffix(numbers);
        let numbers = if numbers.is_empty() { None } else { Some(Numbers::of_words(numbers)?) };
        let (contents, is_exact) = contents.strip_suffix(EXACT).map_or((contents, false), |contents| (contents, true));
        let decoding = Decoding { numbers, is_exact, on_nan, axes, ..Decoding::default() };
        let words: Vec<_> = contents.split(' ').collect();
        match words[..] {
            ["encoded"] => Some(Self { contents: Contents::Encoded, decoding, masks }),
            ["encoded", "upright"] => {
                let decoding = Decoding { exif_orientation: true, ..decoding };
                Some(Self { contents: Contents::Encoded, decoding, masks })
            }
            ["pixels", side, resample, orientation, ref rest @ ..] => {
                let (fit, crop) = match rest {
                    ["squash", crop @ ..] => (Fit::Squash, crop),
                    crop => (Fit::Crop, crop),
                };
                let resample = Resample::named(resample)?;
                let side = side.parse().ok().filter(|side| (1..=1 << 15).contains(side))?;
                let crop = match crop {
                    [] => side,
                    ["crop", crop] => crop.parse().ok().filter(|crop| (1..=side).contains(crop))?,
                    _ => return None,
                };
                let decoding = Decoding { exif_orientation: orientation == "upright", resample, fit, ..decoding };
                Some(Self { contents: Contents::Pixels { side, crop }, decoding, masks })
            }
            _ => None,
        }
    }

    /// What a cache of pixels keeps of each number; `None` where they are bytes of three colours.
    fn kept(&self) -> Option<Numbers> {
        self.decoding.numbers.map(|numbers| numbers.kept(!self.decoding.is_exact))
    }

    /// Bytes that an image or a mask takes. A file that is too long to be read takes none: it is refused, or skipped.
    fn bytes_of(&self, of: Of, sample: &Sample) -> u64 {
        let size = match of {
            Of::Images => sample.size,
            Of::Masks => sample.mask.as_ref().map_or(0, |mask| mask.size),
        };
        match (self.contents, of) {
            (Contents::Pixels { side, .. }, Of::Images) => {
                let pixel = self.kept().map_or(3, |numbers| numbers.bytes_per_pixel());
                (side * side * pixel) as u64
            }
            (Contents::Pixels { side, .. }, Of::Masks) => (side * side) as u64,
            (Contents::Encoded, _) if size > LONGEST_IMAGE_FILE => 0,
            (Contents::Encoded, _) => size,
        }
    }

    /// The format of its file.
    fn version(&self) -> trailer::Version {
        trailer::Version::of(self.masks.is_some())
    }

    /// What is kept of each sample.
    fn kinds(&self) -> &'static [Of] {
        if self.masks.is_some() { &[Of::Images, Of::Masks] } else { &[Of::Images] }
    }

    /// Says whether a cache is the one of these images in this form.
    pub fn fingerprint(&self, listing: &Listing) -> String {
        self.fingerprint_by(|settings| listing.fingerprint(settings))
    }

    /// The same of images whose fingerprint, with these settings, somebody else knows.
    pub fn fingerprint_by(&self, of_images: impl FnOnce(&str) -> String) -> String {
        of_images(&self.form())
    }

    /// All that decides what a cache holds, but the images.
    fn form(&self) -> String {
        let settings = match self.contents {
            Contents::Pixels { .. } => format!("{} by {SCALING}", self.settings()),
            Contents::Encoded => self.settings(),
        };
        format!("{} {} {settings}", structure::FORMAT, self.version().number)
    }
}

/// What to do with an image that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadImage {
    /// Give up, and name it.
    #[default]
    Fail,
    /// Leave it out, and note it in the cache.
    Skip,
}

/// An image that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadImage {
    /// Its split.
    pub split: Split,
    /// Its place in the split's listing.
    pub index: usize,
    /// Its path, below the folder.
    pub path: PathBuf,
    /// Why it cannot be decoded.
    pub reason: String,
}

/// What [`open`] found.
#[derive(Debug)]
pub enum Found {
    /// A cache of exactly these images.
    Current(Box<Dataset>),
    /// No file.
    Nothing,
    /// A file that is no cache of these images, and why.
    Stale(String),
}

/// Opens the cache at `path` if it is the one with this `fingerprint`. Images are mapped, not read; the checksum of
/// each is compared when it is first asked for.
///
/// # Errors
/// A file that cannot be read at all.
pub fn open(path: &Path, fingerprint: &str, decoding: Decoding) -> Result<Found> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(Found::Nothing),
        Err(error) => return Err(Error::io(path, "looking for the cache")(error)),
    }
    Ok(match structure::read_checked(path, Some(fingerprint), Some(decoding))? {
        structure::Read::Complete(dataset) => Found::Current(dataset),
        structure::Read::Unusable(reason) => Found::Stale(reason),
    })
}

/// Builds the cache of `listing` at `path`, alone: complete, or not at all. Decodes on the current rayon pool.
/// `watch` is called with the number of images done. Gives what was skipped.
///
/// # Errors
/// An image that cannot be decoded (unless those are skipped), a full disk, or a file that cannot be written;
/// [`Error::Interrupted`].
pub fn build(
    listing: &Listing,
    spec: &Spec,
    path: &Path,
    on_bad: OnBadImage,
    watch: &Watch<'_>,
) -> Result<Vec<BadImage>> {
    let writer = CacheWriter::create(listing, spec, &spec.fingerprint(listing), path)?;
    let bad = CacheShard::open(writer.temporary(), &listing.root)?.write(Shard::WHOLE, on_bad, watch)?;
    writer.seal(&bad)?;
    Ok(bad)
}

/// What a cache says of the folders that it was built from.
#[derive(Debug)]
pub struct Origin {
    /// Its own.
    pub fingerprint: String,
    /// The names of its classes.
    pub classes: Vec<String>,
    /// Images to train on.
    pub train: usize,
    form: String,
    folders: Vec<(PathBuf, u64)>,
}

impl Origin {
    /// That of the cache at `path`; `None` where there is none that is whole, and built from folders of classes.
    ///
    /// # Errors
    /// A file that cannot be read at all.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        if !path.is_file() || trailer::check(path)?.is_err() {
            return Ok(None);
        }
        Ok(structure::origin(path).ok().filter(|origin| !origin.folders.is_empty()))
    }

    /// Whether it holds what `spec` says.
    pub fn has_form(&self, spec: &Spec) -> bool {
        self.form == spec.form()
    }

    /// The number of folders.
    pub fn folders(&self) -> usize {
        self.folders.len()
    }

    /// Whether all folders below `root` are as they were, looked at on the current rayon pool, and these are among them.
    pub fn has_same_folders(&self, root: &Path, among: &[PathBuf], watch: &Watch<'_>) -> bool {
        let counter = Counter::new(watch);
        let is_same = |(folder, written): &(PathBuf, u64)| {
            counter.one().is_ok() && folder_written(&root.join(folder)).is_ok_and(|found| found == *written)
        };
        let is_known = |folder: &PathBuf| self.folders.iter().any(|(known, _)| known == folder);
        among.iter().all(is_known) && self.folders.par_iter().all(is_same)
    }
}

/// The images that were skipped when the cache at `path` was built, with the reasons.
///
/// # Errors
/// A file that is no cache.
pub fn skipped(path: &Path) -> Result<Vec<(String, String)>> {
    structure::skipped(path).map_err(|source| Error::Hdf5 { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
