//! The seal of a complete cache: a few bytes behind the end of the HDF5 file, which HDF5 itself does not look at.
//!
//! ```text
//! hash      32 bytes: BLAKE3 of all bytes of the file that are no images, and of what follows here
//! images  3 × (start, end): where images lie, u64 little-endian each; 0, 0 for none.
//!           With masks 6 of them
//! length    u64: where this trailer begins
//! magic     20 bytes, with the version: 2, or 3 where there are masks
//! ```
//!
//! It is checked before HDF5 reads the file: HDF5 trusts what stands in a file, and a flipped bit in its structure can
//! make it read and write anywhere. Images have checksums of their own, compared when they are read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::{Error, Result};

/// The formats of a file. They change with its layout, and with anything in decoding that changes pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub number: u32,
    magic: [u8; 20],
    /// Images, or masks, that lie in one piece.
    places: usize,
}

impl Version {
    const IMAGES: Self = Self { number: 2, magic: *b"rust-train cache  2\n", places: 3 };
    const MASKS: Self = Self { number: 3, magic: *b"rust-train cache  3\n", places: 6 };

    /// That of a file with masks, or without.
    pub fn of(has_masks: bool) -> Self {
        if has_masks { Self::MASKS } else { Self::IMAGES }
    }

    /// Bytes of the places, and of where the trailer begins.
    fn fields(self) -> usize {
        (2 * self.places + 1) * 8
    }
}

/// What stands in the magic of every version.
const FAMILY: &[u8] = b"rust-train cache ";
const HDF5_SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";
const BLOCK: usize = 1 << 20;

/// Seals a file of this version whose images lie at these places, in the order of the file.
pub(super) fn write(path: &Path, version: Version, images: &[Range<u64>]) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut fields = vec![0; version.fields()];
    let (places, last) = fields.split_at_mut(2 * version.places * 8);
    for (field, place) in places.chunks_exact_mut(16).zip(images) {
        field[..8].copy_from_slice(&place.start.to_le_bytes());
        field[8..].copy_from_slice(&place.end.to_le_bytes());
    }
    last.copy_from_slice(&length.to_le_bytes());
    let hash = hash(&file, length, images, &fields)?;
    file.write_all_at(&[hash.as_bytes(), &fields[..], &version.magic].concat(), length)?;
    file.sync_all()
}

/// Checks the seal of a file. Gives the reason where it is not as it was written.
pub(super) fn check(path: &Path) -> Result<std::result::Result<(), String>> {
    let file = File::open(path).map_err(Error::io(path, "opening the cache"))?;
    check_file(&file).map_err(Error::io(path, "reading the cache"))
}

fn check_file(file: &File) -> io::Result<std::result::Result<(), String>> {
    let mut signature = [0; HDF5_SIGNATURE.len()];
    if file.read_exact_at(&mut signature, 0).is_err() || signature != HDF5_SIGNATURE {
        return Ok(Err("it is not an HDF5 file".to_owned()));
    }
    let total = file.metadata()?.len();
    let mut magic = [0; 20];
    let cut_off = || Ok(Err("it is cut off".to_owned()));
    let Some(end) = total.checked_sub(magic.len() as u64) else { return cut_off() };
    file.read_exact_at(&mut magic, end)?;
    let Some(version) = [Version::IMAGES, Version::MASKS].into_iter().find(|version| version.magic == magic) else {
        return Ok(Err(if magic.starts_with(FAMILY) {
            let version = String::from_utf8_lossy(&magic[FAMILY.len()..]).trim().escape_debug().to_string();
            let [known, other] = [Version::IMAGES, Version::MASKS].map(|version| version.number);
            format!("it is of version {version}, and this program writes versions {known} and {other}")
        } else {
            "it was never completed, is cut off, or is of a version without a seal".to_owned()
        }));
    };
    let mut trailer = vec![0; blake3::OUT_LEN + version.fields()];
    let Some(length) = end.checked_sub(trailer.len() as u64) else { return cut_off() };
    file.read_exact_at(&mut trailer, length)?;
    let (expected, fields) = trailer.split_at(blake3::OUT_LEN);
    let numbers: Vec<u64> = fields.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number)).collect();
    let images: Vec<_> = numbers.chunks_exact(2).map(|pair| pair[0]..pair[1]).filter(|place| place.end > 0).collect();
    let ends_before = |place: &Range<u64>, limit: u64| place.start <= place.end && place.end <= limit;
    let in_order = images.windows(2).all(|pair| ends_before(&pair[0], pair[1].start));
    if numbers.last() != Some(&length) || !in_order || !images.iter().all(|place| ends_before(place, length)) {
        return Ok(Err("its seal was damaged".to_owned()));
    }
    if hash(file, length, &images, fields)?.as_bytes() != expected {
        return Ok(Err("what it says about its images was damaged".to_owned()));
    }
    Ok(Ok(()))
}

/// The hash of all bytes up to `length` that are no images, and of the trailer's fields.
fn hash(file: &File, length: u64, images: &[Range<u64>], fields: &[u8]) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK];
    let starts = std::iter::once(0).chain(images.iter().map(|place| place.end));
    let ends = images.iter().map(|place| place.start).chain([length]);
    for (start, end) in starts.zip(ends) {
        let mut place = start;
        while place < end {
            let part = &mut block[..(end - place).min(BLOCK as u64) as usize];
            file.read_exact_at(part, place)?;
            hasher.update(part);
            place += part.len() as u64;
        }
    }
    Ok(hasher.update(fields).finalize())
}
