//! The cache: a folder of pictures, decoded once, as one HDF5 file that any HDF5 tool opens.
//!
//! ```text
//! /                      attributes: format, version, fingerprint, side
//! /classes               names, in label order
//! /train, /val           pixels  u8 N×side×side×3, contiguous, RGB
//!                        labels  i64 N
//!                        paths   N, below the folder
//! ```
//!
//! HDF5 writes and reads the structure. The pixels lie contiguous in the file, so they are written and mapped at their
//! offset by many threads at once, past the library's one lock.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use hdf5::dataset::{AllocTime, FillTime};
use hdf5::types::VarLenUnicode;
use memmap2::Mmap;
use rayon::prelude::*;

use crate::decode::decode_square;
use crate::folder::{Folder, Sample};
use crate::{Dataset, Error, ImageSet, Result};

const FORMAT: &str = "rust-train pixels";
/// Changes with the layout of the file and with anything in decoding that changes pixels.
const VERSION: u32 = 1;
/// Pictures that a thread decodes before it writes them in one call.
const PICTURES_PER_WRITE: usize = 64;

/// What [`open`] found.
#[derive(Debug)]
pub enum Found {
    /// A cache of exactly these pictures.
    Current(Dataset),
    /// No file.
    Nothing,
    /// A file that is no cache of these pictures, and why.
    Stale(String),
}

/// The fingerprint of a cache of `folder` with pictures of `side`×`side` pixels.
pub fn fingerprint(folder: &Folder, side: usize) -> String {
    folder.fingerprint(&format!("{FORMAT} {VERSION}, side {side}"))
}

/// Opens the cache at `path` if it is the one with this `fingerprint`. Pixels are mapped, not read.
///
/// # Errors
/// A file that cannot be read at all.
pub fn open(path: &Path, fingerprint: &str) -> Result<Found> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(Found::Nothing),
        Err(error) => return Err(Error::io(path, "looking for the cache")(error)),
    }
    let file = match hdf5::File::open(path) {
        Ok(file) => file,
        Err(error) => return Ok(Found::Stale(format!("it is no HDF5 file: {error}"))),
    };
    match read(&file, path, fingerprint) {
        Ok(found) => Ok(found),
        Err(Error::Hdf5 { source, .. }) => Ok(Found::Stale(format!("it is not laid out as a cache: {source}"))),
        Err(Error::Cache { reason, .. }) => Ok(Found::Stale(reason)),
        Err(error) => Err(error),
    }
}

fn read(file: &hdf5::File, path: &Path, fingerprint: &str) -> Result<Found> {
    let text = |name| Ok(file.attr(name)?.read_scalar::<VarLenUnicode>()?.to_string());
    let hdf5 = |source| Error::Hdf5 { path: path.to_owned(), source };
    let format: String = text("format").map_err(hdf5)?;
    let version: u32 = file.attr("version").and_then(|attr| attr.read_scalar()).map_err(hdf5)?;
    if (format.as_str(), version) != (FORMAT, VERSION) {
        return Ok(Found::Stale(format!("it is of another format: {format}, version {version}")));
    }
    if text("fingerprint").map_err(hdf5)? != fingerprint {
        return Ok(Found::Stale("the pictures, their classes or the settings have changed since".to_owned()));
    }
    let side: u64 = file.attr("side").and_then(|attr| attr.read_scalar()).map_err(hdf5)?;
    let classes: Vec<VarLenUnicode> = file.dataset("classes").and_then(|dataset| dataset.read_raw()).map_err(hdf5)?;
    let split = |name: &str| read_split(file, path, name, side as usize, classes.len());
    let (train, val) = (split("train")?, split("val")?);
    let classes = classes.iter().map(ToString::to_string).collect();
    Ok(Found::Current(Dataset { classes, train, val }))
}

fn read_split(file: &hdf5::File, path: &Path, name: &str, side: usize, classes: usize) -> Result<ImageSet> {
    let hdf5 = |source| Error::Hdf5 { path: path.to_owned(), source };
    let broken = |reason: &str| Error::Cache { path: path.to_owned(), reason: format!("/{name}: {reason}") };
    let group = file.group(name).map_err(hdf5)?;
    let labels: Vec<i64> = group.dataset("labels").and_then(|dataset| dataset.read_raw()).map_err(hdf5)?;
    if labels.iter().any(|&label| usize::try_from(label).map_or(true, |label| label >= classes)) {
        return Err(broken("a label is no class"));
    }
    let pixels = group.dataset("pixels").map_err(hdf5)?;
    if pixels.shape() != [labels.len(), side, side, 3] || pixels.dtype().map_err(hdf5)?.size() != 1 {
        return Err(broken("pixels and labels do not fit together"));
    }
    let range = bytes_of(&pixels).ok_or_else(|| broken("the pixels are not contiguous in the file"))?;
    let file = File::open(path).map_err(Error::io(path, "opening the cache"))?;
    #[expect(unsafe_code, reason = "mapping a file")]
    // SAFETY: the map is read as plain bytes, for which every content is valid. A cache is replaced by renaming and
    // never changed in place, so the bytes stay as they are; whoever truncates a file that a job reads ends that job.
    let mapping = unsafe { Mmap::map(&file) }.map_err(Error::io(path, "mapping the cache"))?;
    if mapping.len() < range.end {
        return Err(broken("the file is cut off"));
    }
    Ok(ImageSet::from_mapping(mapping, range, labels, side))
}

