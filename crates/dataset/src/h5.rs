//! HDF5, as far as caches and other people's files need it.
//!
//! Files are opened without HDF5's own locks: parallel file systems without them would refuse, and nobody writes to a
//! file that another reads. A cache gets its name when it is complete, and is never changed after.

use std::ffi::{OsString, c_char};
use std::fs::OpenOptions;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenArray, VarLenAscii, VarLenUnicode};
use hdf5::{Container, Dataset, File, FileBuilder, Group, H5Type, Location};

fn without_locks() -> FileBuilder {
    let mut options = File::with_options();
    options.with_fapl(|access| access.file_locking(false));
    options
}

pub(crate) fn open(path: &Path) -> hdf5::Result<File> {
    by_text(path, OpenOptions::new().read(true), |path| without_locks().open(path))
}

pub(crate) fn open_to_write(path: &Path) -> hdf5::Result<File> {
    by_text(path, OpenOptions::new().read(true).write(true), |path| without_locks().open_rw(path))
}

/// A new file, in the layout of HDF5 1.8: every version reads it, and its structure has checksums of its own.
pub(crate) fn create(path: &Path) -> hdf5::Result<File> {
    by_text(path, OpenOptions::new().read(true).write(true).create(true), |path| {
        without_locks().with_fapl(|access| access.file_locking(false).libver_v18()).create(path)
    })
}

/// Opens a file under a name that is UTF-8, which is what HDF5's binding wants: where its own is not, by its number in
/// this process.
fn by_text(path: &Path, options: &OpenOptions, open: impl FnOnce(&Path) -> hdf5::Result<File>) -> hdf5::Result<File> {
    if path.to_str().is_some() {
        return open(path);
    }
    let file = options.open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    let opened = open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())));
    // By this name HDF5 knows the file from here on, and whoever asks it: it must stay one.
    std::mem::forget(file);
    opened
}

/// A string for HDF5, which ends strings at a zero byte: no class and no path can hold one.
pub(crate) fn unicode(text: &str) -> VarLenUnicode {
    text.replace('\0', "").parse().unwrap_or_default()
}

pub(crate) fn set_text(location: &Location, name: &str, text: &str) -> hdf5::Result<()> {
    let attribute = match location.attr(name) {
        Ok(attribute) => attribute,
        Err(_) => location.new_attr::<VarLenUnicode>().create(name)?,
    };
    attribute.write_scalar(&unicode(text))
}

pub(crate) fn text(location: &Location, name: &str) -> hdf5::Result<String> {
    Ok(location.attr(name)?.read_scalar::<VarLenUnicode>()?.to_string())
}

/// All texts of a dataset of a cache.
pub(crate) fn texts(group: &Group, name: &str) -> hdf5::Result<Vec<String>> {
    let dataset = group.dataset(name)?;
    // Each takes 16 bytes in the file, before its letters.
    refuse_more_than(&dataset, file_length(&dataset)? / 16)?;
    let texts: Vec<VarLenUnicode> = dataset.read_raw()?;
    Ok(texts.iter().map(ToString::to_string).collect())
}

/// All texts of a dataset of somebody else's file, whose memory is counted: a hundred thousand of them can be one and the
/// same megabyte in the file.
pub(crate) fn texts_within(dataset: &Dataset, memory: &mut u64) -> Result<Vec<String>, String> {
    /// What a text takes beside its letters: its place in two lists, and what the allocator adds twice.
    const EACH: u64 = 128;
    let words = |error: hdf5::Error| error.to_string();
    let length = file_length(dataset).map_err(words)?;
    let read = reader(dataset)?;
    if dataset.ndim() != 1 {
        return Err(format!("it has the shape {:?}, and is not a list", dataset.shape()));
    }
    let (count, mut texts) = (dataset.size() as u64, Vec::new());
    let too_much = || format!("its {count} texts take more memory than 64 MB and 4 times the file");
    *memory = memory.checked_sub(count.saturating_mul(EACH)).ok_or_else(too_much)?;
    while (texts.len() as u64) < count {
        // No text is longer than the file, so many at a time cannot take more than is left.
        let start = texts.len();
        let step = (*memory / (2 * length.max(1024))).clamp(1, 1024).min(count - start as u64) as usize;
        let part = read(start..start + step).map_err(words)?;
        let bytes: usize = part.iter().map(String::len).sum();
        *memory = memory.checked_sub(bytes as u64).ok_or_else(too_much)?;
        texts.extend(part);
    }
    Ok(texts)
}

