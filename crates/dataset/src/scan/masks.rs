//! Images and their masks, each in a folder of its own.
//!
//! ```text
//! DIR/train/images/a.jpg   DIR/images/train/a.jpg     DIR/images/a.jpg   (with a val_split)     DIR/train.tsv
//! DIR/train/masks/a.png    DIR/masks/train/a.png      DIR/masks/a.png                           images/a.jpg<TAB>masks/a.png
//! ```
//!
//! A mask has its image's name, or that and an ending of its own: `a_mask.png`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::left_out::LeftOut;
use super::{Listing, Sample, Split, ToEvaluate, ValSplit, folder, list, refuse_missing, refuse_val};
use crate::watch::Counter;
use crate::{Error, Result, Watch};

/// Names of folders with images, in lower case.
const IMAGES: &[&str] = &["images", "image", "imgs", "img", "img_dir", "jpegimages", "leftimg8bit"];
/// Names of folders with masks.
const MASKS: &[&str] =
    &["masks", "mask", "labels", "label", "annotations", "annotation", "ann_dir", "gt", "gtfine", "segmentationclass"];
/// What may stand between a name and its ending.
const SEPARATORS: &[char] = &['_', '-', '.', ' '];

/// A mask's file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MaskFile {
    /// Where it lies: below the listing's root, or absolute.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified: u64,
}

impl MaskFile {
    pub(super) fn look_up(root: &Path, path: PathBuf) -> Result<Self> {
        // The same call, and the same errors.
        let found = Sample::look_up(root, path, 0).map_err(|error| match error {
            Error::Input(reason) => Error::Input(reason.replace("no such image", "no such mask")),
            other => other,
        });
        let Sample { path, size, modified, .. } = found?;
        Ok(Self { path, size, modified })
    }
}

/// Which folders hold the images and masks, if that cannot be guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskFolders {
    /// That of the images, below DIR or below the split's folder.
    pub images: Option<String>,
    /// That of the masks.
    pub masks: Option<String>,
}

impl Listing {
    /// Lists the images of all splits below `root` with their masks; the listing has no names of classes. With a `val_split`
    /// images to validate on are set aside from those to train on. `watch` is called for each entry of a folder, and again for
    /// each image whose size is asked for.
    ///
    /// # Errors
    /// A missing folder, images without masks, or several that may be one's; [`Error::Interrupted`], and a `val_split` where there
    /// are images to validate on.
    pub fn scan_masks(
        root: &Path,
        folders: &MaskFolders,
        val_split: Option<ValSplit>,
        watch: &Watch<'_>,
    ) -> Result<Self> {
        refuse_missing(root)?;
        let counter = Counter::new(watch);
        let find = |split| Place::find(root, split, folders);
        if let (Some(_), Some(place)) = (val_split, find(Split::Val)) {
            return Err(refuse_val(&place.images));
        }
        let samples =
            |place: Option<Place>| place.map_or_else(|| Ok(Vec::new()), |place| place.samples(root, &counter));
        let train = Place::of_train(root, folders).ok_or_else(|| nothing(root, folders))?;
        let (train, val) = (samples(Some(train))?, samples(find(Split::Val))?);
        // Those that nobody has drawn masks for are no reason to refuse the others.
        let test = samples(find(Split::Test).filter(|place| place.images.is_file() || place.masks.is_some()))?;
        let (train, val) = match val_split {
            Some(val_split) => val_split.divide(train),
            None => (train, val),
        };
        Ok(Self { train, val, test, ..Self::of_classes(root, Vec::new()) })
    }

    /// Lists the images with masks that evaluation looks at, as images to validate on: those that are there for it, or those that are
    /// set aside, or else all to train on; or those to test on. Says whether it is all to train on.
    ///
    /// # Errors
    /// As [`scan_masks`](Self::scan_masks), of those alone.
    pub fn scan_masks_to_evaluate(
        root: &Path,
        folders: &MaskFolders,
        wanted: ToEvaluate,
        watch: &Watch<'_>,
    ) -> Result<(Self, bool)> {
        refuse_missing(root)?;
        let counter = Counter::new(watch);
        let (split, val_split) = match wanted {
            ToEvaluate::Val(val_split) => (Split::Val, val_split),
            ToEvaluate::Test => (Split::Test, None),
        };
        let there = Place::find(root, split, folders);
        let is_all = there.is_none() && val_split.is_none();
        let place = match (there, val_split) {
            (None, _) if wanted == ToEvaluate::Test => return Ok((Self::of_classes(root, Vec::new()), false)),
            (Some(place), Some(_)) => return Err(refuse_val(&place.images)),
            (Some(place), None) => place,
            (None, _) => Place::of_train(root, folders).ok_or_else(|| nothing(root, folders))?,
        };
        let samples = place.samples(root, &counter)?;
        let val = match val_split {
            Some(val_split) => val_split.divide(samples).1,
            None => samples,
        };
        let (train, test) = (Vec::new(), Vec::new());
        Ok((Self { train, val, test, ..Self::of_classes(root, Vec::new()) }, is_all))
    }

