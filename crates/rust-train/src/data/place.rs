//! Where lies what is kept of a data set: its cache, what is in its archives.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dataset::cache;
use dataset::{OWN_FOLDER, Spec, TableSpec};

use crate::config::images::Images;

/// Bytes of a cache's settings that are part of its name.
const LONGEST_SETTINGS: usize = 120;

/// Where the cache of the folder `root` lies: in the folder that the user named, beside the images, or where there is
/// neither a current one nor could this user put one, in the user's own cache folder. `fingerprint` is asked for only
/// where it matters whether the one beside the images is current.
pub(crate) fn cache_path<E>(
    root: &Path,
    images: &Images,
    spec: &Spec,
    fingerprint: impl FnOnce() -> Result<String, E>,
) -> Result<PathBuf, E> {
    let aside = images.val_split.map_or(String::new(), |split| format!("-val-split-{}", split.share()));
    // Each table, and each reading of it, has a cache of its own.
    let table = images.table.as_ref().map_or(String::new(), |table| {
        let path = table.path.canonicalize().unwrap_or_else(|_| table.path.clone());
        let all = TableSpec { path, ..table.clone() };
        format!("-table-{:08x}", fnv1a(format!("{all:?}").as_bytes()) as u32)
    });
    let settings = match spec.settings() {
        // No file system takes names of more than 255 bytes.
        long if long.len() > LONGEST_SETTINGS => {
            format!("{}-{:08x}", spec.contents.name(), fnv1a(long.as_bytes()) as u32)
        }
        settings => settings.replace(' ', "-"),
    };
    let Places { whole, beside: path, elsewhere } = places(root, &format!("{settings}{aside}{table}.h5"));
    if let Some(folder) = &images.cache {
        return Ok(folder.join(elsewhere));
    }
    if can_replace(&path) {
        return Ok(path);
    }
    let mut unusable = String::new();
    if path.exists() {
        let reason = match cache::open(&path, &fingerprint()?, spec.decoding) {
            Ok(cache::Found::Current(_)) => return Ok(path),
            Ok(cache::Found::Stale(reason)) => reason,
            Ok(cache::Found::Nothing) => "it is gone".to_owned(),
            Err(error) => format!("{:#}", anyhow::Error::from(error)),
        };
        unusable = format!("the dataset cache {} cannot be used: {reason}; ", path.display());
    }
    let user = user_cache::folder();
    log::info!("{unusable}{} cannot be written to; the cache goes to {}", whole.display(), user.display());
    Ok(user.join(elsewhere))
}

/// Where something else lies that is kept of the data at `root`: in the folder `cache`, or as the cache of it. What others have put
/// there can be read, too.
pub(super) fn kept_path(root: &Path, cache: Option<&Path>, file: &str) -> PathBuf {
    let Places { beside, elsewhere, .. } = places(root, file);
    match cache {
        Some(folder) => folder.join(elsewhere),
        None if beside.is_file() || can_replace(&beside) => beside,
        None => user_cache::folder().join(elsewhere),
    }
}

/// Where a file about data can lie.
struct Places {
    /// The folder or the archive that the data are, by its whole path.
    whole: PathBuf,
    /// Beside the data.
    beside: PathBuf,
    /// Its name in a folder of such files.
    elsewhere: String,
}

fn places(root: &Path, file: &str) -> Places {
    let whole = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let name = whole.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
    // The folder's whole path is part of the name: two folders called `data` share a cache folder, but no cache.
    let hash = fnv1a(whole.as_os_str().as_encoded_bytes());
    let elsewhere = format!("{name}-{hash:016x}-{file}");
    let beside = match whole.parent() {
        // Of an archive, among others perhaps.
        Some(folder) if whole.is_file() => folder.join(OWN_FOLDER).join(format!("{name}-{file}")),
        _ => whole.join(OWN_FOLDER).join(file),
    };
    Places { whole, beside, elsewhere }
}

/// Whether this user can put a file at `path`, in the place of one that is perhaps there, and see what is
/// there now.
fn can_replace(path: &Path) -> bool {
    let Some(folder) = path.parent() else { return false };
    let is_hidden = || File::open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    folder.parent().is_some_and(Path::is_dir)
        && std::fs::create_dir_all(folder).is_ok()
        && tempfile::tempfile_in(folder).is_ok()
        && !is_hidden()
        && !is_kept(folder, path, rustix::process::geteuid().as_raw())
}

/// Whether the file at `path` can be replaced by its owner and by the folder's alone, and the `user` is neither: the
/// sticky bit, as `/tmp` has it.
fn is_kept(folder: &Path, path: &Path, user: u32) -> bool {
    let (Ok(folder), Ok(file)) = (folder.metadata(), path.symlink_metadata()) else { return false };
    folder.mode() & 0o1000 != 0 && user != 0 && folder.uid() != user && file.uid() != user
}

/// FNV-1a, 64 bits: a stable short name for a path.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn in_a_sticky_folder_a_file_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.h5");
        let mode = |mode| std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).unwrap();
        let (owner, other) = (folder.path().metadata().unwrap().uid(), 4_000_000_000);
        mode(0o1777);
        assert!(!is_kept(folder.path(), &path, other), "there is no file");
        std::fs::write(&path, "").unwrap();
        assert!(is_kept(folder.path(), &path, other));
        assert!(!is_kept(folder.path(), &path, owner) && !is_kept(folder.path(), &path, 0));
        mode(0o777);
        assert!(!is_kept(folder.path(), &path, other));
    }
}