/// Some texts of a list of them.
type Texts<'d> = Box<dyn Fn(Range<usize>) -> hdf5::Result<Vec<String>> + 'd>;

/// How the texts of a dataset are read: of any length or of a fixed one, ASCII or UTF-8. HDF5 converts neither to the other.
fn reader(dataset: &Dataset) -> Result<Texts<'_>, String> {
    /// A fixed length that is longer is none of names.
    const LONGEST: usize = 1024;
    fn of<T: H5Type>(dataset: &Dataset, bytes: fn(&T) -> &[u8]) -> Texts<'_> {
        let text = move |text: &T| String::from_utf8_lossy(bytes(text)).trim_end().to_owned();
        Box::new(move |range| Ok(dataset.read_slice_1d::<T, _>(range)?.iter().map(text).collect()))
    }
    let kind = dataset.dtype().and_then(|dtype| dtype.to_descriptor()).map_err(|error| error.to_string())?;
    match kind {
        TypeDescriptor::VarLenUnicode => Ok(of::<VarLenUnicode>(dataset, |text| text.as_bytes())),
        TypeDescriptor::VarLenAscii => Ok(of::<VarLenAscii>(dataset, |text| text.as_bytes())),
        TypeDescriptor::FixedAscii(length) if length <= LONGEST => {
            Ok(of::<FixedAscii<LONGEST>>(dataset, |text| text.as_bytes()))
        }
        TypeDescriptor::FixedUnicode(length) if length <= LONGEST => {
            Ok(of::<FixedUnicode<LONGEST>>(dataset, |text| text.as_bytes()))
        }
        TypeDescriptor::FixedAscii(length) | TypeDescriptor::FixedUnicode(length) => {
            Err(format!("its texts have {length} bytes each, and names may have {LONGEST}"))
        }
        other => Err(format!("its values are {other}, and no texts")),
    }
}

pub(crate) fn write_texts<'a>(group: &Group, name: &str, texts: impl Iterator<Item = &'a str>) -> hdf5::Result<()> {
    let texts: Vec<_> = texts.map(unicode).collect();
    group.new_dataset_builder().with_data(&texts).create(name)?;
    Ok(())
}

/// Writes paths of which each is `what` (`path`) as text, for everybody to read. If some are not UTF-8, their text is not all of
/// them: then the bytes of all stand beside it.
pub(crate) fn write_paths<'a>(
    group: &Group,
    what: &str,
    paths: impl Iterator<Item = &'a Path> + Clone,
) -> hdf5::Result<()> {
    let words: Vec<_> = paths.clone().map(Path::to_string_lossy).collect();
    write_texts(group, &format!("{what}s"), words.iter().map(AsRef::as_ref))?;
    if paths.clone().any(|path| path.to_str().is_none()) {
        let bytes: Vec<VarLenArray<u8>> = paths.map(|path| path.as_os_str().as_bytes().into()).collect();
        group.new_dataset_builder().with_data(&bytes).create(format!("{what}_bytes").as_str())?;
    }
    Ok(())
}

/// The paths that [`write_paths`] wrote.
pub(crate) fn paths(group: &Group, what: &str) -> hdf5::Result<Vec<PathBuf>> {
    let bytes = format!("{what}_bytes");
    if group.link_exists(&bytes) {
        let paths: Vec<VarLenArray<u8>> = group.dataset(&bytes)?.read_raw()?;
        return Ok(paths.into_iter().map(path_of_bytes).collect());
    }
    Ok(texts(group, &format!("{what}s"))?.into_iter().map(PathBuf::from).collect())
}

/// Some of the paths that [`write_paths`] wrote: `None` for those that cannot be read.
pub(crate) fn paths_at(group: &Group, places: &[usize]) -> hdf5::Result<Vec<Option<PathBuf>>> {
    let is_text = !group.link_exists("path_bytes");
    let dataset = group.dataset(if is_text { "paths" } else { "path_bytes" })?;
    let path = |&place: &usize| {
        if is_text {
            let paths = dataset.read_slice_1d::<VarLenUnicode, _>(place..place + 1).ok()?;
            return Some(PathBuf::from(paths[0].as_str()));
        }
        let paths = dataset.read_slice_1d::<VarLenArray<u8>, _>(place..place + 1).ok()?;
        Some(path_of_bytes(paths[0].clone()))
    };
    Ok(places.iter().map(path).collect())
}

fn path_of_bytes(bytes: VarLenArray<u8>) -> PathBuf {
    OsString::from_vec(bytes.into()).into()
}

