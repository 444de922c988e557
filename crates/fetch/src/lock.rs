//! One process at a time for each file, on one machine or on a file system whose locks reach all.
//!
//! The lock is the kernel's, on an open file: it goes with its process, however that ends, so a lock file that a crash
//! left behind holds nobody up. It is a courtesy that saves a download; what keeps files whole is renaming.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::own::{Opened, open_to_lock};
use crate::{Error, Result};

/// Between two looks at a lock that another holds.
const NAP: Duration = Duration::from_millis(50);
/// Says what it waits for after this time.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// Holds a lock file; releasing removes it.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for the lock at `path`, for at most `timeout`, and calls `waiting` meanwhile. `None` where there can be none:
    /// on a file system without locks, or where another user has put something there that cannot be opened.
    ///
    /// # Errors
    /// A folder that cannot be written to, a wait that was too long, or what `waiting` says.
    pub(crate) fn acquire(path: &Path, timeout: Duration, waiting: &dyn Fn() -> Result<()>) -> Result<Option<Self>> {
        let start = Instant::now();
        let mut said = false;
        loop {
            let (file, is_new) = match open_to_lock(path).map_err(Error::io(path, "making the lock"))? {
                Opened::File { file, is_new } => (file, is_new),
                Opened::Foreign => {
                    log::debug!(
                        "{}: cannot be locked: it is a link, or another user's; continuing without",
                        path.display()
                    );
                    return Ok(None);
                }
            };
            match file.try_lock() {
                // Whoever held it before has removed its file; a lock on a file without a name locks nobody out.
                Ok(()) if !is_still(path, &file) => continue,
                Ok(()) => return Ok(Some(Self { path: path.to_owned(), _file: file })),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    log::debug!("{}: no locks on this file system: {error}", path.display());
                    if is_new {
                        let _ = fs::remove_file(path); // it was only made to be locked
                    }
                    return Ok(None);
                }
            }
            let waited = start.elapsed();
            if waited >= timeout {
                return Err(Error::Locked { path: path.to_owned(), waited });
            }
            if waited >= FIRST_WORD && !said {
                log::info!("{}: waiting for another process that fetches the same file", path.display());
                said = true;
            }
            waiting()?;
            std::thread::sleep(NAP);
        }
    }
}

fn is_still(path: &Path, file: &File) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => identity(named) == identity(open),
        _ => false,
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked, so that nobody else's file is removed. A file that stays does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_at_a_time_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        fs::write(&path, "left by a process that is no more").unwrap();
        let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let lock = Lock::acquire(&path, Duration::from_secs(60), &|| Ok(())).unwrap().unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "somebody else is inside");
                        turns.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 160);
        assert!(!path.exists());
    }

    #[test]
    fn the_timeout_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let _held = Lock::acquire(&path, Duration::ZERO, &|| Ok(())).unwrap().unwrap();
        let error = Lock::acquire(&path, Duration::from_millis(60), &|| Ok(())).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        // Or somebody ends it.
        let stop = || Err(Error::Interrupted { from: "file".to_owned() });
        let error = Lock::acquire(&path, Duration::from_secs(60), &stop).unwrap_err();
        assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    }

    #[test]
    fn what_cannot_be_opened_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("precious"), "kept").unwrap();
        std::os::unix::fs::symlink(path("precious"), path("link")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        for name in ["link", "folder"] {
            assert!(Lock::acquire(&path(name), Duration::from_secs(60), &|| Ok(())).unwrap().is_none());
            assert!(path(name).exists() && path("precious").exists());
        }
    }
}
