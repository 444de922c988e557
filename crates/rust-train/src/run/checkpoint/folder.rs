//! The folder with a run's checkpoints: which are there, which is the newest that is whole, and which can go.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{BestModel, Checkpoint, STATE, State, best};

/// Checkpoints on their way have names that begin so.
const UNFINISHED: &str = ".unfinished-";

/// A checkpoint's step, and its number among those of the same step.
type Order = (u64, u64);

/// Of a name: `step-00000120`, or `step-00000120.1` for the next one of that step.
fn order(name: &str) -> Option<Order> {
    let name = name.strip_prefix("step-")?;
    let (step, again) = name.split_once('.').unwrap_or((name, "0"));
    Some((step.parse().ok()?, again.parse().ok()?))
}

/// The folder with the checkpoints of a run.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints(PathBuf);

/// A checkpoint that was found whole.
#[derive(Debug)]
pub(crate) struct Found {
    pub path: PathBuf,
    /// Its files, as [`Checkpoint::of_bytes`] takes them.
    pub files: Vec<(String, Vec<u8>)>,
    /// What is wrong with newer ones.
    pub damaged: Vec<String>,
}

impl Found {
    /// What it says of itself.
    pub(crate) fn state(&self) -> anyhow::Result<State> {
        let (_, bytes) = self.files.first().context("a checkpoint has a state")?;
        State::parse(bytes)
    }

    /// Puts the newest and the best model of this checkpoint, of the run in `from`, in their places in the folder `run`.
    /// Where the best one is nowhere any more, this says so, and whoever goes on from here knows of none.
    pub(crate) fn restore_models(&mut self, from: &Path, run: &Path) -> anyhow::Result<()> {
        let mut state = self.state()?;
        if best::restore(self, &state, from, run)? {
            return Ok(());
        }
        log::warn!(
            "{}: the best model so far is not there any more; the best epoch from here on counts",
            from.join(best::BEST_MODEL).display()
        );
        (state.format_version, state.position.best, state.best_model) = (State::FORMAT_VERSION, None, None);
        self.files[0].1 = serde_json::to_vec_pretty(&state)?;
        Ok(())
    }
}

impl Checkpoints {
    /// Those of the run in `run`.
    pub(crate) fn of_run(run: &Path) -> Self {
        Self(run.join("checkpoints"))
    }

    /// The step and place of every checkpoint, the newest first. Whether they are whole only reading them shows.
    fn list(&self) -> Vec<(Order, PathBuf)> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((order(entry.file_name().to_str()?)?, entry.path()))
            })
            .collect();
        found.sort_unstable();
        found.reverse();
        found
    }

    /// The places of all checkpoints, the newest first.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.list().into_iter().map(|(_, path)| path).collect()
    }

    /// What the newest checkpoint says of itself that can be read; nothing else of it is looked at.
    pub(crate) fn newest_state(&self) -> Option<State> {
        self.list().iter().find_map(|(_, path)| State::parse(&fs::read(path.join(STATE)).ok()?).ok())
    }

    /// The newest checkpoint that is whole.
    ///
    /// # Errors
    /// There are some, and none of them is whole.
    pub(crate) fn newest(&self) -> anyhow::Result<Option<Found>> {
        let mut damaged = Vec::new();
        for (_, path) in self.list() {
            match Checkpoint::read_bytes(&path) {
                Ok(files) => return Ok(Some(Found { path, files, damaged })),
                Err(error) => damaged.push(format!("{error:#}")),
            }
        }
        match damaged.first() {
            None => Ok(None),
            Some(first) => {
                Err(anyhow::anyhow!("{}: none of {} checkpoints is whole: {first}", self.0.display(), damaged.len()))
            }
        }
    }

    /// The checkpoint in the folder `path` itself.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Found> {
        Ok(Found { path: path.to_owned(), files: Checkpoint::read_bytes(path)?, damaged: Vec::new() })
    }

    /// Whether `path` is the folder of a checkpoint.
    pub(crate) fn is_one(path: &Path) -> bool {
        path.join(STATE).is_file()
    }

    /// Writes `checkpoint`, whole or not at all, and gives its place and its state as it was written.
    ///
    /// The run's folder itself is not made anew: where it has been moved away, its checkpoints would lie alone.
    pub(super) fn write(&self, checkpoint: &Checkpoint, best: &BestModel) -> anyhow::Result<(PathBuf, State)> {
        match fs::create_dir(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| self.0.display().to_string());
            }
            _ => {}
        }
        let step = checkpoint.state.position.step;
        // A run that goes on from a step may save that step again. What is there stays until the new one is whole.
        let again =
            self.list().iter().filter(|((other, _), _)| *other == step as u64).map(|((_, again), _)| again + 1).max();
        let again = again.map_or(String::new(), |again| format!(".{again}"));
        let place = self.0.join(format!("step-{step:08}{again}"));
        let unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&self.0)?;
        let state = checkpoint.write(unfinished.path(), best)?;
        fs::rename(unfinished.path(), &place).with_context(|| place.display().to_string())?;
        let _ = unfinished.keep(); // it has another name now
        File::open(&self.0).and_then(|folder| folder.sync_all()).with_context(|| self.0.display().to_string())?;
        Ok((place, state))
    }

    /// Removes all but the newest `keep`.
    pub(crate) fn prune(&self, keep: usize) -> anyhow::Result<()> {
        self.list().iter().skip(keep.max(1)).try_for_each(|(_, path)| remove(path))
    }

    /// Removes checkpoints newer than `step`, which a run that goes on from there will write anew, and what killed runs
    /// left half-written.
    pub(crate) fn cut_back(&self, step: usize) -> anyhow::Result<()> {
        self.list().iter().filter(|((other, _), _)| *other > step as u64).try_for_each(|(_, path)| remove(path))?;
        let Ok(entries) = fs::read_dir(&self.0) else { return Ok(()) };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path()).with_context(|| entry.path().display().to_string())?;
            }
        }
        Ok(())
    }
}

