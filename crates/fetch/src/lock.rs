//! One process at a time for each file, on one machine or on a file system whose locks reach all.
//!
//! The lock is the kernel's, on an open file: it goes with its process, however that ends, so a lock file that a crash
//! left behind holds nobody up. It is a courtesy that saves a download; what keeps files whole is renaming.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
    /// Waits for the lock at `path`, for at most `patience`. `None` where the file system has no locks.
    pub(crate) fn acquire(path: &Path, patience: Duration) -> Result<Option<Self>> {
        let start = Instant::now();
        let mut said = false;
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(path);
            let file = file.map_err(Error::io(path, "making the lock"))?;
            match file.try_lock() {
                // Whoever held it before has removed its file; a lock on a file without a name locks nobody out.
                Ok(()) if !is_still(path, &file) => continue,
                Ok(()) => return Ok(Some(Self { path: path.to_owned(), _file: file })),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    log::debug!("{}: no locks on this file system: {error}", path.display());
                    let _ = fs::remove_file(path); // it was only made to be locked
                    return Ok(None);
                }
            }
            let waited = start.elapsed();
            if waited >= patience {
                return Err(Error::Locked { path: path.to_owned(), waited });
            }
            if waited >= FIRST_WORD && !said {
                log::info!("{}: waiting for another process that fetches the same file", path.display());
                said = true;
            }
            std::thread::sleep(NAP);
        }
    }
}

fn is_still(path: &Path, file: &File) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (fs::metadata(path), file.metadata()) {
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
                        let lock = Lock::acquire(&path, Duration::from_secs(60)).unwrap().unwrap();
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
    fn patience_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        let _held = Lock::acquire(&path, Duration::ZERO).unwrap().unwrap();
        let error = Lock::acquire(&path, Duration::from_millis(60)).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
    }
}
