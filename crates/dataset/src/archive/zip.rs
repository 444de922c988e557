//! Zip archives: a directory at the end says where each file lies, as it is or deflated by itself.

use std::fs::File;
use std::path::Path;

use archives::{Budget, ZipFile};

use super::index::Contents;
use super::labels::Gatherer;
use super::{ArchiveSpec, Checked, below, fault};
use crate::limits::quote;
use crate::watch::Counter;
use crate::{Error, Result};

/// Most files of an archive.
const MOST_FILES: usize = 1 << 26;
/// Deflate makes at most so many bytes of one.
pub(super) const MOST_INFLATED: u64 = 1032;

/// What is in the zip file at `path`, of which the directory and labels are read.
pub(super) fn index(path: &Path, spec: &ArchiveSpec, counter: &Counter<'_>) -> Result<Contents> {
    let file = File::open(path).map_err(Error::io(path, "opening it"))?;
    let map = crate::file::map(&file).map_err(Error::io(path, "mapping it"))?;
    let budget = Budget::of_file(map.len(), "64 MB and 4 times the file");
    let zip = ZipFile::open(&archives::Bytes::new(map), &budget, MOST_FILES).map_err(|reason| fault(path, reason))?;
    let mut gatherer = Gatherer::new(spec);
    for name in zip.names().iter().filter(|name| !name.ends_with('/')) {
        take(&mut gatherer, &zip, name).map_err(|reason| fault(path, reason))?;
        counter.one()?;
    }
    gatherer.finish().map_err(|reason| fault(path, reason))
}

fn take(gatherer: &mut Gatherer<'_>, zip: &ZipFile, name: &str) -> Checked<()> {
    let path = below(name.as_bytes()).ok_or_else(|| format!("has a name that leads out of it: {}", quote(name)))?;
    let (is_stored, place) = zip.place(name).map_err(|reason| format!("{}: {reason}", quote(name)))?;
    let size = zip.size(name)? as u64;
    let (at, packed) = (place.start as u64, place.len() as u64);
    if size > packed.saturating_mul(MOST_INFLATED) {
        return Err(format!("{}: says that {packed} bytes become {size}, which they cannot", quote(name)));
    }
    if gatherer.wants_text(&path, size) {
        let text = match is_stored {
            true => zip.bytes().as_slice()[place].to_vec(),
            false => zip.inflate(name, size as usize).map_err(|reason| format!("{}: {reason}", quote(name)))?,
        };
        return gatherer.text(&path, &text);
    }
    gatherer.file(path, at, if is_stored { 0 } else { packed }, size)
}
