//! HDF5, as far as caches and other people's files need it.
//!
//! Files are opened without HDF5's own locks: parallel file systems without them would refuse, and nobody writes to a
//! file that another reads. A cache gets its name when it is complete, and is never changed after.

use std::ops::Range;
use std::path::Path;

use hdf5::types::VarLenUnicode;
use hdf5::{Container, Dataset, File, FileBuilder, Group, H5Type, Location};

fn without_locks() -> FileBuilder {
    let mut options = File::with_options();
    options.with_fapl(|access| access.file_locking(false));
    options
}

pub(crate) fn open(path: &Path) -> hdf5::Result<File> {
    without_locks().open(path)
}

pub(crate) fn open_to_write(path: &Path) -> hdf5::Result<File> {
    without_locks().open_rw(path)
}

/// A new file, in the layout of HDF5 1.8: every version reads it, and its structure has checksums of its own.
pub(crate) fn create(path: &Path) -> hdf5::Result<File> {
    without_locks().with_fapl(|access| access.file_locking(false).libver_v18()).create(path)
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

pub(crate) fn texts(group: &Group, name: &str) -> hdf5::Result<Vec<String>> {
    let texts: Vec<VarLenUnicode> = group.dataset(name)?.read_raw()?;
    Ok(texts.iter().map(ToString::to_string).collect())
}

pub(crate) fn write_texts<'a>(group: &Group, name: &str, texts: impl Iterator<Item = &'a str>) -> hdf5::Result<()> {
    let texts: Vec<_> = texts.map(unicode).collect();
    group.new_dataset_builder().with_data(&texts).create(name)?;
    Ok(())
}

/// All values of a dataset of one dimension, whose number must be `length`: a file cannot make us allocate more.
pub(crate) fn values<T: H5Type>(group: &Group, name: &str, length: usize) -> hdf5::Result<Vec<T>> {
    let dataset = group.dataset(name)?;
    if dataset.shape() != [length] {
        return Err(hdf5::Error::from(format!("{name} is {:?}, and not {length}", dataset.shape())));
    }
    dataset.read_raw()
}

/// Where the bytes of a dataset lie in its file; `None` where it is in pieces, compressed or empty.
pub(crate) fn bytes_of(dataset: &Dataset) -> Option<Range<u64>> {
    let offset = dataset.offset()?;
    let width = Container::dtype(dataset).ok()?.size() as u64;
    let count = dataset.shape().iter().try_fold(width, |product, &length| product.checked_mul(length as u64))?;
    Some(offset..offset.checked_add(count)?)
}
