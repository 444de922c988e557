//! Which format a file has, by its first bytes, and the way to its reader.

use std::fs::File;
use std::path::Path;

use archives::{Bytes, ZipFile, quote};
use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::limits::{MOST_TENSORS, budget};
use crate::state_dict::StateDict;
use crate::{npz, safetensors, sharded, torch};

/// Which of a file's tensors are the weights, where it holds more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The key of the dict that holds them, in a `.pth`: of a dict in a dict with a dot between, `state.model`. `None`: that of the usual
    /// keys which comes first, or the file's own dict.
    pub key: Option<String>,
    /// What their names begin with, and lose; all others are left. `None`: nothing, but for what DistributedDataParallel and
    /// torch.compile put before every name.
    pub prefix: Option<String>,
}

/// Reads the weights in the file `path`: `.pth` (zip or older), `.safetensors`, `.npz`, or the index of weights in several files,
/// whatever its name. The file is mapped; tensors are read from the disk when their bytes are.
///
/// # Errors
/// A file that cannot be read, that is none of these, or that is broken or malicious.
pub fn read(path: &Path) -> Result<StateDict> {
    read_wanted(path, &Wanted::default())
}

/// The same, where it is said which of a file's tensors are the weights.
///
/// # Errors
/// As [`read`], and a key or prefix that is not there.
pub fn read_wanted(path: &Path, wanted: &Wanted) -> Result<StateDict> {
    let refused = |reason| Error::Refused { path: path.to_owned(), reason };
    let bytes = map(path)?;
    if !sharded::is_index(bytes.as_slice()) {
        return parse_wanted(bytes, wanted).map_err(refused);
    }
    refuse_key(wanted.key.as_deref()).map_err(refused)?;
    let part = |part: &Path| {
        let parsed = parse_key(map(part)?, None);
        parsed.map_err(|reason| Error::Refused { path: part.to_owned(), reason })
    };
    let found = sharded::read(path, bytes.as_slice(), part)?;
    under(found, wanted.prefix.as_deref()).map_err(refused)
}

fn map(path: &Path) -> Result<Bytes> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.is_dir() {
        return Err(Error::Refused { path: path.to_owned(), reason: "is a folder, not a file of weights".to_owned() });
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new(Vec::new())); // an empty file cannot be mapped
    }
    #[expect(unsafe_code, reason = "mapping a file")]
    // SAFETY: the map is read as plain bytes, for which every content is valid: nothing that was checked once is
    // trusted later without bounds. Whoever truncates a file that a job reads ends that job.
    let mapping = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok(Bytes::new(mapping))
}

/// The weights in `bytes`, as [`read`].
///
/// # Errors
/// What is wrong with them.
pub fn parse(bytes: Bytes) -> std::result::Result<StateDict, String> {
    parse_wanted(bytes, &Wanted::default())
}

fn parse_wanted(bytes: Bytes, Wanted { key, prefix }: &Wanted) -> std::result::Result<StateDict, String> {
    under(parse_key(bytes, key.as_deref())?, prefix.as_deref())
}

/// The tensors whose names begin with `prefix`, without it.
fn under(found: StateDict, prefix: Option<&str>) -> std::result::Result<StateDict, String> {
    match prefix {
        Some(prefix) => found.under(prefix),
        None => found.without_wrapper(),
    }
}

fn parse_key(bytes: Bytes, key: Option<&str>) -> std::result::Result<StateDict, String> {
    let start = bytes.as_slice();
    let budget = budget(start.len());
    let begins_with = |magic: &[u8]| start.starts_with(magic);
    if begins_with(b"PK\x03\x04") || begins_with(b"PK\x05\x06") {
        let zip = ZipFile::open(&bytes, &budget, MOST_TENSORS)?;
        if zip.has("data.pkl") {
            return torch::zip(&zip, &budget, key);
        }
        refuse_key(key)?;
        return npz::read(&zip, &budget);
    }
    if begins_with(torch::LEGACY_MAGIC) {
        return torch::legacy(&bytes, &budget, key);
    }
    if safetensors::is_one(start) {
        refuse_key(key)?;
        return safetensors::parse(&bytes, &budget);
    }
    Err(what_else(start).to_owned())
}

/// Refuses a key where a file holds tensors alone.
fn refuse_key(key: Option<&str>) -> std::result::Result<(), String> {
    key.map_or(Ok(()), |key| Err(format!("--weights-key {}: is for a .pth, which has dicts; leave it out", quote(key))))
}

/// What a file is that holds no weights.
fn what_else(start: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(&start[..start.len().min(256)]).trim_start().to_lowercase();
    match start {
        [] => "is empty",
        _ if text.starts_with("version https://git-lfs") => {
            "is a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull`"
        }
        _ if text.starts_with("<!doctype") || text.starts_with("<html") => "is a web page, not weights",
        _ if start.starts_with(b"\x93NUMPY") => "is a single array; of NumPy's files only .npz has names",
        _ if start.starts_with(b"\x89HDF") => "is an HDF5 file; .pth, .safetensors and .npz are read",
        _ if start.starts_with(&[0x80]) => "is a pickle, but none that torch.save writes",
        _ if start.len() > 262 && start[257..262] == *b"ustar" => {
            "is a tar file; weights of torch before 0.1.10 must be saved anew by a later one"
        }
        _ => "is not a file of weights: neither .pth, .safetensors nor .npz begins like this",
    }
}
