//! The folder with a run's results: found or made, and held, before anything else is done.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use world::World;

use crate::config::plan::Plan;
use crate::config::recipe::PLAN_FILE;
use crate::errors::{to_failure, usage};

/// Below this folder runs lie that have not been given another.
pub(crate) const RUNS: &str = "runs";

/// What a run has written into its folder, whatever else lies there.
const SIGNS_OF_A_RUN: [&str; 3] = [PLAN_FILE, "metrics.jsonl", "checkpoints"];

/// What a run would write over. Whatever else lies in its folder is none of its business: Slurm's log, a batch script.
const WRITTEN: [&str; 6] =
    ["best.safetensors", "environment.json", "evaluation.json", "last.safetensors", "metrics.csv", "report.html"];

const LOCK: &str = ".lock";

/// The folder of a run, which no other job works in as long as this is there. Rank 0 has it.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// Whether it was made for this run; and whether the folder around it was.
    is_new: bool,
    is_parent_new: bool,
    /// `None` where the file system has no locks.
    lock: Option<Lock>,
}

impl RunFolder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder `path` for a new run, or takes one in which no run has begun.
    pub(crate) fn begin(path: &Path) -> anyhow::Result<Self> {
        let flag = format!("--output {}", path.display());
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let is_parent_new = parent.is_some_and(|parent| !parent.exists());
        if let Some(parent) = parent {
            fs::create_dir_all(parent).map_err(|error| usage(format!("{flag}: {error}")))?;
        }
        let is_new = match fs::create_dir(path) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => false,
            Err(error) => return Err(usage(format!("{flag}: {error}"))),
        };
        let folder = Self { path: path.to_owned(), is_new, is_parent_new, lock: Lock::acquire(path)? };
        // Looked at under the lock: whoever held it before may have written there.
        let names = names(path)?;
        if has_run(&names) {
            return Err(usage(format!(
                "{flag}: a run is there already; name another folder, or resume it with --resume auto"
            )));
        }
        match names.iter().find(|name| WRITTEN.contains(&name.as_str())) {
            Some(name) => Err(usage(format!("{flag}: {name} is there, and no run is: name another folder"))),
            None => Ok(folder),
        }
    }

    /// Makes the first of NAME, NAME-2, NAME-3… below `parent` that is not there yet. Making it is the test, so that two
    /// runs never share one.
    pub(crate) fn begin_numbered(parent: &Path, name: &str) -> anyhow::Result<Self> {
        let is_parent_new = !parent.exists();
        let make_parent =
            || fs::create_dir_all(parent).map_err(|error| usage(format!("{}: {error}", parent.display())));
        make_parent()?;
        for number in 1.. {
            let path = parent.join(if number == 1 { name.to_owned() } else { format!("{name}-{number}") });
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { lock: Lock::acquire(&path)?, path, is_new: true, is_parent_new }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                // Another job of which nothing has come has just taken it away.
                Err(error) if error.kind() == ErrorKind::NotFound => make_parent()?,
                Err(error) => return Err(usage(format!("{}: {error}", path.display()))),
            }
        }
        unreachable!("numbers do not end")
    }

    /// Takes the folder of a run that has begun.
    ///
    /// # Errors
    /// Another job works in it.
    pub(crate) fn take(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { path: path.to_owned(), is_new: false, is_parent_new: false, lock: Lock::acquire(path)? })
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // Nothing has come of it: the next one need not ask for another name.
        let untouched = self.is_new && names(&self.path).is_ok_and(|names| names.iter().all(|name| name == LOCK));
        drop(self.lock.take());
        if untouched {
            let _ = fs::remove_dir(&self.path); // it only works while it is empty
            if let Some(parent) = self.path.parent().filter(|_| self.is_parent_new) {
                let _ = fs::remove_dir(parent);
            }
        }
    }
}

/// Whether a run has begun in the folder `path`.
///
/// # Errors
/// It is there, and no folder that can be read.
pub(crate) fn is_run(path: &Path) -> anyhow::Result<bool> {
    Ok(has_run(&names(path)?))
}

fn has_run(names: &[String]) -> bool {
    names.iter().any(|name| SIGNS_OF_A_RUN.contains(&name.as_str()))
}

/// The names in a folder; none where it is not there.
fn names(path: &Path) -> anyhow::Result<Vec<String>> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(usage(format!("--output {}: {error}", path.display()))),
        Ok(entries) => {
            let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
            Ok(entries.filter_map(|entry| Some(name(entry.ok()?))).collect())
        }
    }
}

/// The folders that [`RunFolder::begin_numbered`] has made for runs called `name`, the newest first.
pub(crate) fn numbered(parent: &Path, name: &str) -> Vec<PathBuf> {
    let number = |entry: fs::DirEntry| {
        let folder = entry.file_name().into_string().ok()?;
        let number = match folder.strip_prefix(name)? {
            "" => 1,
            rest => rest.strip_prefix('-')?.parse::<u64>().ok()?,
        };
        Some((number, entry.path()))
    };
    let mut found: Vec<_> =
        fs::read_dir(parent).into_iter().flatten().filter_map(|entry| number(entry.ok()?)).collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.into_iter().map(|(_, path)| path).collect()
}

