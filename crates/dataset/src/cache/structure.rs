//! The structure of a cache file, written and read through HDF5. Images are not touched here.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::Pod;
use hdf5::dataset::{AllocTime, FillTime};
use hdf5::{File, Group, H5Type, Location};

use super::trailer;
use super::{BadImage, Contents, Of, Origin, Spec};
use crate::archive::Member;
use crate::h5::{self, bytes_of, paths, set_text, text, texts, values, write_paths, write_texts};
use crate::images::{
    ArrayLayout, Axes, Bytes, Checks, Element, MaskSet, MaskStore, PerImage, Store, TargetRows, for_element,
};
use crate::scan::{Listing, MaskFile, Sample};
use crate::{Dataset, Decoding, Error, ImageSet, MaskValues, Result, Size, Split};

pub(super) const FORMAT: &str = "rust-train cache";

/// Where a split's images and checksums lie in the file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub data: u64,
    pub checksums: u64,
}

/// The splits that have a group in the file.
fn splits(file: &File) -> Vec<Split> {
    Split::ALL.into_iter().filter(|split| file.link_exists(split.name())).collect()
}

/// Writes everything but images and checksums, and reserves their place.
pub(super) fn lay_out(listing: &Listing, spec: &Spec, fingerprint: &str, path: &Path) -> hdf5::Result<()> {
    let file = h5::create(path)?;
    set_text(&file, "format", FORMAT)?;
    set_text(&file, "contents", spec.contents.name())?;
    set_text(&file, "settings", &spec.settings())?;
    set_text(&file, "fingerprint", fingerprint)?;
    file.new_attr::<u32>().create("version")?.write_scalar(&spec.version().number)?;
    write_texts(&file, "classes", listing.classes.iter().map(String::as_str))?;
    set_text(&file, "form", &spec.form())?;
    if !listing.folders.is_empty() {
        write_paths(&file, "folder", listing.folders.iter().map(|(path, _)| path.as_path()))?;
        let written: Vec<_> = listing.folders.iter().map(|&(_, written)| written).collect();
        file.new_dataset_builder().with_data(&written).create("folders_written")?;
    }
    if !listing.archives.is_empty() {
        write_paths(&file, "archive", listing.archives.iter().map(PathBuf::as_path))?;
    }
    for split in Split::ALL {
        let samples = listing.split(split);
        if samples.is_empty() {
            continue;
        }
        let group = file.create_group(split.name())?;
        let numbers = |name: &str, of: &dyn Fn(&Sample) -> u64| -> hdf5::Result<()> {
            let numbers: Vec<u64> = samples.iter().map(of).collect();
            group.new_dataset_builder().with_data(&numbers).create(name).map(drop)
        };
        numbers("sizes", &|sample| sample.size)?;
        numbers("modified", &|sample| sample.modified)?;
        if !listing.archives.is_empty() {
            let numbers_of = |name: &str, of: fn(Member) -> u64| numbers(name, &|sample| sample.member.map_or(0, of));
            numbers("archive", &|sample| sample.member.map_or(NO_ARCHIVE, |member| member.archive.into()))?;
            numbers_of("at", |member| member.at)?;
            numbers_of("packed", |member| member.packed)?;
        }
        let labels: Vec<_> = samples.iter().map(|sample| sample.class as i64).collect();
        group.new_dataset_builder().with_data(&labels).create("labels")?;
        let width = samples[0].targets.len();
        if width > 0 {
            let targets = samples.iter().flat_map(|sample| sample.targets.iter().copied()).collect();
            let targets = ndarray::Array2::from_shape_vec((samples.len(), width), targets)
                .map_err(|error| hdf5::Error::from(format!("labels of different lengths: {error}")))?;
            group.new_dataset_builder().with_data(&targets).create("targets")?;
        }
        write_paths(&group, "path", samples.iter().map(|sample| sample.path.as_path()))?;
        if spec.masks.is_some() {
            let masks = samples.iter().map(|sample| sample.mask.as_deref());
            let masks: Vec<&MaskFile> = masks.collect::<Option<_>>().ok_or("an image has no mask")?;
            numbers("mask_sizes", &|sample| sample.mask.as_ref().map_or(0, |mask| mask.size))?;
            numbers("mask_modified", &|sample| sample.mask.as_ref().map_or(0, |mask| mask.modified))?;
            write_paths(&group, "mask_path", masks.iter().map(|mask| mask.path.as_path()))?;
        }
        for &of in spec.kinds() {
            reserve_all(&group, of, spec, samples)?;
        }
    }
    file.close()
}