    /// Whether images of a split lie below `root` as [`scan_masks`](Self::scan_masks) finds them.
    pub fn has_masks(root: &Path, split: Split, folders: &MaskFolders) -> bool {
        Place::find(root, split, folders).is_some()
    }
}

/// Where the images of a split and their masks lie.
struct Place {
    split: Split,
    /// A folder, or a list.
    images: PathBuf,
    /// `None` for a list, which names them.
    masks: Option<PathBuf>,
}

/// Nothing that is known to hold images.
fn nothing(root: &Path, folders: &MaskFolders) -> Error {
    let looked = |given: &Option<String>, usual: &[&str]| given.clone().unwrap_or_else(|| usual[0].to_owned());
    let (images, masks) = (looked(&folders.images, IMAGES), looked(&folders.masks, MASKS));
    Error::Input(format!(
        "{}: no images and masks to train on; --task segment wants DIR/train/{images}/* and DIR/train/{masks}/*, or \
         DIR/{images}/train/* and DIR/{masks}/train/*, the same for val; --images NAME and --labels NAME name other folders",
        root.display()
    ))
}

/// The folder in `parent` whose name, in lower case, comes first in `names`, of those that `fit`.
fn folder_named(parent: &Path, names: &[&str], fits: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let ranked = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().to_lowercase();
        let rank = names.iter().position(|known| *known == name)?;
        Some((rank, entry.path()))
    });
    let mut ranked: Vec<_> = ranked.filter(|(_, path)| path.is_dir() && fits(path)).collect();
    ranked.sort_unstable();
    ranked.into_iter().next().map(|(_, path)| path)
}

/// Whether there is an image in a folder, or below it.
fn has_image(folder: &Path) -> bool {
    let entries = || std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries().any(|path| super::is_image(&path) && path.is_file())
        || entries().any(|path| path.is_dir() && !path.is_symlink() && has_image(&path))
}

impl Place {
    /// Where those of a split are, if they are somewhere.
    fn find(root: &Path, split: Split, folders: &MaskFolders) -> Option<Self> {
        let list = (list::LAYOUT.place)(root, split);
        if list.is_file() {
            return Some(Self { split, images: list, masks: None });
        }
        let inside = folder_named(root, split.folder_names(), &|_| true);
        inside
            .and_then(|parent| Self::of(&parent, split, None, folders))
            .or_else(|| Self::of(root, split, Some(split.folder_names()), folders))
    }

    /// Where those to train on are: where there are no splits at all, all that there is.
    fn of_train(root: &Path, folders: &MaskFolders) -> Option<Self> {
        let has = |split| Self::find(root, split, folders).is_some();
        Self::find(root, Split::Train, folders).or_else(|| {
            if has(Split::Val) || has(Split::Test) { None } else { Self::of(root, Split::Train, None, folders) }
        })
    }

    /// Folders in `parent`, or the folder of the split in each of them.
    fn of(parent: &Path, split: Split, within: Option<&[&str]>, folders: &MaskFolders) -> Option<Self> {
        let of_split = |folder: &Path| match within {
            Some(names) => folder_named(folder, names, &has_image),
            None => Some(folder.to_owned()).filter(|folder| has_image(folder)),
        };
        let find = |given: &Option<String>, usual: &[&str]| match given {
            Some(name) => Some(parent.join(name)).filter(|folder| folder.is_dir()).and_then(|folder| of_split(&folder)),
            None => {
                folder_named(parent, usual, &|folder| of_split(folder).is_some()).and_then(|folder| of_split(&folder))
            }
        };
        let images = find(&folders.images, IMAGES)?;
        Some(Self { split, images, masks: find(&folders.masks, MASKS) })
    }

