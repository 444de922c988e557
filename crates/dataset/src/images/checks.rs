//! The checksums of a cache's images, each compared once: when its image is first read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::PerImage;
use crate::{Error, Result, Split, h5};

/// The checksum of an image's bytes: the first eight of their BLAKE3 hash.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    first_eight(&blake3::hash(bytes))
}

/// The same of bytes that come one piece after the other.
pub(crate) struct Checksum(blake3::Hasher);

impl Checksum {
    pub fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    /// The checksum of so many zeros.
    pub fn of_zeros(count: u64) -> u64 {
        let mut zeros = Self::new();
        let piece = [0; 1 << 16];
        for start in (0..count).step_by(piece.len()) {
            zeros.update(&piece[..(count - start).min(piece.len() as u64) as usize]);
        }
        zeros.finish()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(&self) -> u64 {
        first_eight(&self.0.finalize())
    }
}

fn first_eight(hash: &blake3::Hash) -> u64 {
    hash.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// The checksums of one split of a cache.
#[derive(Debug)]
pub(crate) struct Checks {
    cache: PathBuf,
    split: Split,
    expected: PerImage<u64>,
    /// One bit for each image: it was compared.
    compared: Vec<AtomicU64>,
}

impl Checks {
    pub fn new(cache: PathBuf, split: Split, expected: PerImage<u64>) -> Self {
        let compared = (0..expected.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { cache, split, expected, compared }
    }

    /// Compares the checksum of image `slot`, unless that was done; it was read from `copy`, if not from the cache itself.
    pub fn verify(&self, slot: usize, bytes: &[u8], copy: Option<&Path>) -> Result<()> {
        let (word, bit) = (&self.compared[slot / 64], 1 << (slot % 64));
        // Relaxed: a bit that another thread sets costs at most a second look.
        if word.load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        if checksum(bytes) != self.expected[slot] {
            return Err(self.damaged(slot, copy));
        }
        word.fetch_or(bit, Ordering::Relaxed);
        Ok(())
    }

    fn damaged(&self, slot: usize, copy: Option<&Path>) -> Error {
        let image = self.name(slot);
        Error::cache(
            copy.unwrap_or(&self.cache),
            format!(
                "the bytes of {} do not match their checksum, so the file was damaged; delete it and it is rebuilt",
                image.display()
            ),
        )
    }

    /// The path of an image, from the cache: names are not kept in memory.
    pub fn name(&self, slot: usize) -> PathBuf {
        self.names(&[slot]).remove(0)
    }

    /// The paths of images; the cache is opened once.
    pub fn names(&self, slots: &[usize]) -> Vec<PathBuf> {
        let split = self.split.name();
        let paths = h5::open(&self.cache).and_then(|file| h5::paths_at(&file.group(split)?, slots));
        let paths = paths.unwrap_or_else(|_| vec![None; slots.len()]);
        let number = |slot: &usize| PathBuf::from(format!("{split} image {slot}"));
        slots.iter().zip(paths).map(|(slot, path)| path.unwrap_or_else(|| number(slot))).collect()
    }
}