/// Gives all images of a split, or their masks, their place in the file.
fn reserve_all(group: &Group, of: Of, spec: &Spec, samples: &[Sample]) -> hdf5::Result<()> {
    let name = |what: &str| format!("{}{what}", of.prefix());
    reserve::<u64>(group, &name("checksums"), &[samples.len()])?;
    let dataset = spec.contents.dataset(of);
    match (spec.contents, of) {
        (Contents::Pixels { side, .. }, Of::Masks) => reserve::<u8>(group, dataset, &[samples.len(), side, side])?,
        (Contents::Pixels { side, .. }, Of::Images) => match spec.kept() {
            None => reserve::<u8>(group, dataset, &[samples.len(), side, side, 3])?,
            Some(numbers) => {
                let shape = [samples.len(), numbers.channels, side, side];
                macro_rules! numbers {
                    ($number:ty) => {
                        reserve::<$number>(group, dataset, &shape)?
                    };
                }
                for_element!(numbers.element, numbers);
            }
        },
        (Contents::Encoded, _) => {
            let offsets = offsets(samples.iter().map(|sample| spec.bytes_of(of, sample)));
            group.new_dataset_builder().with_data(&offsets).create(name("offsets").as_str())?;
            reserve::<u8>(group, dataset, &[offsets.last().map_or(0, |&end| end as usize)])?;
        }
    }
    Ok(())
}

/// Gives a dataset its place in the file without writing to it.
fn reserve<T: H5Type>(group: &Group, name: &str, shape: &[usize]) -> hdf5::Result<()> {
    let dataset = group.new_dataset::<T>().shape(shape.to_vec());
    dataset.alloc_time(Some(AllocTime::Early)).fill_time(FillTime::Never).create(name).map(drop)
}

/// Where each of these many bytes begins when they lie one after the other, and where the last ends.
pub(super) fn offsets(sizes: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut end = 0;
    std::iter::once(0)
        .chain(sizes.map(|size| {
            end += size;
            end
        }))
        .collect()
}

/// The images of a split, or their masks, and where they lie.
pub(super) struct Planned {
    pub split: Split,
    pub of: Of,
    pub samples: Arc<[Sample]>,
    pub place: Place,
}

/// What a builder needs to know of a file that [`lay_out`] made.
pub(super) fn plan(path: &Path) -> Result<(Spec, Vec<PathBuf>, Vec<Planned>)> {
    let hdf5 = |source| Error::Hdf5 { path: path.to_owned(), source };
    let read = || -> hdf5::Result<_> {
        let file = h5::open(path)?;
        let spec = spec(&file)?;
        let mut parts = Vec::new();
        for split in splits(&file) {
            let group = file.group(split.name())?;
            let samples: Arc<[Sample]> = samples(&group)?.into();
            let place = |name: &str| {
                let missing = || hdf5::Error::from(format!("HDF5 gave {name} no place"));
                Ok::<_, hdf5::Error>(bytes_of(&group.dataset(name)?).ok_or_else(missing)?.start)
            };
            for &of in spec.kinds() {
                let checksums = format!("{}checksums", of.prefix());
                let place = Place { data: place(spec.contents.dataset(of))?, checksums: place(&checksums)? };
                parts.push(Planned { split, of, samples: Arc::clone(&samples), place });
            }
        }
        Ok((spec, archives(&file)?, parts))
    };
    read().map_err(hdf5)
}

/// The samples of a split, as they were listed when the cache was built.
pub(super) fn samples(group: &Group) -> hdf5::Result<Vec<Sample>> {
    let paths = paths(group, "path")?;
    let mut masks = masks(group, paths.len())?;
    let labels: Vec<i64> = values(group, "labels", paths.len())?;
    let sizes: Vec<u64> = values(group, "sizes", paths.len())?;
    let times: Vec<u64> = values(group, "modified", paths.len())?;
    let (width, targets) = targets(group, paths.len())?;
    let members = members(group, paths.len())?;
    let samples = paths.into_iter().zip(labels).zip(sizes.into_iter().zip(times)).enumerate();
    Ok(samples
        .map(|(index, ((path, label), (size, modified)))| Sample {
            path,
            class: usize::try_from(label).unwrap_or(usize::MAX),
            targets: targets[index * width..(index + 1) * width].into(),
            mask: masks.next(),
            size,
            modified,
            member: members.get(index).copied().flatten(),
        })
        .collect())
}