    /// The images with their masks, in the order of the images.
    fn samples(&self, root: &Path, counter: &Counter<'_>) -> Result<Vec<Sample>> {
        let pairs = self.pairs(root, counter)?;
        if let Some(masks) = &self.masks {
            let (split, images) = (self.split.name(), self.images.display());
            log::info!("{split}: images in {images}, masks in {}", masks.display());
        }
        samples(root, pairs, counter)
    }

    /// The paths of the images and their masks, below `root`.
    fn pairs(&self, root: &Path, counter: &Counter<'_>) -> Result<Vec<(PathBuf, PathBuf)>> {
        if self.images.is_file() {
            let part = (list::LAYOUT.read)(root, self.split, &self.images, counter)?;
            let order = part.order.unwrap_or_default();
            return Ok(order
                .into_iter()
                .map(|(mask, place)| (part.files[mask].1[place].clone(), PathBuf::from(&part.files[mask].0)))
                .collect());
        }
        let Some(masks) = &self.masks else {
            let images = self.images.display();
            return Err(Error::Input(format!(
                "{images}: no folder of masks beside it (looked for: {}); --labels NAME names another",
                MASKS.join(", ")
            )));
        };
        let below = |folder: &Path| {
            let (below_root, mut left_out) = (folder.strip_prefix(root).unwrap_or(folder), LeftOut::default());
            let images = folder::images(root, below_root.to_owned(), &mut left_out, counter)?;
            left_out.say(folder);
            Ok::<_, Error>(images)
        };
        pairs(&self.images, below(&self.images)?, masks, below(masks)?, root)
    }
}

/// The samples of images with their masks.
fn samples(root: &Path, pairs: Vec<(PathBuf, PathBuf)>, counter: &Counter<'_>) -> Result<Vec<Sample>> {
    // On a file system across a network each call waits for an answer: ask many questions at a time.
    let look_up = |(image, mask)| {
        counter.one()?;
        let mask = MaskFile::look_up(root, mask)?;
        Ok(Sample { mask: Some(Box::new(mask)), ..Sample::look_up(root, image, 0)? })
    };
    pairs.into_par_iter().map(look_up).collect()
}

/// A path without the ending of its format, below a folder.
fn stem(root: &Path, folder: &Path, path: &Path) -> PathBuf {
    let whole = root.join(path);
    whole.strip_prefix(folder).unwrap_or(path).with_extension("")
}

/// Each of the `images` of a folder with its mask.
fn pairs(
    image_folder: &Path,
    images: Vec<PathBuf>,
    mask_folder: &Path,
    masks: Vec<PathBuf>,
    root: &Path,
) -> Result<Vec<(PathBuf, PathBuf)>> {
    let input = |reason: String| Err(Error::Input(reason));
    let Some(first) = images.first().map(|image| stem(root, image_folder, image)) else {
        return input(format!("{}: no readable image in it", image_folder.display()));
    };
    let mut by_stem: HashMap<PathBuf, PathBuf> = HashMap::with_capacity(masks.len());
    for mask in masks {
        if let Some(other) = by_stem.insert(stem(root, mask_folder, &mask), mask.clone()) {
            let (one, other) = (root.join(other), root.join(mask));
            return input(format!("{} and {}: two masks of one name", one.display(), other.display()));
        }
    }
    let stems: Vec<PathBuf> = images.iter().map(|image| stem(root, image_folder, image)).collect();
    let same = stems.iter().filter(|stem| by_stem.contains_key(*stem)).count();
    // Where some have a mask of just their name, all are to have one.
    let endings = if same > 0 { Endings::default() } else { Endings::found(&first, &by_stem, mask_folder)? };
    let count = by_stem.len();
    let mut pairs = Vec::with_capacity(images.len());
    for (image, stem) in images.into_iter().zip(stems) {
        let wanted = endings.mask_of(&stem);
        let Some(mask) = by_stem.remove(&wanted) else {
            let elsewhere = by_stem.iter().find(|(other, _)| other.file_name() == wanted.file_name());
            let hint = elsewhere.map_or(String::new(), |(_, mask)| {
                format!(", but {} is: do --images and --labels name the folders?", root.join(mask).display())
            });
            let (image, wanted) = (root.join(image), mask_folder.join(wanted));
            return input(format!("{}: has no mask; {}.* is not there{hint}", image.display(), wanted.display()));
        };
        pairs.push((image, mask));
    }
    if !by_stem.is_empty() {
        log::warn!("{}: {} of its {count} masks are of no image", mask_folder.display(), by_stem.len());
    }
    Ok(pairs)
}