/// All values of a dataset of one dimension, whose number must be `length`: a file cannot make us allocate more.
pub(crate) fn values<T: H5Type>(group: &Group, name: &str, length: usize) -> hdf5::Result<Vec<T>> {
    let dataset = group.dataset(name)?;
    if dataset.shape() != [length] {
        return Err(hdf5::Error::from(format!("{name} is {:?}, and not {length}", dataset.shape())));
    }
    refuse_more_than(&dataset, file_length(&dataset)? / size_of::<T>() as u64)?;
    dataset.read_raw()
}

/// All numbers of a dataset of a cache, which holds them as they are: there are no more than the file has room for.
pub(crate) fn numbers<T: H5Type>(dataset: &Dataset) -> hdf5::Result<Vec<T>> {
    refuse_more_than(dataset, file_length(dataset)? / size_of::<T>() as u64)?;
    dataset.read_raw()
}

fn refuse_more_than(dataset: &Dataset, most: u64) -> hdf5::Result<()> {
    let count = dataset.shape().iter().try_fold(1_u64, |product, &side| product.checked_mul(side as u64));
    if count.is_none_or(|count| count > most) {
        let (name, shape) = (dataset.name(), dataset.shape());
        return Err(hdf5::Error::from(format!("{name} claims {shape:?} values, for which the file is too small")));
    }
    Ok(())
}

/// The file that a dataset lies in: another one, where a link led out of the file that was opened.
pub(crate) fn file_of(location: &Location) -> PathBuf {
    PathBuf::from(location.filename())
}

fn file_length(location: &Location) -> hdf5::Result<u64> {
    let path = file_of(location);
    let metadata = std::fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(metadata.len())
}

/// The largest piece of a dataset that HDF5 brings into memory at once, in bytes.
pub(crate) fn chunk_bytes(dataset: &Dataset) -> Option<u64> {
    let width = Container::dtype(dataset).ok()?.size() as u64;
    dataset.chunk()?.iter().try_fold(width, |product, &side| product.checked_mul(side as u64))
}

/// Where the bytes of a dataset lie in its file; `None` where it is in pieces, compressed or empty.
pub(crate) fn bytes_of(dataset: &Dataset) -> Option<Range<u64>> {
    let offset = dataset.offset()?;
    let width = Container::dtype(dataset).ok()?.size() as u64;
    let count = dataset.shape().iter().try_fold(width, |product, &length| product.checked_mul(length as u64))?;
    Some(offset..offset.checked_add(count)?)
}

/// The file and the array of each part of a virtual array, as it names them; none of any other array. Not by the binding's own function,
/// which fails at the selections that h5py writes.
#[expect(unsafe_code, reason = "asks HDF5 through its C interface")]
pub(crate) fn virtual_sources(dataset: &Dataset) -> hdf5::Result<Vec<(String, String)>> {
    use hdf5_sys::h5p::{H5Pget_virtual_count, H5Pget_virtual_dsetname, H5Pget_virtual_filename};
    if dataset.layout() != hdf5::dataset::Layout::Virtual {
        return Ok(Vec::new());
    }
    let made = dataset.create_plist()?;
    let id = made.id();
    let text = |of: &dyn Fn(*mut c_char, usize) -> isize| {
        let length = usize::try_from(of(std::ptr::null_mut(), 0)).map_err(|_| "a part of it has no name")?;
        let mut name = vec![0_u8; length + 1];
        of(name.as_mut_ptr().cast(), name.len());
        name.truncate(length);
        Ok::<_, hdf5::Error>(String::from_utf8_lossy(&name).into_owned())
    };
    hdf5::sync::sync(|| {
        let mut count = 0;
        // SAFETY: the list of properties is open, and the lock of HDF5 is held.
        if unsafe { H5Pget_virtual_count(id, &mut count) } < 0 {
            return Err("the number of its parts cannot be read".into());
        }
        let part = |index| {
            // SAFETY: as above; HDF5 writes at most as many bytes as it is told there are.
            let file = text(&|name, size| unsafe { H5Pget_virtual_filename(id, index, name, size) })?;
            // SAFETY: the same.
            let array = text(&|name, size| unsafe { H5Pget_virtual_dsetname(id, index, name, size) })?;
            Ok((file, array))
        };
        (0..count).map(part).collect()
    })
}

/// The version of HDF5: `1.14.6`.
pub fn hdf5_version() -> String {
    let (major, minor, release) = hdf5::library_version();
    format!("{major}.{minor}.{release}")
}