/// Held while a run writes into its folder; the kernel's own lock, which goes with the process.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Makes sure that no other job writes into `folder`: one that was submitted twice would spoil both. `None` where the
    /// file system has no locks.
    ///
    /// # Errors
    /// Another job does.
    fn acquire(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(LOCK);
        loop {
            let Ok(file) = File::options().create(true).truncate(false).write(true).open(&path) else {
                return Ok(None); // whoever may not write there will be told when it writes
            };
            match file.try_lock() {
                // Whoever held it before has removed its file; a lock on a file without a name locks nobody out.
                Ok(()) if !is_still(&path, &file) => {}
                Ok(()) => return Ok(Some(Self { path, _file: file })),
                Err(TryLockError::WouldBlock) => {
                    return Err(usage(format!("--output {}: another job is training there", folder.display())));
                }
                Err(TryLockError::Error(error)) => {
                    log::warn!(
                        "{}: no locks on this file system ({error}): make sure that no other job trains there",
                        folder.display()
                    );
                    let _ = fs::remove_file(&path); // it was only made to be locked
                    return Ok(None);
                }
            }
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
        let _ = fs::remove_file(&self.path); // while it is still locked; one that stays does no harm
    }
}

/// Makes the folder `output`, or where there is none, a new one of this name below the folder of runs, for what is no
/// training run. Collective; rank 0 makes it, all ranks learn its name.
pub(crate) fn create_named(world: &World, output: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    let bytes = world.from_rank_zero("making the folder for the results", || {
        let made = match output {
            Some(path) => RunFolder::begin(path),
            None => RunFolder::begin_numbered(Path::new(RUNS), name),
        };
        let mut folder = made.map_err(|error| to_failure(&error))?;
        folder.is_new = false; // it stays
        Ok(folder.path().as_os_str().as_bytes().to_vec())
    })?;
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

/// The name of the folder of a run that is given none.
pub(crate) fn name(plan: &Plan) -> String {
    // What is no training run must not be taken for one that could go on.
    format!("{}{}", if plan.flags.eval_only { "eval-" } else { "" }, plan.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_gets_a_new_folder() {
        let root = tempfile::tempdir().unwrap();
        let runs = root.path().join("runs");
        let begun: Vec<_> = (0..3).map(|_| RunFolder::begin_numbered(&runs, "digits").unwrap()).collect();
        let paths: Vec<_> = begun.iter().map(|folder| folder.path().to_owned()).collect();
        assert_eq!(paths, ["digits", "digits-2", "digits-3"].map(|name| runs.join(name)));
        fs::create_dir(runs.join("digits-other")).unwrap();
        assert_eq!(numbered(&runs, "digits"), ["digits-3", "digits-2", "digits"].map(|name| runs.join(name)));
        assert_eq!(numbered(&runs, "cifar"), [""; 0].map(PathBuf::from));
        fs::write(paths[1].join(PLAN_FILE), "").unwrap();
        drop(begun);
        let left: Vec<_> = numbered(&runs, "digits");
        assert_eq!(left, [runs.join("digits-2")], "a folder of which nothing has come goes again");
    }

    #[test]
    fn two_jobs_cannot_write_into_one_folder() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run");
        let first = RunFolder::begin(&path).unwrap();
        for second in [RunFolder::begin(&path), RunFolder::take(&path)] {
            let error = second.unwrap_err().to_string();
            assert!(error.ends_with("another job is training there"), "{error}");
        }
        drop(first);
        let again = RunFolder::begin(&path).unwrap();
        fs::write(path.join(PLAN_FILE), "").unwrap();
        drop(again);
        assert!(RunFolder::take(&path).is_ok());
        let error = RunFolder::begin(&path).unwrap_err().to_string();
        assert!(error.contains("a run is there already"), "{error}");
    }

    /// Whoever waits for a lock may open its file before the holder removes it.
    #[test]
    fn a_lock_is_on_the_file_that_has_the_name() {
        let root = tempfile::tempdir().unwrap();
        let (inside, turns) = (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let Ok(Some(lock)) = Lock::acquire(root.path()) else { continue };
                        let others = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(others, 0, "somebody else is inside");
                        turns.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(turns.into_inner() > 0);
    }

    #[test]
    fn files_of_others_do_no_harm_and_come_to_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| root.path().join(name);
        assert!(!is_run(&folder("new")).unwrap());
        fs::create_dir_all(folder("run/checkpoints")).unwrap();
        assert!(is_run(&folder("run")).unwrap());
        fs::create_dir_all(folder("logs/scripts")).unwrap();
        for name in ["slurm-17.out", "job.sh", ".nfs0001"] {
            fs::write(folder("logs").join(name), "").unwrap();
        }
        assert!(!is_run(&folder("logs")).unwrap());
        drop(RunFolder::begin(&folder("logs")).unwrap());
        assert_eq!(fs::read_dir(folder("logs")).unwrap().count(), 4);
        // Somebody's weights are not to be written over.
        fs::create_dir(folder("weights")).unwrap();
        fs::write(folder("weights/best.safetensors"), "").unwrap();
        let error = RunFolder::begin(&folder("weights")).unwrap_err().to_string();
        assert!(error.contains("best.safetensors is there, and no run is"), "{error}");
        fs::write(folder("file"), "").unwrap();
        assert!(RunFolder::begin(&folder("file")).unwrap_err().to_string().contains("File exists"));
    }
}