/// What the names of images and masks end in beyond what they have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Endings {
    image: String,
    mask: String,
}

impl Endings {
    /// Those of the images and masks of a folder, of which `first` is the first image.
    fn found(first: &Path, masks: &HashMap<PathBuf, PathBuf>, mask_folder: &Path) -> Result<Self> {
        match &Self::of(first, masks.keys())[..] {
            [] => Ok(Self::default()),
            [endings] => Ok(endings.clone()),
            [one, other, ..] => Err(Error::Input(format!(
                "{}: is the mask of {} the one that ends in '{}' or the one that ends in '{}'? Leave one kind, or name the pairs in \
                 DIR/train.tsv: image, a tab, mask",
                mask_folder.display(),
                first.display(),
                one.mask,
                other.mask
            ))),
        }
    }

    /// Those that an image and masks of it may have: of those that have most in common with it, up to a separator.
    fn of<'a>(image: &Path, masks: impl Iterator<Item = &'a PathBuf>) -> Vec<Self> {
        let Some(name) = image.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
        let mut best: (usize, Vec<Self>) = (1, Vec::new());
        for mask in masks.filter(|mask| mask.parent() == image.parent()) {
            let Some(mask) = mask.file_name().and_then(|name| name.to_str()) else { continue };
            let is_end =
                |name: &str, at: usize| name[at..].chars().next().is_none_or(|next| SEPARATORS.contains(&next));
            let same = name.char_indices().zip(mask.chars()).take_while(|((_, one), other)| one == other);
            let ends = same.map(|((at, letter), _)| at + letter.len_utf8());
            let Some(end) = ends.filter(|&end| is_end(name, end) && is_end(mask, end)).last() else { continue };
            // What differs in a number is another image.
            if [&name[end..], &mask[end..]]
                .iter()
                .any(|rest| rest.len() > 1 && rest[1..].bytes().all(|byte| byte.is_ascii_digit()))
            {
                continue;
            }
            if end > best.0 {
                best = (end, Vec::new());
            }
            if end == best.0 {
                best.1.push(Self { image: name[end..].to_owned(), mask: mask[end..].to_owned() });
            }
        }
        best.1.sort_unstable();
        best.1
    }

    /// The stem of the mask of an image.
    fn mask_of(&self, image: &Path) -> PathBuf {
        let name = image.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match name.strip_suffix(&self.image) {
            Some(common) if *self != Self::default() => image.with_file_name(format!("{common}{}", self.mask)),
            _ => image.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::tests::tree;
    use crate::unwatched;

    fn scan(root: &Path, folders: &MaskFolders, val_split: Option<f64>) -> std::result::Result<Listing, String> {
        let val_split = val_split.and_then(ValSplit::new);
        Listing::scan_masks(root, folders, val_split, &unwatched).map_err(|error| error.to_string())
    }

    fn pairs(samples: &[Sample]) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        samples.iter().map(|sample| (text(&sample.path), text(&sample.mask.as_ref().unwrap().path))).collect()
    }

    #[test]
    fn masks_are_found_in_every_layout() {
        let usual = MaskFolders::default();
        let cases: [(&[&str], &[(&str, &str)]); 7] = [
            (
                &["train/images/b.jpg", "train/images/a.jpg", "train/masks/a.png", "train/masks/b.png"],
                &[("train/images/a.jpg", "train/masks/a.png"), ("train/images/b.jpg", "train/masks/b.png")],
            ),
            (
                &[
                    "images/training/a.jpg",
                    "annotations/training/a.png",
                    "images/validation/v.jpg",
                    "annotations/validation/v.png",
                ],
                &[("images/training/a.jpg", "annotations/training/a.png")],
            ),
            (
                &["JPEGImages/a.jpg", "SegmentationClass/a.png", "Annotations/a.xml", "Masks/"],
                &[("JPEGImages/a.jpg", "SegmentationClass/a.png")],
            ),
            (&["Train/Images/a.jpg", "Train/Masks/a.png"], &[("Train/Images/a.jpg", "Train/Masks/a.png")]),
            (
                &["images/1.jpg", "images/10.jpg", "masks/1_mask.png", "masks/10_mask.png"],
                &[("images/1.jpg", "masks/1_mask.png"), ("images/10.jpg", "masks/10_mask.png")],
            ),
            (
                &[
                    "leftImg8bit/train/aachen/a_0_leftImg8bit.png",
                    "gtFine/train/aachen/a_0_gtFine_labelTrainIds.png",
                    "leftImg8bit/train/bonn/b_1_leftImg8bit.png",
                    "gtFine/train/bonn/b_1_gtFine_labelTrainIds.png",
                ],
                &[
                    (
                        "leftImg8bit/train/aachen/a_0_leftImg8bit.png",
                        "gtFine/train/aachen/a_0_gtFine_labelTrainIds.png",
                    ),
                    ("leftImg8bit/train/bonn/b_1_leftImg8bit.png", "gtFine/train/bonn/b_1_gtFine_labelTrainIds.png"),
                ],
            ),
            (
                &["train/images/site one/x.tif", "train/masks/site one/x.tif", "train/masks/site one/y.tif"],
                &[("train/images/site one/x.tif", "train/masks/site one/x.tif")],
            ),
        ];
        for (files, expected) in cases {
            let root = tree(files);
            let listing = scan(root.path(), &usual, None).unwrap();
            let expected: Vec<_> = expected.iter().map(|(image, mask)| (image.to_string(), mask.to_string())).collect();
            assert_eq!(pairs(&listing.train), expected);
            assert_eq!(listing.val.len(), files.iter().filter(|file| file.contains("v.jpg")).count());
            assert!(Listing::from_bytes(root.path(), &listing.to_bytes()).unwrap() == listing);
        }
    }

    #[test]
    fn folders_and_lists_say_otherwise() {
        let root = tree(&["pics/a.jpg", "pics/b.jpg", "trimaps/deep/a.png", "trimaps/deep/b.png"]);
        let folders = MaskFolders { images: Some("pics".to_owned()), masks: Some("trimaps/deep".to_owned()) };
        let listing = scan(root.path(), &folders, Some(0.5)).unwrap();
        assert_eq!((listing.train.len(), listing.val.len()), (1, 1));
        std::fs::write(root.path().join("train.tsv"), "pics/b.jpg\ttrimaps/deep/a.png\n").unwrap();
        let listing = scan(root.path(), &MaskFolders::default(), None).unwrap();
        assert_eq!(pairs(&listing.train), [("pics/b.jpg".to_owned(), "trimaps/deep/a.png".to_owned())]);
    }

    #[test]
    fn faults_of_folders() {
        let cases: [(&[&str], &str); 11] = [
            (&["other/a.jpg"], "no images and masks to train on; --task segment wants DIR/train/images/*"),
            (
                &["images/trainval/a.jpg", "masks/trainval/a.png", "images/val/b.jpg", "masks/val/b.png"],
                "no images and masks to train",
            ),
            (&["images/a_1.jpg", "masks/a_2.png"], "a_1.jpg: has no mask; "),
            (
                &["images/a.jpg", "images/b.jpg", "images/c.jpg", "masks/b.png", "masks/c.png", "masks/a_0.png"],
                "images/a.jpg: has no mask; ",
            ),
            (&["pets/images/a.jpg", "pets/annotations/trimaps/a.png"], "no images and masks to train on"),
            (
                &["images/a.jpg", "annotations/trimaps/a.png"],
                "annotations/trimaps/a.png is: do --images and --labels name",
            ),
            (&["train/images/a.jpg"], "no folder of masks beside it (looked for: masks, mask,"),
            (&["train/images/a.jpg", "train/masks/b.png"], "a.jpg: has no mask; "),
            (&["train/images/a.jpg", "train/masks/a.png", "train/masks/a.tif"], "two masks of one name"),
            (
                &["train/images/a.jpg", "train/masks/a_ids.png", "train/masks/a_color.png"],
                "is the mask of a the one that ends in '_color' or the one that ends in '_ids'?",
            ),
            (&["images/a.jpg", "images/b.jpg", "masks/a_m.png"], "b.jpg: has no mask; "),
        ];
        for (files, words) in cases {
            let reason = scan(tree(files).path(), &MaskFolders::default(), None).unwrap_err();
            assert!(reason.contains(words) && !reason.contains('\n'), "{reason}");
        }
        let root = tree(&["train/images/a.jpg", "train/masks/a.png", "val/images/b.jpg", "val/masks/b.png"]);
        let reason = scan(root.path(), &MaskFolders::default(), Some(0.1)).unwrap_err();
        assert!(reason.ends_with("has images to validate on; leave --val-split out"), "{reason}");
    }
}
