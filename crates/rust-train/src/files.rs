//! Files that are whole or not there.

use std::fs::File;
use std::path::Path;

use anyhow::Context;

use crate::errors::usage;

/// What temporary names begin with.
pub(crate) const TEMPORARY: &str = ".rust-train.";

/// Removes what processes that were killed have left in `folder` under temporary names. Nobody else may be writing there.
pub(crate) fn remove_leftovers(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let is_leftover = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY));
        if is_leftover && path.is_file() {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// Refuses a file, named by a flag, that could not be written when the work is done.
pub(crate) fn refuse_unwritable(flag: &str, path: &Path) -> anyhow::Result<()> {
    let is_new = !path.exists();
    let tried = File::options().append(true).create(true).open(path);
    tried.map_err(|error| usage(format!("{flag} {}: {error}", path.display())))?;
    if is_new {
        let _ = std::fs::remove_file(path); // it was only tried
    }
    Ok(())
}

/// Writes `path` through `write`, which is given a temporary file's path: to the disk, then renamed. What was there
/// before stays until then.
pub(crate) fn write_whole(path: &Path, write: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let whole = || -> anyhow::Result<()> {
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let temporary = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .suffix(".part")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)) // the umask takes its part
            .tempfile_in(folder)?;
        write(temporary.path())?;
        File::open(temporary.path())?.sync_all()?;
        temporary.persist(path)?;
        File::open(folder)?.sync_all()?;
        Ok(())
    };
    whole().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_whole(&path, |file| Ok(std::fs::write(file, "first")?)).unwrap();
        let failed = write_whole(&path, |file| {
            std::fs::write(file, "sec")?;
            anyhow::bail!("disk full")
        });
        assert_eq!(format!("{:#}", failed.unwrap_err()), format!("{}: disk full", path.display()));
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_whole(&folder.path().join("no/file"), |_| Ok(())).is_err());
    }
}