/// Where the bytes of a contiguous dataset lie in its file.
fn bytes_of(dataset: &hdf5::Dataset) -> Option<Range<usize>> {
    let offset = usize::try_from(dataset.offset()?).ok()?;
    Some(offset..offset.checked_add(dataset.size())?)
}

/// Builds the cache of `folder` at `path`: complete, or not at all. Decodes on the current rayon pool. `progress` is
/// called with the number of pictures done.
///
/// # Errors
/// A picture that cannot be decoded, a full disk, or a file that cannot be written.
pub fn build(folder: &Folder, side: usize, path: &Path, progress: &(dyn Fn(usize) + Sync)) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(Error::io(parent, "making the folder of the cache"))?;
    refuse_full_disk(parent, (folder.train.len() + folder.val.len()) * side * side * 3)?;
    // A unique name that no reader looks for, in the same folder, so that renaming is atomic. It goes when dropped.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".part")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)) // the umask takes its part
        .tempfile_in(parent)
        .map_err(Error::io(parent, "making the cache"))?;
    let offsets = lay_out(folder, side, temporary.path())?;

    let file = File::options().write(true).open(temporary.path()).map_err(Error::io(path, "opening the cache"))?;
    let done = AtomicUsize::new(0);
    for (samples, offset) in [&folder.train, &folder.val].into_iter().zip(offsets) {
        write_pixels(&folder.root, samples, side, &file, offset, &|pictures| {
            progress(done.fetch_add(pictures, Ordering::Relaxed) + pictures);
        })
        .map_err(|error| match error {
            Error::Io { doing, source, .. } => Error::Io { path: path.to_owned(), doing, source },
            other => other,
        })?;
    }
    file.sync_all().map_err(Error::io(path, "writing the cache to disk"))?;
    temporary.persist(path).map_err(|error| Error::io(path, "giving the cache its name")(error.error))?;
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(Error::io(parent, "writing the folder to disk"))
}

fn refuse_full_disk(folder: &Path, bytes: usize) -> Result<()> {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) }; // the write itself will tell
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < bytes as u64 {
        let (needed, free) = (bytes >> 20, free >> 20);
        return Err(Error::Input(format!(
            "{}: the cache needs {needed} MiB and {free} MiB are free; name another folder with --cache",
            folder.display()
        )));
    }
    Ok(())
}

/// Writes everything but the pixels, and reserves their place; says where it lies, for train and val.
fn lay_out(folder: &Folder, side: usize, path: &Path) -> Result<[u64; 2]> {
    let layout = || -> hdf5::Result<[Option<u64>; 2]> {
        let file = hdf5::File::create(path)?;
        let text =
            |name: &str, value: &str| file.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&unicode(value));
        text("format", FORMAT)?;
        text("fingerprint", &fingerprint(folder, side))?;
        file.new_attr::<u32>().create("version")?.write_scalar(&VERSION)?;
        file.new_attr::<u64>().create("side")?.write_scalar(&(side as u64))?;
        let classes: Vec<_> = folder.classes.iter().map(|class| unicode(class)).collect();
        file.new_dataset_builder().with_data(&classes).create("classes")?;
        let mut offsets = [None, None];
        for (offset, (name, samples)) in offsets.iter_mut().zip([("train", &folder.train), ("val", &folder.val)]) {
            let group = file.create_group(name)?;
            let labels: Vec<_> = samples.iter().map(|sample| sample.class as i64).collect();
            let paths: Vec<_> = samples.iter().map(|sample| unicode(&sample.path.to_string_lossy())).collect();
            group.new_dataset_builder().with_data(&labels).create("labels")?;
            group.new_dataset_builder().with_data(&paths).create("paths")?;
            let pixels = group
                .new_dataset::<u8>()
                .shape([samples.len(), side, side, 3])
                .alloc_time(Some(AllocTime::Early))
                .fill_time(FillTime::Never)
                .create("pixels")?;
            *offset = pixels.offset();
        }
        file.close()?;
        Ok(offsets)
    };
    let offsets = layout().map_err(|source| Error::Hdf5 { path: path.to_owned(), source })?;
    let missing = || Error::Cache { path: path.to_owned(), reason: "HDF5 gave the pixels no place".to_owned() };
    Ok([offsets[0].ok_or_else(missing)?, offsets[1].ok_or_else(missing)?])
}

