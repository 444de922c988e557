//! Archives as they are read: opened when the first of their members is asked for, and by many threads.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use flate2::bufread::DeflateDecoder;

use super::parquet::Rows;
use super::stream::{Compression, Stream};
use super::{Checked, Kind, Member, is_stack, pages, raster, stamp};
use crate::decode::jpeg;
use crate::file::{changed, refuse_long, refuse_padded};
use crate::images::{Bytes, MappedFile};
use crate::limits::{READ_AT_ONCE, quote};
use crate::scan::Sample;
use crate::{Error, Result};

/// The image files of a listing: by their paths below its root, or in archives.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    archives: Archives,
}

impl Files {
    /// Those below `root`, or in these `archives` of it, which have been written when these `samples` say.
    pub fn new<'a>(root: &Path, archives: &[PathBuf], samples: impl Iterator<Item = &'a Sample>) -> Self {
        let mut written = vec![None; archives.len()];
        for sample in samples {
            if let Some(written) = sample.member.and_then(|member| written.get_mut(member.archive as usize)) {
                *written = Some(sample.modified);
            }
        }
        Self { root: root.to_owned(), archives: Archives::new(root, archives, &written) }
    }

    /// The whole path of a file, for messages; one in an archive has the archive's before it.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// Reads an image file of `size` bytes into `bytes`. A large one that is no JPEG stays on the disk, and is given open, unless
    /// it is in an archive.
    ///
    /// # Errors
    /// A file that cannot be read, or has changed since it was listed; an [image](Error::Image) that cannot be one.
    pub fn read(&self, path: &Path, size: u64, member: Option<Member>, bytes: &mut Vec<u8>) -> Result<Option<File>> {
        match member {
            None => crate::file::read(&self.path(path), size, bytes),
            Some(member) => self.archives.read(member, size, bytes).map(|()| None).map_err(|error| match error {
                Fault::Image(reason) => Error::Image { path: self.path(path), reason },
                Fault::Archive(error) => error,
            }),
        }
    }

    /// Those of these archives that are mapped. See [`ImageSet::mapped_files`](crate::ImageSet::mapped_files).
    pub fn mapped_files(&self, archives: &BTreeSet<u32>) -> Result<Vec<MappedFile>> {
        self.archives.mapped_files(archives)
    }

    /// Tells the kernel that a file is soon asked for.
    pub fn prefetch(&self, size: u64, member: Option<Member>) {
        if let Some(member) = member {
            self.archives.prefetch(member, size);
        }
    }
}

/// What is wrong: one image, or all of them.
enum Fault {
    Image(String),
    Archive(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Archive(error)
    }
}

/// The archives of a listing.
#[derive(Debug, Default)]
pub(crate) struct Archives(Vec<Archive>);

#[derive(Debug)]
struct Archive {
    path: PathBuf,
    /// When it was last written, as the listing says.
    written: Option<u64>,
    opened: OnceLock<Opened>,
}

#[derive(Debug)]
enum Opened {
    /// Members are found at once.
    Whole { kind: Kind, whole: Bytes },
    /// Members are found on the way through.
    Ways { kind: Kind, ways: Mutex<Vec<Box<dyn Cursor>>> },
}

/// What is asked of a cursor, as in [`Member`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub at: u64,
    pub packed: u64,
}

/// A way through an archive from its start, or from somewhere in it, to its end.
pub(super) trait Cursor: Send {
    /// How far it is to a member; `None` where that lies behind.
    fn is_before(&self, wanted: Wanted) -> Option<u64>;

    /// Goes on to a member and reads it: exactly so many bytes.
    fn read(&mut self, wanted: Wanted, length: usize, bytes: &mut Vec<u8>) -> Checked<()>;
}

impl std::fmt::Debug for dyn Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cursor")
    }
}

/// Ways through an archive that are kept open: as many threads can each have their own.
const MOST_WAYS: usize = 32;