/// The archives that images were in.
fn archives(file: &File) -> hdf5::Result<Vec<PathBuf>> {
    if file.link_exists("archives") { paths(file, "archive") } else { Ok(Vec::new()) }
}

/// In the place of an archive's number, where an image is a file among others that are in archives.
const NO_ARCHIVE: u64 = u64::MAX;

/// Where the images of a split lay in archives; nothing where all were files.
fn members(group: &Group, count: usize) -> hdf5::Result<Vec<Option<Member>>> {
    if !group.link_exists("archive") {
        return Ok(Vec::new());
    }
    let archives: Vec<u64> = values(group, "archive", count)?;
    let (at, packed): (Vec<u64>, Vec<u64>) = (values(group, "at", count)?, values(group, "packed", count)?);
    let places = archives.into_iter().zip(at).zip(packed);
    let member =
        |((archive, at), packed)| (archive != NO_ARCHIVE).then_some(Member { archive: archive as u32, at, packed });
    Ok(places.map(member).collect())
}

/// The files of the masks, as they were listed; none where there are none.
fn masks(group: &Group, count: usize) -> hdf5::Result<impl Iterator<Item = Box<MaskFile>> + use<>> {
    let has_masks = group.link_exists("mask_paths");
    let paths = if has_masks { paths(group, "mask_path")? } else { Vec::new() };
    let numbers = |name: &str| if has_masks { values::<u64>(group, name, count) } else { Ok(Vec::new()) };
    let (sizes, times) = (numbers("mask_sizes")?, numbers("mask_modified")?);
    let files = paths.into_iter().zip(sizes).zip(times);
    Ok(files.map(|((path, size), modified)| Box::new(MaskFile { path, size, modified })))
}

/// How many numbers the label of each of `count` images has, and these.
fn targets(group: &Group, count: usize) -> hdf5::Result<(usize, Vec<f64>)> {
    if !group.link_exists("targets") {
        return Ok((0, Vec::new()));
    }
    let dataset = group.dataset("targets")?;
    let width = match dataset.shape()[..] {
        [rows, width] if rows == count => width,
        ref shape => return Err(format!("targets of the shape {shape:?} for {count} images").into()),
    };
    Ok((width, h5::numbers(&dataset)?))
}

fn spec(file: &File) -> hdf5::Result<Spec> {
    let settings = text(file, "settings")?;
    Spec::parse(&settings).ok_or_else(|| format!("unknown settings: {settings}").into())
}

/// Writes what is known when all images are written: which were skipped. Gives a split of which nothing is left, with the number of its images: then the file is no
/// cache.
pub(super) fn complete(path: &Path, bad: &[BadImage]) -> hdf5::Result<Option<(Split, usize)>> {
    let file = h5::open_to_write(path)?;
    for split in splits(&file) {
        let group = file.group(split.name())?;
        let bad: Vec<_> = bad.iter().filter(|image| image.split == split).collect();
        if bad.is_empty() {
            continue;
        }
        let dataset = group.dataset("labels")?;
        let mut labels: Vec<i64> = h5::numbers(&dataset)?;
        for image in &bad {
            labels[image.index] = -1;
        }
        if labels.iter().all(|&label| label < 0) {
            return Ok(Some((split, labels.len())));
        }
        dataset.write(&labels)?;
        let paths: Vec<_> = bad.iter().map(|image| image.path.to_string_lossy()).collect();
        write_texts(&group, "skipped", paths.iter().map(AsRef::as_ref))?;
        write_texts(&group, "skipped_reasons", bad.iter().map(|image| image.reason.as_str()))?;
    }
    file.close()?;
    Ok(None)
}

/// Where the images of each split lie in the file, in the order of the file.
pub(super) fn places(path: &Path) -> hdf5::Result<Vec<Range<u64>>> {
    let file = h5::open(path)?;
    let spec = spec(&file)?;
    let mut places = Vec::new();
    for split in splits(&file) {
        for &of in spec.kinds() {
            places.extend(bytes_of(&file.group(split.name())?.dataset(spec.contents.dataset(of))?));
        }
    }
    places.sort_unstable_by_key(|place| place.start);
    Ok(places)
}

/// What [`read_checked`] makes of a file.
pub(super) enum Read {
    Complete(Box<Dataset>),
    Unusable(String),
}

