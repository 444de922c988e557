//! The folder with a run's results: a new one for every run.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use world::{Failure, World};

use crate::failure::{to_failure, usage};
use crate::plan::Plan;
use crate::recipe::PLAN_FILE;

/// Below this folder runs lie that have not been given another.
const RUNS: &str = "runs";

/// Whether `path` is the folder of a run, or one that a run could have been killed in before it wrote anything.
///
/// # Errors
/// It is there, and something else.
pub(crate) fn is_run(path: &Path) -> anyhow::Result<bool> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(|error| usage(format!("--output {}: {error}", path.display())))?,
    };
    let names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    if names.iter().all(|name| name == ".lock")
        || names.iter().any(|name| [PLAN_FILE, "metrics.jsonl", "checkpoints"].iter().any(|own| name == own))
    {
        Ok(true)
    } else {
        Err(usage(format!("--output {}: exists already, and is no run that could go on", path.display())))
    }
}

/// The newest folder that [`create`] has made for a run called `name`.
pub(crate) fn newest(name: &str) -> Option<PathBuf> {
    newest_below(Path::new(RUNS), name)
}

fn newest_below(parent: &Path, name: &str) -> Option<PathBuf> {
    let number = |entry: std::fs::DirEntry| {
        let folder = entry.file_name().into_string().ok()?;
        let number = match folder.strip_prefix(name)? {
            "" => 1,
            rest => rest.strip_prefix('-')?.parse::<u64>().ok()?,
        };
        Some((number, entry.path()))
    };
    std::fs::read_dir(parent).ok()?.filter_map(|entry| number(entry.ok()?)).max().map(|(_, path)| path)
}

/// Held while a run writes into its folder; the kernel's own lock, which goes with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Makes sure that no other job writes into `folder`: one that was submitted twice would spoil both. `None` where the
    /// file system has no locks.
    ///
    /// # Errors
    /// Another job does.
    pub(crate) fn acquire(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(".lock");
        let Ok(file) = File::options().create(true).truncate(false).write(true).open(&path) else { return Ok(None) };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { path, _file: file })),
            Err(TryLockError::WouldBlock) => {
                Err(usage(format!("--output {}: another job is training there", folder.display())))
            }
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // while it is still locked; one that stays does no harm
    }
}

/// Makes the folder for this run's results. Collective; rank 0 makes it, all ranks learn its name.
pub(crate) fn create(world: &World, plan: &Plan) -> anyhow::Result<PathBuf> {
    // What is no training run must not be taken for one that could go on.
    let prefix = if plan.eval_only { "eval-" } else { "" };
    create_named(world, plan.output.as_deref(), &format!("{prefix}{}", plan.name()))
}

/// Makes the folder `output`, or where there is none, a new one of this name below the folder of runs. Collective.
pub(crate) fn create_named(world: &World, output: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    let bytes = world.from_rank_zero("making the folder for the results", || {
        let made = match output {
            Some(path) => make(path).map(|()| path.to_owned()),
            None => make_new(Path::new(RUNS), name),
        };
        let path = made.map_err(|error| to_failure(&error))?;
        path.into_os_string()
            .into_string()
            .map_err(|path| Failure::usage(format!("{path:?} is not UTF-8")))
            .map(String::into_bytes)
    })?;
    Ok(PathBuf::from(String::from_utf8(bytes)?))
}

fn make(path: &Path) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| usage(format!("{}: {error}", parent.display())))?;
    }
    std::fs::create_dir(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => usage(format!(
            "--output {}: exists already; name a new folder, or go on with it by --resume auto",
            path.display()
        )),
        _ => usage(format!("--output {}: {error}", path.display())),
    })
}

/// The first of NAME, NAME-2, NAME-3… that is not there yet. Making it is the test, so that two runs never share one.
fn make_new(parent: &Path, name: &str) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(parent).map_err(|error| usage(format!("{}: {error}", parent.display())))?;
    for number in 1.. {
        let path = parent.join(if number == 1 { name.to_owned() } else { format!("{name}-{number}") });
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(usage(format!("{}: {error}", path.display()))),
        }
    }
    unreachable!("numbers do not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_gets_a_new_folder() {
        let root = tempfile::tempdir().unwrap();
        let runs = root.path().join("runs");
        let names: Vec<_> = (0..3).map(|_| make_new(&runs, "digits").unwrap()).collect();
        assert_eq!(names, ["digits", "digits-2", "digits-3"].map(|name| runs.join(name)));
        let error = make(&runs.join("digits")).unwrap_err();
        assert!(error.to_string().contains("exists already"), "{error}");
        std::fs::create_dir(runs.join("digits-other")).unwrap();
        assert_eq!(newest_below(&runs, "digits"), Some(runs.join("digits-3")));
        assert_eq!(newest_below(&runs, "cifar"), None);
    }

    #[test]
    fn two_jobs_cannot_write_into_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::acquire(folder.path()).unwrap();
        assert!(first.is_some());
        let second = Lock::acquire(folder.path()).unwrap_err().to_string();
        assert!(second.ends_with("another job is training there"), "{second}");
        drop(first);
        assert!(Lock::acquire(folder.path()).unwrap().is_some());
    }

    #[test]
    fn a_run_goes_on_in_its_own_folder_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| root.path().join(name);
        assert!(!is_run(&folder("new")).unwrap());
        std::fs::create_dir_all(folder("empty")).unwrap();
        std::fs::create_dir_all(folder("run/checkpoints")).unwrap();
        assert!(is_run(&folder("empty")).unwrap() && is_run(&folder("run")).unwrap());
        std::fs::create_dir_all(folder("photos/cats")).unwrap();
        assert!(is_run(&folder("photos")).unwrap_err().to_string().contains("no run that could go on"));
    }
}
