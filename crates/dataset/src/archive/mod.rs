//! Files that hold many images: tar shards, zip archives, Parquet tables, LMDB, CIFAR's and MNIST's own. They are read where they lie, and never
//! unpacked.
//!
//! ```text
//! .tar  .zip  .tar.gz  .parquet  … ── index ──> Index: the images in it, what it tells of each ──> scan ──> Listing
//!                                                       Member: the archive, and where in it ──> Archives::read
//! ```
//!
//! An archive is indexed once, which reads its headers and labels and no image; then a member is found at once. What an index
//! says is not trusted: whoever reads a member is given as many bytes as it says, or an error.

mod index;
mod labels;
mod lmdb;
mod open;
mod pages;
mod parquet;
mod pickle;
mod raster;
mod stream;
mod tar;
#[cfg(test)]
mod tests;
mod zip;

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

pub use index::Index;
pub(crate) use index::{Entry, Told};
pub(crate) use open::Files;
pub(crate) use pages::{Page, index as pages_of, is_stack};
pub(crate) use raster::{find as find_raster, is_bgr};

use crate::{Error, Result, Watch};

/// What is wrong with an archive, in one line; who knows the path adds it.
type Checked<T> = std::result::Result<T, String>;

/// Where a file lies that is in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Which of the listing's archives.
    pub archive: u32,
    /// Where it begins: a byte of the archive, of what is compressed in it, or a row.
    pub at: u64,
    /// How many bytes it takes there, if it is compressed by itself; 0 where it lies there as it is. Of a table, the column; of bare
    /// pixels, the sides of the image.
    pub packed: u64,
}

/// What an archive is, by its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tar,
    /// A tar file that is compressed as a whole.
    Stream(stream::Compression),
    Zip,
    Parquet,
    /// Of files, or of bare pixels.
    Lmdb,
    /// A TIFF file of several images.
    Pages,
    /// Images of bare pixels: MNIST's.
    Idx,
    IdxGzip,
    CifarBinary(raster::Cifar),
    CifarPython(raster::Cifar),
}

impl Kind {
    /// What the file at `path` is, by its name, and by what lies beside it.
    pub fn of(path: &Path) -> Option<Self> {
        let by_name = Self::of_name(&path.file_name()?.to_string_lossy()).map(|(kind, _)| kind);
        by_name.or_else(|| raster::kind_of(path))
    }

    /// What a file of this name is, and the name without its ending.
    pub fn of_name(name: &str) -> Option<(Self, &str)> {
        let endings = [
            (".tar", Self::Tar),
            (".tar.gz", Self::Stream(stream::Compression::Gzip)),
            (".tgz", Self::Stream(stream::Compression::Gzip)),
            (".tar.zst", Self::Stream(stream::Compression::Zstd)),
            (".zip", Self::Zip),
            (".parquet", Self::Parquet),
            (".lmdb", Self::Lmdb),
            (".mdb", Self::Lmdb),
            ("_lmdb", Self::Lmdb),
        ];
        let lower = name.to_ascii_lowercase();
        if lower == LOCK_OF_LMDB {
            return None;
        }
        let (ending, kind) =
            endings.iter().find(|(ending, _)| lower.len() > ending.len() && lower.ends_with(ending))?;
        Some((*kind, &name[..name.len() - ending.len()]))
    }

    /// Whether a member is found at once, and not by reading what comes before it.
    pub fn is_random(self) -> bool {
        match self {
            Self::Tar
            | Self::Zip
            | Self::Lmdb
            | Self::Pages
            | Self::Idx
            | Self::CifarBinary(_)
            | Self::CifarPython(_) => true,
            Self::Stream(_) | Self::Parquet | Self::IdxGzip => false,
        }
    }

    /// Whether what lies in it are bare pixels, or may be.
    fn is_raster(self) -> bool {
        matches!(self, Self::Lmdb | Self::Idx | Self::IdxGzip | Self::CifarBinary(_) | Self::CifarPython(_))
    }
}

/// What an LMDB database is called in its folder, and the file beside it that its writers lock.
const FILE_OF_LMDB: &str = "data.mdb";
const LOCK_OF_LMDB: &str = "lock.mdb";