/// A string for HDF5, which ends strings at a zero byte: no class and no path can hold one.
fn unicode(text: &str) -> VarLenUnicode {
    text.replace('\0', "").parse().unwrap_or_default()
}

fn write_pixels(
    root: &Path,
    samples: &[Sample],
    side: usize,
    file: &File,
    offset: u64,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<()> {
    let bytes = side * side * 3;
    samples.par_chunks(PICTURES_PER_WRITE).enumerate().try_for_each(|(index, samples)| {
        let mut pixels = vec![0; samples.len() * bytes];
        for (out, sample) in pixels.chunks_exact_mut(bytes).zip(samples) {
            let path = root.join(&sample.path);
            let encoded = std::fs::read(&path).map_err(Error::io(&path, "reading the picture"))?;
            decode_square(&encoded, side, out).map_err(|reason| Error::Picture { path, reason })?;
        }
        let place = offset + (index * PICTURES_PER_WRITE * bytes) as u64;
        file.write_all_at(&pixels, place).map_err(Error::io(root, "writing the cache"))?;
        progress(samples.len());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Two classes of pictures of 6×4 pixels, each filled with a number of its own.
    fn folder() -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().unwrap();
        for (split, count) in [("train", 70u8), ("val", 3)] {
            for (class, base) in [("ant", 0), ("bee", 100)] {
                let folder = root.path().join(split).join(class);
                fs::create_dir_all(&folder).unwrap();
                for number in 0..count {
                    let picture = image::RgbImage::from_pixel(6, 4, image::Rgb([base + number, number, 9]));
                    picture.save(folder.join(format!("{number:03}.png"))).unwrap();
                }
            }
        }
        let scanned = Folder::scan(root.path(), None).unwrap();
        (root, scanned)
    }

    fn current(path: &Path, fingerprint: &str) -> Dataset {
        match open(path, fingerprint).unwrap() {
            Found::Current(dataset) => dataset,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_built_is_opened() {
        let (root, folder) = folder();
        let path = root.path().join("cache/pixels.h5");
        let done = AtomicUsize::new(0);
        build(&folder, 4, &path, &|count| {
            done.fetch_max(count, Ordering::Relaxed);
        })
        .unwrap();
        assert_eq!(done.into_inner(), 146);
        let dataset = current(&path, &fingerprint(&folder, 4));
        assert_eq!(dataset.classes, ["ant", "bee"]);
        assert_eq!((dataset.train.len(), dataset.val.len()), (140, 6));
        for index in [0, 69, 70, 139] {
            let number = (index % 70) as u8;
            let label = dataset.train.labels()[index];
            assert_eq!(label, i64::from(index >= 70));
            let expected = [label as u8 * 100 + number, number, 9].repeat(16);
            assert_eq!(dataset.train.picture(index), expected, "picture {index}");
        }
        let left: Vec<_> = fs::read_dir(root.path().join("cache")).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing but the cache is left: {left:?}");
    }

    #[test]
    fn a_cache_of_something_else_is_not_used() {
        let (root, folder) = folder();
        let path = root.path().join("pixels.h5");
        let wanted = fingerprint(&folder, 4);
        assert!(matches!(open(&path, &wanted).unwrap(), Found::Nothing));
        build(&folder, 4, &path, &|_| {}).unwrap();
        let stale = |words: &str| match open(&path, &wanted).unwrap() {
            Found::Stale(reason) => assert!(reason.contains(words), "{reason}"),
            other => panic!("{other:?}"),
        };
        assert!(matches!(open(&path, "of other pictures").unwrap(), Found::Stale(_)));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 100]).unwrap();
        stale(""); // HDF5 or we notice, depending on its version
        fs::write(&path, b"no HDF5").unwrap();
        stale("it is no HDF5 file");
        fs::remove_file(&path).unwrap();
        hdf5::File::create(&path).unwrap();
        stale("it is not laid out as a cache");
        build(&folder, 4, &path, &|_| {}).unwrap();
        current(&path, &wanted);
    }

    #[test]
    fn a_broken_picture_is_named_and_leaves_no_cache() {
        let (root, folder) = folder();
        let path = root.path().join("pixels.h5");
        fs::write(root.path().join("val/bee/001.png"), b"broken").unwrap();
        let error = build(&folder, 4, &path, &|_| {}).unwrap_err();
        assert!(error.is_bad_input());
        assert!(error.to_string().contains("val/bee/001.png: not a readable picture"), "{error}");
        let left = fs::read_dir(root.path()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()).count();
        assert_eq!(left, 0, "neither a cache nor a part of one is left");
    }
}
