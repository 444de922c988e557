//! Where images are read from: the heap, a mapped file, a file that cannot be mapped, or HDF5's own reader.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

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
        map: Mmap,
        part: Range<usize>,
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

impl Bytes {
    /// The bytes `part` of a file: mapped, or where that is refused, read.
    pub fn of_file(path: &Path, part: Range<u64>) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path, "opening it"))?;
        let length = file.metadata().map_err(Error::io(path, "reading its size"))?.len();
        if length < part.end {
            return Err(Error::cache(path, format!("the file is cut off: {length} bytes of at least {}", part.end)));
        }
        match crate::file::map(&file) {
            Ok(map) => Ok(Self::Mapped { map, part: part.start as usize..part.end as usize }),
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
            Self::Mapped { map, part } => Ok(&map[part.clone()][range]),
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
            Self::Mapped { map, part } => Some(&map[part.clone()]),
            Self::File { .. } | Self::Rows { .. } => None,
        }
    }

    /// How many they are, where that is known.
    pub fn len(&self) -> Option<u64> {
        self.as_slice().map(|bytes| bytes.len() as u64)
    }

    /// Tells the kernel that a range is soon asked for, so that it comes from the disk while others are decoded.
    pub fn prefetch(&self, range: Range<usize>) {
        if let Self::Mapped { map, part } = self {
            let _ = map.advise_range(memmap2::Advice::WillNeed, part.start + range.start, range.len()); // a hint
        }
    }
}