/// The file of the LMDB database that the folder at `path` is.
pub(crate) fn database_in(path: &Path) -> Option<PathBuf> {
    let file = path.join(FILE_OF_LMDB);
    file.is_file().then_some(file)
}

/// The name of an archive: that of its folder, where it is an LMDB database in one.
pub(crate) fn name_of(path: &Path) -> &std::ffi::OsStr {
    let name = path.file_name().unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).filter(|_| name == FILE_OF_LMDB);
    folder.unwrap_or(name)
}

/// Whether a file is an archive, by its name.
pub fn is_archive(path: &Path) -> bool {
    Kind::of(path).is_some()
}

/// What is looked for in an archive, where its names cannot be guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveSpec {
    /// The column of the images, of a Parquet table; of a tar shard the ending of their files; of LMDB the order of bare bytes, rgb or bgr.
    pub images: Option<String>,
    /// The column of the labels; of a tar shard the ending of the files with them, or the key in their `.json`.
    pub labels: Option<String>,
}

/// Looks through the archive at `path`: what images are in it, and what it tells of them. `watch` is called for each entry.
///
/// # Errors
/// A file that is no such archive, is cut off, or hides something; [`Error::Interrupted`].
pub fn index(path: &Path, spec: &ArchiveSpec, watch: &Watch<'_>) -> Result<Index> {
    let kind = Kind::of(path).ok_or_else(|| Error::Input(format!("{}: is no archive", path.display())))?;
    let (size, modified) = stamp(path)?;
    let counter = crate::watch::Counter::new(watch);
    let contents = match kind {
        Kind::Tar => tar::index(path, spec, &counter)?,
        Kind::Stream(compression) => stream::index(path, compression, spec, &counter)?,
        Kind::Zip => zip::index(path, spec, &counter)?,
        Kind::Parquet => parquet::index(path, spec, &counter)?,
        Kind::Lmdb => lmdb::index(path, spec, &counter)?,
        Kind::Pages => return Err(fault(path, "is no archive")), // but an image file, unless somebody says otherwise
        Kind::Idx | Kind::IdxGzip | Kind::CifarBinary(_) | Kind::CifarPython(_) => {
            raster::index(path, kind, spec, &counter)?
        }
    };
    Ok(Index { size, modified, contents })
}

/// The size of an archive, and when it was last written, in nanoseconds since 1970; together with the files that belong to it.
///
/// # Errors
/// A file that is not there.
pub fn stamp(path: &Path) -> Result<(u64, u64)> {
    let beside = Kind::of(path).map(|kind| raster::beside(path, kind)).unwrap_or_default();
    let (mut size, mut modified) = stamp_of(path)?;
    for path in &beside {
        let (of_size, of_time) = stamp_of(path)?;
        // Any change shows, whichever file is the newest.
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        (size, modified) = (size + of_size, modified.rotate_left(17) ^ of_time.wrapping_mul(ODD) ^ of_size);
    }
    Ok((size, modified))
}

fn stamp_of(path: &Path) -> Result<(u64, u64)> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return Err(Error::Input(format!("{}: not a file", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::Input(format!("{}: no such file", path.display())));
        }
        Err(error) => return Err(Error::io(path, "reading its size")(error)),
    };
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok((metadata.len(), modified.map_or(0, |age| age.as_nanos() as u64)))
}

/// An archive that is not as it must be.
fn fault(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Input(format!("{}: {reason}", path.display()))
}

/// What is wrong with an archive: a reason, whose path its reader adds, or what has been told already.
enum Fault {
    Reason(String),
    Error(Error),
}

impl Fault {
    fn of(self, path: &Path) -> Error {
        match self {
            Self::Reason(reason) => fault(path, reason),
            Self::Error(error) => error,
        }
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The name of an entry as a path below the archive: without what leads to its root. `None` where it leads out of it, or holds what no
/// file system takes.
fn below(name: &[u8]) -> Option<PathBuf> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Component;
    if name.contains(&0) {
        return None;
    }
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}