/// Reads a complete cache of this `fingerprint`, or of any. Images are mapped, not read.
pub(super) fn read_checked(path: &Path, fingerprint: Option<&str>, decoding: Option<Decoding>) -> Result<Read> {
    if let Err(reason) = trailer::check(path)? {
        return Ok(Read::Unusable(reason));
    }
    let file = match h5::open(path) {
        Ok(file) => file,
        Err(error) => return Ok(Read::Unusable(format!("HDF5 cannot open it: {error}"))),
    };
    match read(&file, path, fingerprint, decoding) {
        Ok(found) => Ok(found),
        Err(Error::Hdf5 { source, .. }) => Ok(Read::Unusable(format!("it is not laid out as a cache: {source}"))),
        Err(Error::Cache { reason, .. }) => Ok(Read::Unusable(reason)),
        Err(error) => Err(error),
    }
}

fn read(file: &File, path: &Path, fingerprint: Option<&str>, decoding: Option<Decoding>) -> Result<Read> {
    let hdf5 = |source| Error::Hdf5 { path: path.to_owned(), source };
    if fingerprint.is_some_and(|wanted| text(file, "fingerprint").is_ok_and(|found| found != wanted)) {
        return Ok(Read::Unusable("the images, their classes or the settings have changed since".to_owned()));
    }
    let built = spec(file).map_err(hdf5)?;
    let spec = Spec { decoding: decoding.unwrap_or(built.decoding), ..built };
    let classes = texts(file, "classes").map_err(hdf5)?;
    let set = |split: Split| {
        let group = file.group(split.name()).map_err(hdf5)?;
        read_split(&group, path, split, &spec, classes.len())
    };
    let optional = |split: Split| file.link_exists(split.name()).then(|| set(split)).transpose();
    let (train, val, test) = (set(Split::Train)?, optional(Split::Val)?, optional(Split::Test)?);
    let val = val.unwrap_or_else(ImageSet::empty);
    Ok(Read::Complete(Box::new(Dataset { classes, train, val, test })))
}

fn read_split(group: &Group, path: &Path, split: Split, spec: &Spec, classes: usize) -> Result<ImageSet> {
    let hdf5 = |source| Error::Hdf5 { path: path.to_owned(), source };
    let broken = |reason: &str| Error::cache(path, format!("/{}: {reason}", split.name()));
    let labels: PerImage<i64> = per_image(group, path, "labels", None)?;
    if labels.iter().any(|&label| label >= classes as i64 || label < -1) {
        return Err(broken("a label is not a class"));
    }
    let checksums = per_image(group, path, "checksums", Some(labels.len()))?;
    let data = group.dataset(spec.contents.dataset(Of::Images)).map_err(hdf5)?;
    let numbers = spec.kept().filter(|_| spec.contents != Contents::Encoded);
    if data.dtype().map_err(hdf5)?.size() != numbers.map_or(1, |numbers| numbers.element.width()) {
        return Err(broken("the images are of another type than the settings say"));
    }
    let place = bytes_of(&data).ok_or_else(|| broken("the images are not contiguous in the file"))?;
    let length = place.end - place.start;
    let bytes = Bytes::of_file(path, place)?;
    let store = match spec.contents {
        Contents::Pixels { side, .. } => {
            let shape = match numbers {
                None => [labels.len(), side, side, 3],
                Some(numbers) => [labels.len(), numbers.channels, side, side],
            };
            if data.shape() != shape {
                return Err(broken("pixels and labels do not fit together"));
            }
            let size = Size { width: side as u32, height: side as u32 };
            match numbers {
                None => Store::Pixels { bytes, size },
                Some(numbers) => {
                    let layout = ArrayLayout { numbers, axes: Axes::ChannelsFirst, size };
                    let numbers = spec.decoding.numbers.unwrap_or(numbers);
                    Store::Array { path: path.to_owned(), bytes, layout, numbers, on_nan: spec.decoding.on_nan }
                }
            }
        }
        Contents::Encoded => {
            let offsets: Vec<u64> = values(group, "offsets", labels.len() + 1).map_err(hdf5)?;
            if !are_offsets(&offsets, length) {
                return Err(broken("the offsets of the images do not fit to their bytes"));
            }
            Store::Encoded { bytes, offsets, decoding: spec.decoding }
        }
    };
    let checks = Checks::new(path.to_owned(), split, checksums);
    let (width, targets) = targets(group, labels.len()).map_err(hdf5)?;
    let targets = (width > 0).then(|| TargetRows::new(targets, width));
    let masks =
        spec.masks.as_ref().map(|values| read_masks(group, path, split, spec, labels.len(), values)).transpose()?;
    Ok(ImageSet::of_store(store, labels, Some(checks)).with_targets(targets).with_masks(masks))
}