impl Archives {
    /// Those at these paths below `root`; an empty one is `root` itself.
    pub fn new(root: &Path, paths: &[PathBuf], written: &[Option<u64>]) -> Self {
        let whole = |path: &PathBuf| if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) };
        let archive = |(path, &written)| Archive { path: whole(path), written, opened: OnceLock::new() };
        Self(paths.iter().zip(written).map(archive).collect())
    }

    /// The bytes of a member, of which there are `size`.
    fn read(&self, member: Member, size: u64, bytes: &mut Vec<u8>) -> std::result::Result<(), Fault> {
        refuse_long(size).map_err(Fault::Image)?;
        let archive = &self.0[member.archive as usize];
        let length = usize::try_from(size).map_err(|_| Fault::Image("it is too long".to_owned()))?;
        match archive.opened()? {
            Opened::Whole { kind, whole } => archive.read_from(*kind, whole, member, length, bytes),
            Opened::Ways { kind, ways } => {
                let wanted = Wanted { at: member.at, packed: member.packed };
                archive.read_on(*kind, ways, wanted, length, bytes)
            }
        }
    }

    /// Those of these archives whose members are found at once, opened.
    ///
    /// # Errors
    /// One that cannot be opened, or has changed.
    fn mapped_files(&self, archives: &BTreeSet<u32>) -> Result<Vec<MappedFile>> {
        let mut files = Vec::new();
        for archive in archives.iter().filter_map(|&archive| self.0.get(archive as usize)) {
            if let Opened::Whole { whole, .. } = archive.opened()? {
                files.extend(whole.mapped_file());
            }
        }
        Ok(files)
    }

    fn prefetch(&self, member: Member, size: u64) {
        if let Some(Opened::Whole { kind, whole }) = self.0[member.archive as usize].opened.get()
            && *kind != Kind::Pages
        {
            let length = if member.packed > 0 && !kind.is_raster() { member.packed } else { size };
            let (start, end) = (member.at, member.at.saturating_add(length));
            if end <= whole.len().unwrap_or(0) {
                whole.prefetch(start as usize..end as usize);
            }
        }
    }
}

