//! Where images are read from: the heap, a mapped file, a file that cannot be mapped, or HDF5's own reader.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use hdf5::{Hyperslab, SliceOrIndex};
use memmap2::Mmap;

use super::array::{Element, for_element};
use crate::{Error, Result};

/// Bytes that are read a range at a time, from many threads.
#[derive(Debug)]
pub(crate) enum Bytes {
    Memory(Vec<u8>),
    /// A part of a mapped file: gathered past HDF5's one lock.
    Mapped {
        path: PathBuf,
        map: Mmap,
        part: Range<usize>,
        copy: Arc<OnceLock<(PathBuf, Mmap)>>,
    },
    /// A part of a file on a file system that maps nothing.
    File {
        file: File,
        path: PathBuf,
        start: u64,
    },
    /// A dataset in pieces, or compressed, or of another machine's order of bytes: its rows of so many bytes, through HDF5 and its
    /// lock, as these numbers.
    Rows {
        dataset: hdf5::Dataset,
        path: PathBuf,
        element: Element,
        row_bytes: usize,
    },
}

/// A file that images are read from, mapped; a copy of it may take its place while they are.
#[derive(Clone, Debug)]
pub struct MappedFile {
    path: PathBuf,
    length: u64,
    copy: Arc<OnceLock<(PathBuf, Mmap)>>,
}

impl MappedFile {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// From here on the copy at `path` is read, from many threads; the first that is given stays.
    ///
    /// # Errors
    /// A file that cannot be mapped, or is of another length.
    pub fn read_copy(&self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(Error::io(path, "opening it"))?;
        let map = crate::file::map(&file).map_err(Error::io(path, "mapping it"))?;
        if map.len() as u64 != self.length {
            let (path, from) = (path.display(), self.path.display());
            return Err(Error::Input(format!(
                "{path}: has {} bytes, and {from}, of which it is a copy, {}",
                map.len(),
                self.length
            )));
        }
        let _ = self.copy.set((path.to_owned(), map)); // another copy may be there already
        Ok(())
    }
}

fn current<'a>(copy: &'a OnceLock<(PathBuf, Mmap)>, map: &'a Mmap) -> &'a Mmap {
    copy.get().map_or(map, |(_, copy)| copy)
}

impl Bytes {
    /// The bytes `part` of a file: mapped, or where that is refused, read.
    pub fn of_file(path: &Path, part: Range<u64>) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path, "opening it"))?;
        let length = file.metadata().map_err(Error::io(path, "reading its size"))?.len();
        if length < part.end {
            return Err(Error::cache(path, format!("the file is cut off: {length} bytes of at least {}", part.end)));
        }
        match crate::file::map(&file) {
            Ok(map) => {
                let (path, part) = (path.to_owned(), part.start as usize..part.end as usize);
                Ok(Self::Mapped { path, map, part, copy: Arc::default() })
            }
            Err(error) => {
                log::debug!("{}: cannot be mapped ({error}); it is read instead", path.display());
                Ok(Self::File { file, path: path.to_owned(), start: part.start })
            }
        }
    }

    /// The bytes of a range, perhaps by way of `scratch`.
    pub fn get<'a>(&'a self, range: Range<usize>, scratch: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        match self {
            Self::Memory(bytes) => Ok(&bytes[range]),
            Self::Mapped { map, part, copy, .. } => Ok(&current(copy, map)[part.clone()][range]),
            Self::File { file, path, start } => {
                scratch.resize(range.len(), 0);
                file.read_exact_at(scratch, start + range.start as u64).map_err(Error::io(path, "reading an image"))?;
                Ok(scratch)
            }
            Self::Rows { dataset, path, element, row_bytes } => {
                let row = range.start / row_bytes;
                let mut part = vec![SliceOrIndex::from(..); dataset.ndim()];
                part[0] = SliceOrIndex::from(row..row + 1);
                scratch.clear();
                let part = Hyperslab::from(part);
                macro_rules! numbers {
                    ($number:ty) => {{
                        let rows = dataset.read_slice::<$number, _, ndarray::IxDyn>(part);
                        let rows = rows.map_err(|source| Error::Hdf5 { path: path.clone(), source })?;
                        rows.iter().for_each(|number| scratch.extend(number.to_ne_bytes()));
                    }};
                }
                for_element!(element, numbers);
                Ok(scratch)
            }
        }
    }

    /// All bytes, where they are in memory or mapped.
    pub fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(bytes) => Some(bytes),
            Self::Mapped { map, part, copy, .. } => Some(&current(copy, map)[part.clone()]),
            Self::File { .. } | Self::Rows { .. } => None,
        }
    }

    /// How many they are, where that is known.
    pub fn len(&self) -> Option<u64> {
        self.as_slice().map(|bytes| bytes.len() as u64)
    }

    /// The copy that is read in the place of their file.
    pub fn copy(&self) -> Option<&Path> {
        match self {
            Self::Mapped { copy, .. } => copy.get().map(|(path, _)| path.as_path()),
            Self::Memory(_) | Self::File { .. } | Self::Rows { .. } => None,
        }
    }

    /// The file that they are in, if it is mapped.
    pub fn mapped_file(&self) -> Option<MappedFile> {
        match self {
            Self::Mapped { path, map, copy, .. } => {
                Some(MappedFile { path: path.clone(), length: map.len() as u64, copy: Arc::clone(copy) })
            }
            Self::Memory(_) | Self::File { .. } | Self::Rows { .. } => None,
        }
    }

    /// Tells the kernel that a range is soon asked for, so that it comes from the disk while others are decoded.
    pub fn prefetch(&self, range: Range<usize>) {
        if let Self::Mapped { map, part, copy, .. } = self {
            let map = current(copy, map);
            let _ = map.advise_range(memmap2::Advice::WillNeed, part.start + range.start, range.len()); // a hint
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_the_place_of_a_file_while_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let bytes = Bytes::of_file(&at("file", "0123456789"), 2..8).unwrap();
        let before = bytes.as_slice().unwrap();
        let file = bytes.mapped_file().unwrap();
        assert_eq!((file.path(), file.length()), (&*folder.path().join("file"), 10));
        let error = file.read_copy(&at("other", "012345678")).unwrap_err().to_string();
        assert!(error.contains("has 9 bytes") && error.contains("10"), "{error}");
        assert_eq!(bytes.get(0..2, &mut Vec::new()).unwrap(), b"23");
        file.read_copy(&at("copy", "abcdefghij")).unwrap();
        assert_eq!(
            (bytes.get(0..2, &mut Vec::new()).unwrap(), bytes.as_slice().unwrap()),
            (&b"cd"[..], &b"cdefgh"[..])
        );
        assert_eq!(before, b"234567", "who reads while it changes reads on");
        file.read_copy(&at("later", "ABCDEFGHIJ")).unwrap();
        assert_eq!(bytes.as_slice().unwrap(), b"cdefgh");
        assert!(Bytes::Memory(vec![1]).mapped_file().is_none());
    }
}
