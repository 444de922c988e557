//! Writes checkpoints on a thread of its own, one after the other, while training goes on.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::best::{BEST_MODEL, LAST_MODEL};
use super::{BEST, BestModel, Checkpoint, Checkpoints};
use crate::files::{TEMPORARY, write_whole};

/// A checkpoint on the disk.
#[derive(Debug)]
pub(crate) struct Saved {
    pub path: PathBuf,
    pub step: usize,
    /// How long writing took.
    pub took: Duration,
}

/// Writes a run's checkpoints; rank 0 has it.
#[derive(Debug)]
pub(crate) struct Writer {
    run: PathBuf,
    keep: usize,
    /// As the last checkpoint left it.
    best: BestModel,
    /// The step of the newest checkpoint that is on the disk.
    saved: Option<usize>,
    under_way: Option<JoinHandle<(anyhow::Result<Saved>, BestModel)>>,
}

impl Writer {
    /// For the run in `run`, of which the newest `keep` checkpoints stay.
    pub(crate) fn new(run: &Path, keep: usize) -> Self {
        Self { run: run.to_owned(), keep, best: BestModel::default(), saved: None, under_way: None }
    }

    /// The run goes on from the checkpoint of a `step`, whose best model has this hash.
    pub(crate) fn goes_on(&mut self, step: usize, hash: Option<String>) {
        self.saved = Some(step);
        self.best.hash = hash;
    }

    /// The step of the newest checkpoint that is on the disk.
    pub(crate) fn saved(&self) -> Option<usize> {
        self.saved
    }

    /// Keeps the model of a `checkpoint` that is not written, where it is the best so far: the next one carries it along.
    pub(crate) fn keep_best(&mut self, checkpoint: Checkpoint) {
        if checkpoint.state.is_best {
            self.best.unsaved = Some(checkpoint.run_model());
        }
    }

    /// Whether one is still being written.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Begins to write `checkpoint`, as the best so far too if it says so. The one before must have been
    /// [finished](Self::finish).
    pub(crate) fn start(&mut self, checkpoint: Checkpoint) {
        debug_assert!(self.under_way.is_none(), "one at a time");
        let (run, keep, mut best) = (self.run.clone(), self.keep, std::mem::take(&mut self.best));
        if checkpoint.state.is_best {
            // Until it is in its place, wherever that fails.
            best.unsaved = Some(checkpoint.run_model());
        }
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        let write = move || {
            let saved = write(&run, keep, &checkpoint, &mut best).context("saving the checkpoint");
            (saved, best)
        };
        self.under_way = Some(thread.spawn(write).expect("a thread can be started"));
    }

    /// Waits for the one that is being written, if any.
    pub(crate) fn finish(&mut self) -> anyhow::Result<Option<Saved>> {
        let Some(thread) = self.under_way.take() else { return Ok(None) };
        let (saved, best) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.best = best;
        if let Ok(Saved { step, .. }) = saved {
            self.saved = Some(step);
        }
        saved.map(Some)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            log::error!("{error:#}");
        }
    }
}

fn write(run: &Path, keep: usize, checkpoint: &Checkpoint, best: &mut BestModel) -> anyhow::Result<Saved> {
    let start = Instant::now();
    let checkpoints = Checkpoints::of_run(run);
    let (path, state) = checkpoints.write(checkpoint, best)?;
    best.hash.clone_from(&state.best_model);
    let model = path.join(state.model_file());
    publish(&model, &run.join(LAST_MODEL))?;
    if best.unsaved.is_some() {
        publish(&if state.is_best { model } else { path.join(BEST) }, &run.join(BEST_MODEL))?;
        best.unsaved = None;
    }
    checkpoints.prune(keep)?;
    Ok(Saved { path, step: state.position.step, took: start.elapsed() })
}

