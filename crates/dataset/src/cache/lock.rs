//! One job at a time builds a cache. The lock is the kernel's, on an open file, and goes with its process however that
//! ends. It saves work; what keeps caches whole is renaming.

use std::ffi::OsString;
use std::fs::{self, DirEntry, File, TryLockError};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;

use super::writer::temporaries;
use crate::{Error, Result};

/// Between two looks at a lock that another job holds.
const NAP: Duration = Duration::from_millis(100);
/// Between two looks at what the other job builds.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Says what it waits for after this time.
const FIRST_WORD: Duration = Duration::from_secs(3);

/// Held while a cache is built.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits until no other job builds the cache at `path`. `None` where the file system has no locks, the folder
    /// cannot be written to, or another user has put a link or a pipe in the lock's place. Look again for the cache after this: the other job may have built it.
    ///
    /// `watch` is called while it waits, and told whether the other job has visibly got on since the last time.
    ///
    /// # Errors
    /// Another job that holds the lock and has not visibly got on for `timeout`; [`Error::Interrupted`].
    pub fn acquire(path: &Path, timeout: Duration, watch: &dyn Fn(bool) -> ControlFlow<()>) -> Result<Option<Self>> {
        let name = format!(".{}.lock", path.file_name().unwrap_or_default().to_string_lossy());
        let lock = path.with_file_name(name);
        if let Some(parent) = path.parent() {
            let _ = fs::create_dir_all(parent); // if this fails, so does the next call
        }
        let start = Instant::now();
        let mut said = false;
        let mut seen = Trace::look(path, &lock);
        let (mut looked, mut progressed) = (start, start);
        // Others may be able to write to the folder: nothing is made or waited for where a link or a pipe leads to.
        let wary = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let mut options = File::options();
        options.create(true).truncate(false).write(true).custom_flags(wary);
        while let Ok(file) = options.open(&lock) {
            match file.try_lock() {
                // Whoever held it before may have removed the file that we opened.
                Ok(()) if !has_name(&file, &lock) => continue,
                Ok(()) => {
                    sign(&file);
                    return Ok(Some(Self { path: lock, _file: file }));
                }
                Err(TryLockError::Error(_)) => {
                    let _ = fs::remove_file(&lock); // it was only made to be locked
                    return Ok(None);
                }
                Err(TryLockError::WouldBlock) => {}
            }
            let mut has_progressed = false;
            // A folder across a network is not listed at every look.
            if looked.elapsed() >= LONGEST_PAUSE.min(timeout / 4) {
                looked = Instant::now();
                let now = Trace::look(path, &lock);
                has_progressed = now != seen;
                if has_progressed {
                    (seen, progressed) = (now, looked);
                }
            }
            if watch(has_progressed).is_break() {
                return Err(Error::Interrupted);
            }
            if progressed.elapsed() > timeout {
                let (holder, silent) = (holder(&lock), progressed.elapsed().as_secs());
                return Err(Error::cache(
                    path,
                    format!(
                        "another job{holder} has been building it, and has not got on for {silent} s; end that job"
                    ),
                ));
            }
            if start.elapsed() > FIRST_WORD && !said {
                log::info!("{}: waiting for another job{} that builds this cache", path.display(), holder(&lock));
                said = true;
            }
            std::thread::sleep(NAP);
        }
        Ok(None)
    }
}

/// What of another job's build shows: who holds the lock, and when how much was written to what it builds.
#[derive(PartialEq, Eq)]
struct Trace {
    lock: Option<u64>,
    temporaries: Vec<(OsString, u64, Option<SystemTime>)>,
}

impl Trace {
    fn look(path: &Path, lock: &Path) -> Self {
        let of = |entry: DirEntry| {
            let metadata = entry.metadata().ok()?;
            Some((entry.file_name(), metadata.len(), metadata.modified().ok()))
        };
        let mut temporaries: Vec<_> = temporaries(path).into_iter().filter_map(of).collect();
        temporaries.sort_unstable();
        Self { lock: fs::metadata(lock).ok().map(|metadata| metadata.ino()), temporaries }
    }
}

/// Writes into the lock whose it is.
fn sign(mut lock: &File) {
    let system = rustix::system::uname();
    let text = format!("process {} on {}", std::process::id(), system.nodename().to_string_lossy());
    let _ = lock.set_len(0).and_then(|()| lock.write_all(text.as_bytes())); // it helps people, and nobody else
}

/// What its holder has written into the lock: " (process 123 on n1)".
fn holder(lock: &Path) -> String {
    match fs::read_to_string(lock) {
        Ok(text) if (1..200).contains(&text.len()) => format!(" ({text})"),
        _ => String::new(),
    }
}

fn has_name(file: &File, path: &Path) -> bool {
    let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((&file.metadata(), &fs::symlink_metadata(path)), (Ok(open), Ok(named)) if identity(open) == identity(named))
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // while it is still locked; one that stays does no harm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_planted_is_not_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (target, lock) in [("nothing", ".a.h5.lock"), ("precious", ".b.h5.lock")] {
            std::os::unix::fs::symlink(path(target), path(lock)).unwrap();
        }
        fs::write(path("precious"), "kept").unwrap();
        for cache in ["a.h5", "b.h5"] {
            assert!(
                Lock::acquire(&path(cache), Duration::ZERO, &|_| ControlFlow::Continue(())).unwrap().is_none(),
                "{cache}"
            );
        }
        assert!(!path("nothing").exists());
        let pipe = path(".c.h5.lock");
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(Lock::acquire(&path("c.h5"), Duration::ZERO, &|_| ControlFlow::Continue(())).unwrap().is_none());
        let held = Lock::acquire(&path("d.h5"), Duration::ZERO, &|_| ControlFlow::Continue(())).unwrap();
        assert!(
            held.is_some() && Lock::acquire(&path("d.h5"), Duration::ZERO, &|_| ControlFlow::Continue(())).is_err()
        );
    }
}
