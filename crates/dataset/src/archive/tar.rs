//! Tar files: members lie in them as they are, one after the other.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use tar::{Archive, Entries, EntryType};

use super::index::Contents;
use super::labels::Gatherer;
use super::{ArchiveSpec, Checked, below, fault};
use crate::limits::quote;
use crate::watch::Counter;
use crate::{Error, Result};

/// Bytes of a tar file come in blocks of so many.
const BLOCK: u64 = 512;

/// What is in the tar file at `path`, of which headers and labels are read.
pub(super) fn index(path: &Path, spec: &ArchiveSpec, counter: &Counter<'_>) -> Result<Contents> {
    let file = File::open(path).map_err(Error::io(path, "opening it"))?;
    let length = file.metadata().map_err(Error::io(path, "reading its size"))?.len();
    match crate::file::map(&file) {
        Ok(map) => of_tar(path, Cursor::new(&map[..]), length, spec, counter),
        Err(_) => of_tar(path, file, length, spec, counter), // the file system maps nothing
    }
}

fn of_tar(
    path: &Path,
    file: impl Read + Seek,
    length: u64,
    spec: &ArchiveSpec,
    counter: &Counter<'_>,
) -> Result<Contents> {
    let mut archive = Archive::new(file);
    let entries = archive.entries_with_seek().map_err(Error::io(path, "reading its first header"))?;
    let (contents, end) = gather(path, entries, Some(length), spec, counter)?;
    if end + BLOCK > length {
        log::warn!("{}: has no end mark; is it whole?", path.display());
    } else {
        let mut rest = archive.into_inner();
        rest.seek(SeekFrom::Start(end)).map_err(Error::io(path, "reading its end"))?;
        refuse_more(path, rest)?;
    }
    Ok(contents)
}

/// Refuses what comes behind the mark of the end, as where several archives were put one behind the other.
pub(super) fn refuse_more(path: &Path, rest: impl Read) -> Result<()> {
    /// Writers fill up to a multiple of some kilobytes.
    const LOOKED_AT: u64 = 1 << 20;
    let mut bytes = Vec::new();
    rest.take(LOOKED_AT).read_to_end(&mut bytes).map_err(|error| fault(path, broken(&error, 1)))?;
    match bytes.iter().any(|&byte| byte != 0) {
        true => Err(fault(path, "goes on behind its end mark: several archives in one file? Keep them apart")),
        false => Ok(()),
    }
}

/// What the entries of a tar file are, of `length` bytes as far as that is known, and where the last of them ends.
pub(super) fn gather<R: Read>(
    path: &Path,
    entries: Entries<'_, R>,
    length: Option<u64>,
    spec: &ArchiveSpec,
    counter: &Counter<'_>,
) -> Result<(Contents, u64)> {
    let mut gatherer = Gatherer::new(spec);
    let mut end = 0;
    for entry in entries {
        let entry = entry.map_err(|error| fault(path, broken(&error, end)))?;
        let next = entry.raw_file_position().saturating_add(entry.size());
        if length.is_some_and(|length| next > length) {
            let name = quote(String::from_utf8_lossy(&entry.path_bytes()));
            return Err(fault(path, format!("is cut off in {name}; copy or download it again")));
        }
        end = next.next_multiple_of(BLOCK);
        take(&mut gatherer, entry).map_err(|reason| fault(path, reason))?;
        counter.one()?;
    }
    Ok((gatherer.finish().map_err(|reason| fault(path, reason))?, end))
}

fn broken(error: &std::io::Error, at: u64) -> String {
    match at {
        0 => format!("is no tar file: {}", quote(error)),
        _ => format!("is cut off or broken behind byte {at}: {}; copy or download it again", quote(error)),
    }
}

fn take<R: Read>(gatherer: &mut Gatherer<'_>, mut entry: tar::Entry<'_, R>) -> Checked<()> {
    let bytes = entry.path_bytes().into_owned();
    let name = below(&bytes)
        .ok_or_else(|| format!("has a name that leads out of it: {}", quote(String::from_utf8_lossy(&bytes))))?;
    let (at, size) = (entry.raw_file_position(), entry.size());
    match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous if is_sparse(&mut entry)? => {
            Err(format!("has a sparse file, which does not lie in it as it is: {}", quote(name.display())))
        }
        EntryType::GNUSparse => {
            Err(format!("has a sparse file, which does not lie in it as it is: {}", quote(name.display())))
        }
        EntryType::Regular | EntryType::Continuous if gatherer.wants_text(&name, size) => {
            let mut text = Vec::new();
            entry
                .read_to_end(&mut text)
                .map_err(|error| format!("is cut off in {}: {error}", quote(name.display())))?;
            gatherer.text(&name, &text)
        }
        EntryType::Regular | EntryType::Continuous => gatherer.file(name, at, 0, size),
        EntryType::Link => match entry.link_name_bytes().and_then(|target| below(&target)) {
            Some(target) => gatherer.link(name, &target),
            None => Err(format!("has a link that leads out of it: {}", quote(name.display()))),
        },
        EntryType::Symlink => {
            gatherer.other("links");
            Ok(())
        }
        _ => Ok(()), // folders, devices
    }
}

/// Whether the header of a plain file says that holes of it are left out, as newer formats have it.
fn is_sparse<R: Read>(entry: &mut tar::Entry<'_, R>) -> Checked<bool> {
    let Some(extensions) = entry.pax_extensions().map_err(|error| format!("is broken: {}", quote(error)))? else {
        return Ok(false);
    };
    Ok(extensions.flatten().any(|field| field.key_bytes().starts_with(b"GNU.sparse.")))
}