/// Gives the file `model` another name, in the place of what had it before: a hard link, or a copy on file systems
/// without.
pub(super) fn publish(model: &Path, name: &Path) -> anyhow::Result<()> {
    let link = || -> std::io::Result<()> {
        let folder = name.parent().unwrap_or(Path::new("."));
        let mut temporary = tempfile::Builder::new();
        let temporary = temporary
            .prefix(TEMPORARY)
            .make_in(folder, |temporary| std::fs::hard_link(model, temporary))?
            .into_temp_path();
        // Leaves the temporary name where `name` is this very file already; dropping it does not.
        std::fs::rename(&temporary, name)
    };
    link().or_else(|_| write_whole(name, |copy| Ok(std::fs::copy(model, copy).map(drop)?)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::checkpoint;
    use super::*;

    fn scored(step: usize, is_best: bool) -> Checkpoint {
        let mut checkpoint = checkpoint(step);
        checkpoint.state.is_best = is_best;
        checkpoint
    }

    /// What the model in this file of a run holds.
    fn value(run: &Path, name: &str) -> f64 {
        let found = weights::read(&run.join(name)).unwrap();
        found.entries()[0].1.to_f32()[0].into()
    }

    #[test]
    fn the_last_and_the_best_stay() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(run.path(), 2);
        for (step, is_best) in [(1, true), (2, true), (3, false), (4, false)] {
            writer.start(scored(step, is_best));
            let saved = writer.finish().unwrap().unwrap();
            assert!(saved.path.ends_with(format!("checkpoints/step-{step:08}")));
        }
        assert_eq!(["best.safetensors", "last.safetensors"].map(|name| value(run.path(), name)), [2.0, 4.0]);
        let mut names: Vec<_> = std::fs::read_dir(run.path().join("checkpoints"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["step-00000003", "step-00000004"]);
        assert_eq!(std::fs::read_dir(run.path()).unwrap().count(), 3, "nothing else is left");
        // Whoever may read a new file of this user's may read the weights.
        let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        let other = run.path().join("other");
        std::fs::write(&other, "").unwrap();
        assert_eq!(mode(&run.path().join("best.safetensors")), mode(&other));
    }

    #[test]
    fn a_failure_is_told_and_leaves_what_was_there() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(run.path(), 2);
        writer.start(scored(1, true));
        writer.finish().unwrap();
        let mut broken = checkpoint(2);
        broken.model.push(broken.model[0].clone()); // the same name twice is not a file
        broken.model[1].0 = "weight".to_owned();
        std::fs::remove_dir_all(run.path().join("checkpoints")).unwrap();
        std::fs::write(run.path().join("checkpoints"), "a file, no folder").unwrap();
        writer.start(broken);
        let error = format!("{:#}", writer.finish().unwrap_err());
        assert!(error.starts_with("saving the checkpoint: ") && error.contains("checkpoints"), "{error}");
        assert!(run.path().join("best.safetensors").exists());
        assert!(writer.finish().unwrap().is_none());
    }

    /// The best model was not saved because the disk was full: the next checkpoint carries it along, and whoever goes on
    /// from there has it, even if nobody got so far as to put it in its place.
    #[test]
    fn a_best_model_that_was_not_saved_is_not_lost() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(run.path(), 1);
        writer.start(scored(1, true));
        writer.finish().unwrap();
        let in_the_way = run.path().join("checkpoints");
        let aside = run.path().join("aside");
        std::fs::rename(&in_the_way, &aside).unwrap();
        std::fs::write(&in_the_way, "a file, no folder").unwrap();
        writer.start(scored(2, true));
        assert!(writer.finish().is_err());
        assert_eq!(value(run.path(), BEST_MODEL), 1.0);
        std::fs::remove_file(&in_the_way).unwrap();
        std::fs::rename(&aside, &in_the_way).unwrap();

        writer.start(scored(3, false));
        let saved = writer.finish().unwrap().unwrap();
        std::fs::remove_file(run.path().join(BEST_MODEL)).unwrap(); // as if it had been killed before
        let mut found = Checkpoints::of_run(run.path()).newest().unwrap().unwrap();
        found.restore_models(run.path(), run.path()).unwrap();
        assert_eq!((value(run.path(), BEST_MODEL), value(run.path(), LAST_MODEL)), (2.0, 3.0));
        writer.start(scored(4, false));
        writer.finish().unwrap();
        assert!(!saved.path.exists(), "only one is kept");
        let mut found = Checkpoints::of_run(run.path()).newest().unwrap().unwrap();
        found.restore_models(run.path(), run.path()).unwrap();
        assert_eq!(value(run.path(), BEST_MODEL), 2.0);
    }

    /// Killed between a checkpoint and its publication, or with another's file in its place.
    #[test]
    fn models_that_are_not_in_their_place_are_put_there() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(run.path(), 2);
        for (step, is_best) in [(1, true), (2, true)] {
            writer.start(scored(step, is_best));
            writer.finish().unwrap();
        }
        let names = [BEST_MODEL, LAST_MODEL];
        for spoil in [
            |path: &Path| std::fs::remove_file(path).unwrap(),
            |path: &Path| {
                std::fs::remove_file(path).unwrap();
                std::fs::write(path, "something else").unwrap();
            },
        ] {
            names.iter().for_each(|name| spoil(&run.path().join(name)));
            let mut found = Checkpoints::of_run(run.path()).newest().unwrap().unwrap();
            found.restore_models(run.path(), run.path()).unwrap();
            assert_eq!(names.map(|name| value(run.path(), name)), [2.0, 2.0]);
        }
        // Also in the folder of a run that goes on elsewhere.
        let other = tempfile::tempdir().unwrap();
        let mut found = Checkpoints::of_run(run.path()).newest().unwrap().unwrap();
        found.restore_models(run.path(), other.path()).unwrap();
        assert_eq!(names.map(|name| value(other.path(), name)), [2.0, 2.0]);

        // The best one is an older checkpoint's, which is pruned, and its file is gone: nobody says that it is there.
        for step in [3, 4] {
            writer.start(scored(step, false));
            writer.finish().unwrap();
        }
        std::fs::remove_file(run.path().join(BEST_MODEL)).unwrap();
        let mut found = Checkpoints::of_run(run.path()).newest().unwrap().unwrap();
        assert!(found.state().unwrap().position.best.is_some());
        found.restore_models(run.path(), run.path()).unwrap();
        let state = found.state().unwrap();
        assert_eq!((state.position.best, state.best_model), (None, None));
        assert!(!run.path().join(BEST_MODEL).exists());
    }
}
