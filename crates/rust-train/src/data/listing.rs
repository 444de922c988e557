//! Which images there are, found out by one rank, which tells whoever waits how far it is.

use std::ops::ControlFlow;
use std::path::Path;

use dataset::{
    ArchiveSet, Contents, Dataset, Decoding, FirstImage, ImageSet, Listing, MaskValues, Names, Numbers, OnBadImage,
    OnNan, Size, Split, read_classes,
};
use flags::ReadMode;
use serde::{Deserialize, Serialize};
use world::World;

use crate::config::images::Images;
use crate::data::archives::{self, Archives, Indexed};
use crate::data::masks::values_of;
use crate::errors::{name_interruption, usage};

/// What is known of the data as soon as they are listed: before a cache is built.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// Their names, or their numbers.
    pub classes: Vec<String>,
    /// Channels of an image.
    pub channels: usize,
    /// Training images.
    pub train: usize,
}

impl Listed {
    pub(super) fn of(dataset: &Dataset) -> Self {
        let channels = dataset.train.format().channels();
        Self { classes: dataset.classes.clone(), channels, train: dataset.train.len() }
    }
}

/// The images below `root`, and how they are decoded.
#[derive(Debug)]
pub(crate) struct Found {
    pub listing: Listing,
    pub decoding: Decoding,
    /// Which numbers of masks stand for which classes, if there are masks.
    pub masks: Option<MaskValues>,
}

impl Found {
    /// For the ranks that have not listed the folder.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let numbers = self.decoding.numbers.map(|numbers| numbers.to_words()).unwrap_or_default();
        let masks = self.masks.as_ref().map(MaskValues::to_words).unwrap_or_default();
        [numbers.as_bytes(), b"\n", masks.as_bytes(), b"\n", &self.listing.to_bytes()].concat()
    }

    /// The other way round, for the folder `root`. `None` where the bytes are none.
    pub(super) fn from_bytes(root: &Path, images: &Images, bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.splitn(3, |&byte| byte == b'\n');
        let mut words = || str::from_utf8(fields.next()?).ok();
        let (numbers, masks) = (Numbers::of_words(words()?), MaskValues::of_words(words()?));
        let listing = Listing::from_bytes(root, fields.next()?)?;
        Some(Self { listing, decoding: Decoding { numbers, ..images.evaluation.decoding }, masks })
    }
}

/// The archives of a folder, if it consists of such, indexed with so many `cores` a rank. Collective.
pub(crate) fn indexed(world: &World, images: &Images, root: &Path, cores: usize) -> anyhow::Result<Archives> {
    if images.table.is_some() || images.masks.is_some() {
        return Ok(Archives::None); // these are of files
    }
    archives::index(world, root, &images.archives(), images.cache.as_deref(), cores)
}

/// Lists the images below `root`, or in the archives there, which have been `indexed`, and tells whoever waits how far it is; then looks at the first of them, which says what all
/// hold.
pub(crate) fn list(images: &Images, root: &Path, indexed: Option<&Indexed>) -> anyhow::Result<Found> {
    let classes = images.classes.as_deref().map(read_classes).transpose()?;
    let (classes, val_split) = (classes.as_deref(), images.val_split);
    if let (Some(indexed), None) = (indexed, images.contents) {
        indexed.set.refuse_sequential()?;
    }
    let listing = match (&images.table, &images.masks) {
        (None, None) if let Some(Indexed { set, indices }) = indexed => {
            let names = classes.map_or(Names::Found, Names::Listed);
            let mut listing = Listing::of_archives(set, indices, names)?;
            set.say(indices, &listing);
            val_split.map_or(Ok(()), |val_split| listing.set_aside(set, val_split))?;
            Ok(listing)
        }
        (Some(table), _) => Listing::of_table(root, table, classes, val_split, &count_files),
        (None, Some(_)) if let Ok(Some(_)) = ArchiveSet::find(root) => {
            return Err(usage(format!(
                "--task segment: {} holds archives, which give classes; unpack them",
                root.display()
            )));
        }
        (None, Some(masks)) => Listing::scan_masks(root, &masks.folders, val_split, &count_files),
        (None, None) => Listing::scan_watched(root, classes, val_split, &count_files),
    };
    let mut listing = name_interruption("listing the images", listing)?;
    if images.pages_apart {
        take_pages_apart(&mut listing, images.on_bad_image)?;
    }
    let decoding = decoding_of(&listing, images)?;
    let masks = match &images.masks {
        None => None,
        Some(masks) => {
            let train = ImageSet::of_files(&listing, Split::Train, decoding);
            let values = values_of(masks, classes.map(<[String]>::len), &train, images.on_bad_image)?;
            listing.classes = classes.map_or_else(|| values.names(), <[String]>::to_vec);
            Some(values)
        }
    };
    Ok(Found { listing, decoding, masks })
}

/// Makes an image of each page of the TIFF files.
pub(crate) fn take_pages_apart(listing: &mut Listing, on_bad: OnBadImage) -> anyhow::Result<()> {
    name_interruption("looking at the pages of the TIFF files", listing.pages_apart(on_bad, &count_files))
}

/// The first image, if images are to be read unchanged; `None` where they are read as RGB of 8 bits.
pub(super) fn first_of(listing: &Listing, images: &Images) -> anyhow::Result<Option<FirstImage>> {
    let decoding = images.evaluation.decoding;
    Ok(match images.read_mode {
        ReadMode::Rgb => None,
        ReadMode::Auto => listing.numbers(decoding, false)?,
        ReadMode::Unchanged => listing.numbers(decoding, true)?,
    })
}

pub(super) fn decoding_of(listing: &Listing, images: &Images) -> anyhow::Result<Decoding> {
    let decoding = images.evaluation.decoding;
    let first = first_of(listing, images)?;
    let Some(FirstImage { path, numbers, size }) = first else {
        for (flag, is_given) in [("--nan", decoding.on_nan != OnNan::Fail), ("--image-layout", decoding.axes.is_some())]
        {
            if is_given {
                return Err(usage(format!(
                    "{flag}: is for images that are read unchanged, and these are read as RGB of 8 bits"
                )));
            }
        }
        return Ok(decoding);
    };
    if decoding.exif_orientation {
        return Err(usage("--exif-orientation: is for images that are read as RGB; add --read-mode rgb"));
    }
    log::info!(
        "images are read unchanged: {numbers}, as {} has them; --read-mode rgb makes RGB of 8 bits of them",
        path.display()
    );
    // Nothing is scaled on the way into the cache: the type can stay.
    let is_exact = match images.contents {
        Some(Contents::Pixels { side, .. }) => {
            let wanted = Size { width: side as u32, height: side as u32 };
            size == wanted && listing.have_size(wanted, Decoding { numbers: Some(numbers), ..decoding })
        }
        Some(Contents::Encoded) | None => false,
    };
    Ok(Decoding { numbers: Some(numbers), is_exact, ..decoding })
}

/// Tells whoever waits for a folder to be listed how far that is.
pub(crate) fn count_files(done: usize) -> ControlFlow<()> {
    world::report(done as u64, 0, "files")
}
