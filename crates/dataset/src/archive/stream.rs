//! Tar files that are compressed as a whole: what is in them is found by reading all that comes before.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::Archive;

use super::index::Contents;
use super::open::{Cursor, Wanted, read_bounded};
use super::tar::{gather, refuse_more};
use super::{ArchiveSpec, Checked};
use crate::limits::quote;
use crate::watch::Counter;
use crate::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    fn decoder(self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let file = BufReader::with_capacity(1 << 18, File::open(path)?);
        Ok(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(file)),
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(file)?),
        })
    }
}

/// What is in the compressed tar file at `path`, all of which is read.
pub(super) fn index(
    path: &Path,
    compression: Compression,
    spec: &ArchiveSpec,
    counter: &Counter<'_>,
) -> Result<Contents> {
    let decoder = compression.decoder(path).map_err(Error::io(path, "opening it"))?;
    let mut archive = Archive::new(decoder);
    let entries = archive.entries().map_err(Error::io(path, "reading its first header"))?;
    let (contents, _) = gather(path, entries, None, spec, counter)?;
    refuse_more(path, archive.into_inner())?;
    Ok(contents)
}

/// A way through a compressed file, from its start on.
pub(super) struct Stream {
    decoder: Box<dyn Read + Send>,
    position: u64,
}

impl Stream {
    pub fn open(path: &Path, compression: Compression) -> Checked<Self> {
        let decoder = compression.decoder(path).map_err(quote)?;
        Ok(Self { decoder, position: 0 })
    }
}

impl Cursor for Stream {
    fn is_before(&self, wanted: Wanted) -> Option<u64> {
        wanted.at.checked_sub(self.position)
    }

    fn read(&mut self, wanted: Wanted, length: usize, bytes: &mut Vec<u8>) -> Checked<()> {
        let broken = |error: io::Error| format!("the archive is cut off or broken: {}", quote(error));
        let between = wanted.at - self.position;
        let skipped = io::copy(&mut self.decoder.by_ref().take(between), &mut io::sink()).map_err(broken)?;
        self.position += skipped;
        if skipped < between {
            return Err("the archive has changed since the images were listed; start again".to_owned());
        }
        read_bounded(&mut self.decoder, length, bytes, broken)?;
        self.position += length as u64;
        Ok(())
    }
}