/// Removes a checkpoint: first its state, so that what is left after a kill is none.
fn remove(path: &Path) -> anyhow::Result<()> {
    let remove = || {
        match fs::remove_file(path.join(STATE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::remove_dir_all(path)
    };
    remove().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::checkpoint;
    use super::*;

    #[test]
    fn the_newest_whole_one_counts() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of_run(run.path());
        assert!(checkpoints.newest().unwrap().is_none());
        let places: Vec<_> =
            [3, 20, 100].map(|step| checkpoints.write(&checkpoint(step), &BestModel::default()).unwrap().0).into();
        let step = |found: &Found| Checkpoint::of_bytes(found.files.clone()).unwrap().state.position.step;
        assert_eq!(step(&checkpoints.newest().unwrap().unwrap()), 100);

        // One byte of the newest is another; the one before is cut short.
        let damage = |path: PathBuf, change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = fs::read(&path).unwrap();
            change(&mut bytes);
            fs::write(path, bytes).unwrap();
        };
        damage(places[2].join("model.safetensors"), &|bytes| *bytes.last_mut().unwrap() ^= 1);
        let found = checkpoints.newest().unwrap().unwrap();
        assert_eq!((step(&found), found.damaged.len()), (20, 1));
        assert!(found.damaged[0].contains("step-00000100/model.safetensors: is damaged"), "{:?}", found.damaged);
        damage(places[1].join("state.json"), &|bytes| bytes.truncate(50));
        assert_eq!(step(&checkpoints.newest().unwrap().unwrap()), 3);
        fs::remove_file(places[0].join("optimizer.safetensors")).unwrap();
        let error = checkpoints.newest().unwrap_err().to_string();
        assert!(error.contains("none of 3 checkpoints is whole"), "{error}");
    }

    #[test]
    fn old_ones_and_leftovers_go() {
        let run = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::of_run(run.path());
        for step in [1, 2, 3, 4, 4] {
            checkpoints.write(&checkpoint(step), &BestModel::default()).unwrap();
        }
        fs::create_dir(run.path().join("checkpoints/.unfinished-x")).unwrap();
        let steps = || checkpoints.list().into_iter().map(|(order, _)| order).collect::<Vec<_>>();
        checkpoints.prune(4).unwrap();
        assert_eq!(steps(), [(4, 1), (4, 0), (3, 0), (2, 0)]);
        checkpoints.cut_back(3).unwrap();
        assert_eq!(steps(), [(3, 0), (2, 0)]);
        assert_eq!(fs::read_dir(run.path().join("checkpoints")).unwrap().count(), 2);
    }
}