impl Archive {
    fn opened(&self) -> Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let of_pages = || is_stack(&self.path).then_some(Kind::Pages);
        let kind = Kind::of(&self.path).or_else(of_pages);
        let kind = kind.ok_or_else(|| Error::Input(format!("{}: is no archive", self.path.display())))?;
        let (_, written) = stamp(&self.path)?;
        if self.written.is_some_and(|known| known != written) {
            let path = self.path.display();
            return Err(Error::Input(format!("{path}: has changed since the images were listed; start again")));
        }
        let opened = match kind.is_random() {
            true => {
                let size = std::fs::metadata(&self.path).map_err(Error::io(&self.path, "reading its size"))?.len();
                Opened::Whole { kind, whole: Bytes::of_file(&self.path, 0..size)? }
            }
            false => Opened::Ways { kind, ways: Mutex::default() },
        };
        Ok(self.opened.get_or_init(|| opened)) // another thread may have been first
    }

    fn read_from(
        &self,
        kind: Kind,
        whole: &Bytes,
        member: Member,
        length: usize,
        bytes: &mut Vec<u8>,
    ) -> std::result::Result<(), Fault> {
        if kind == Kind::Pages {
            let mut scratch = Vec::new();
            let all = match whole.as_slice() {
                Some(mapped) => mapped,
                None => whole.get(0..stamp(&self.path)?.0 as usize, &mut scratch)?,
            };
            return pages::file_of(all, member.at, length, bytes).map_err(Fault::Image);
        }
        let taken = match member.packed {
            0 => length as u64,
            packed if kind.is_raster() => {
                raster::stored(packed, length).map_err(|reason| super::fault(&self.path, reason))? as u64
            }
            packed => packed,
        };
        let end = member.at.checked_add(taken).filter(|&end| end <= whole.len().unwrap_or(u64::MAX));
        let Some(end) = end else { return Err(changed(&self.path, member.at.saturating_add(taken)).into()) };
        let range = member.at as usize..end as usize;
        if member.packed == 0 {
            if let Some(mapped) = whole.as_slice() {
                bytes.clear();
                bytes.extend_from_slice(&mapped[range]);
            } else {
                whole.get(range, bytes)?;
            }
            return Ok(());
        }
        let mut scratch = Vec::new();
        let packed = whole.get(range, &mut scratch)?;
        if kind.is_raster() {
            raster::file_of(member.packed, packed, bytes);
            return Ok(());
        }
        inflate(packed, length, bytes).map_err(Fault::Image)
    }

    fn read_on(
        &self,
        kind: Kind,
        ways: &Mutex<Vec<Box<dyn Cursor>>>,
        wanted: Wanted,
        length: usize,
        bytes: &mut Vec<u8>,
    ) -> std::result::Result<(), Fault> {
        let lock = || ways.lock().expect("no thread panics while it holds this");
        let nearest = {
            let mut ways = lock();
            let distances = ways.iter().enumerate().filter_map(|(index, way)| Some((way.is_before(wanted)?, index)));
            distances.min().map(|(_, index)| ways.swap_remove(index))
        };
        let fault = |reason| super::fault(&self.path, reason);
        let mut way: Box<dyn Cursor> = match nearest {
            Some(way) => way,
            None => match kind {
                Kind::Parquet => Box::new(Rows::open(&self.path, wanted).map_err(fault)?),
                Kind::Stream(compression) => Box::new(Stream::open(&self.path, compression).map_err(fault)?),
                Kind::IdxGzip => Box::new(Stream::open(&self.path, Compression::Gzip).map_err(fault)?),
                Kind::Tar
                | Kind::Zip
                | Kind::Lmdb
                | Kind::Pages
                | Kind::Idx
                | Kind::CifarBinary(_)
                | Kind::CifarPython(_) => {
                    return Err(fault("is read as a whole".to_owned()).into());
                }
            },
        };
        if kind.is_raster() {
            let mut pixels = Vec::new();
            let stored = raster::stored(wanted.packed, length).map_err(fault)?;
            way.read(wanted, stored, &mut pixels).map_err(fault)?;
            raster::file_of(wanted.packed, &pixels, bytes);
        } else {
            way.read(wanted, length, bytes).map_err(fault)?;
        }
        let mut ways = lock();
        if ways.len() == MOST_WAYS {
            ways.remove(0);
        }
        ways.push(way);
        Ok(())
    }
}

/// Reads exactly `length` bytes of what is unpacked on the way. What claims to be large is not given room before its first bytes are those
/// of a JPEG with as many pixels: a small file can become very large.
pub(super) fn read_bounded(
    reader: &mut impl Read,
    length: usize,
    bytes: &mut Vec<u8>,
    broken: impl Fn(std::io::Error) -> String,
) -> Checked<()> {
    let first = length.min(READ_AT_ONCE as usize);
    bytes.resize(first, 0);
    reader.read_exact(bytes).map_err(&broken)?;
    if first < length {
        if jpeg::declared(bytes).is_none() {
            return Err(format!("{length} bytes are too many in a compressed archive; keep it as a file, or in a tar"));
        }
        refuse_padded(bytes, length as u64)?;
        bytes.resize(length, 0);
        reader.read_exact(&mut bytes[first..]).map_err(&broken)?;
    }
    Ok(())
}

/// Inflates `packed` to exactly `length` bytes.
fn inflate(packed: &[u8], length: usize, bytes: &mut Vec<u8>) -> Checked<()> {
    let broken = |error: std::io::Error| format!("it is broken in the archive: {}", quote(error));
    let other = || "it does not inflate to the bytes that the archive says; make the archive anew".to_owned();
    let mut decoder = DeflateDecoder::new(packed);
    read_bounded(&mut decoder, length, bytes, broken)?;
    match decoder.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(other()),
        Err(error) => Err(broken(error)),
    }
}