/// Numbers of which each of so many images has one, where they lie, or if they are not there as they are used, on the heap.
fn per_image<T: H5Type + Pod>(group: &Group, path: &Path, name: &str, count: Option<usize>) -> Result<PerImage<T>> {
    let hdf5 = |source| Error::Hdf5 { path: path.to_owned(), source };
    let dataset = group.dataset(name).map_err(hdf5)?;
    let count = count.unwrap_or_else(|| dataset.size());
    let is_plain = dataset.dtype().is_ok_and(|kind| kind.is::<T>()) && dataset.shape() == [count];
    if let Some(place) = bytes_of(&dataset).filter(|_| is_plain)
        && let Some(mapped) = PerImage::mapped(Bytes::of_file(path, place)?)
    {
        return Ok(mapped);
    }
    values(group, name, count).map(PerImage::from).map_err(hdf5)
}

/// Whether files that are so many bytes together begin there.
fn are_offsets(offsets: &[u64], length: u64) -> bool {
    offsets.is_sorted() && offsets.first() == Some(&0) && offsets.last() == Some(&length)
}

/// The masks of a split of so many images.
fn read_masks(
    group: &Group,
    path: &Path,
    split: Split,
    spec: &Spec,
    count: usize,
    of_classes: &MaskValues,
) -> Result<MaskSet> {
    let hdf5 = |source| Error::Hdf5 { path: path.to_owned(), source };
    let broken = |reason: &str| Error::cache(path, format!("/{}: {reason}", split.name()));
    let checksums = per_image(group, path, "mask_checksums", Some(count))?;
    let data = group.dataset(spec.contents.dataset(Of::Masks)).map_err(hdf5)?;
    let place = bytes_of(&data).ok_or_else(|| broken("the masks are not contiguous in the file"))?;
    let length = place.end - place.start;
    if data.dtype().map_err(hdf5)?.size() != 1 {
        return Err(broken("the masks are no bytes"));
    }
    let bytes = Bytes::of_file(path, place)?;
    let store = match spec.contents {
        Contents::Pixels { side, .. } => {
            if data.shape() != [count, side, side] {
                return Err(broken("masks and labels do not fit together"));
            }
            MaskStore::Classes { bytes, size: Size { width: side as u32, height: side as u32 } }
        }
        Contents::Encoded => {
            let offsets: Vec<u64> = values(group, "mask_offsets", count + 1).map_err(hdf5)?;
            if !are_offsets(&offsets, length) {
                return Err(broken("the offsets of the masks do not fit to their bytes"));
            }
            MaskStore::Encoded { bytes, offsets }
        }
    };
    let checks = Checks::new(path.to_owned(), split, checksums);
    Ok(MaskSet::new(store, Some(of_classes.clone()), Some(checks)))
}

/// What was skipped when the cache was built: paths and reasons.
pub(super) fn skipped(path: &Path) -> hdf5::Result<Vec<(String, String)>> {
    let file = h5::open(path)?;
    let mut skipped = Vec::new();
    for split in splits(&file) {
        let group = file.group(split.name())?;
        if group.link_exists("skipped") {
            skipped.extend(texts(&group, "skipped")?.into_iter().zip(texts(&group, "skipped_reasons")?));
        }
    }
    Ok(skipped)
}

/// What a cache says of the folders that it was built from; none where it was built from something else.
pub(super) fn origin(path: &Path) -> hdf5::Result<Origin> {
    let file = h5::open(path)?;
    let folders = if file.link_exists("folders") { paths(&file, "folder")? } else { Vec::new() };
    let written = if folders.is_empty() { Vec::new() } else { values(&file, "folders_written", folders.len())? };
    Ok(Origin {
        fingerprint: text(&file, "fingerprint")?,
        form: text(&file, "form")?,
        classes: texts(&file, "classes")?,
        train: file.group(Split::Train.name())?.dataset("labels")?.size(),
        folders: folders.into_iter().zip(written).collect(),
    })
}

/// What a cache was built from: its settings and its listing.
pub(super) fn built_from(path: &Path) -> hdf5::Result<(String, Listing)> {
    let file = h5::open(path)?;
    let mut listing = Listing::of_classes(Path::new(""), texts(&file, "classes")?);
    listing.archives = archives(&file)?;
    for split in splits(&file) {
        *listing.split_mut(split) = samples(&file.group(split.name())?)?;
    }
    let location: &Location = &file;
    Ok((text(location, "settings")?, listing))
}
