//! Pictures of one size, decoded, side by side in memory: on the heap, or mapped from a cache file.

use std::ops::Range;

use memmap2::Mmap;

/// Pictures of one size with their labels: bytes, N×`side`×`side`×3.
#[derive(Debug)]
pub struct ImageSet {
    pixels: Pixels,
    labels: Vec<i64>,
    side: usize,
}

/// A set to train on and one to validate on, with the names of their classes.
#[derive(Debug)]
pub struct Dataset {
    /// The names of the classes; a label is an index here.
    pub classes: Vec<String>,
    /// The pictures to train on.
    pub train: ImageSet,
    /// The pictures to validate on.
    pub val: ImageSet,
}

#[derive(Debug)]
enum Pixels {
    Owned(Vec<u8>),
    Mapped { file: Mmap, range: Range<usize> },
}

impl ImageSet {
    /// Pictures in memory.
    ///
    /// # Panics
    /// If `pixels` are not as many as the labels' pictures have.
    pub fn from_memory(pixels: Vec<u8>, labels: Vec<i64>, side: usize) -> Self {
        assert_eq!(pixels.len(), labels.len() * side * side * 3, "a picture for each label");
        Self { pixels: Pixels::Owned(pixels), labels, side }
    }

    /// Pictures at the bytes `range` of a mapped file, which must lie inside it.
    pub(crate) fn from_mapping(file: Mmap, range: Range<usize>, labels: Vec<i64>, side: usize) -> Self {
        Self { pixels: Pixels::Mapped { file, range }, labels, side }
    }

    /// The number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Height and width of every picture, in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The label of each picture.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// The picture at `index`: `side`×`side`×3 bytes, RGB.
    pub fn picture(&self, index: usize) -> &[u8] {
        let bytes = self.side * self.side * 3;
        let all = match &self.pixels {
            Pixels::Owned(pixels) => &pixels[..],
            Pixels::Mapped { file, range } => &file[range.clone()],
        };
        &all[index * bytes..][..bytes]
    }
}
