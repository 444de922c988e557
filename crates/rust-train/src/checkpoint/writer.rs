//! Writes checkpoints on a thread of its own, one after the other, while training goes on.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Checkpoint, Checkpoints};
use crate::files::write_whole;

/// A checkpoint on the disk.
#[derive(Debug)]
pub(crate) struct Saved {
    pub path: PathBuf,
    /// How long writing took.
    pub took: Duration,
}

/// Writes a run's checkpoints; rank 0 has it.
#[derive(Debug)]
pub(crate) struct Writer {
    run: PathBuf,
    keep: usize,
    under_way: Option<JoinHandle<anyhow::Result<Saved>>>,
}

impl Writer {
    /// For the run in `run`, of which the newest `keep` checkpoints stay.
    pub(crate) fn new(run: &Path, keep: usize) -> Self {
        Self { run: run.to_owned(), keep, under_way: None }
    }

    /// Whether one is still being written.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Begins to write `checkpoint`, as the best so far too if it `is_best`. The one before must have been
    /// [finished](Self::finish).
    pub(crate) fn start(&mut self, checkpoint: Checkpoint, is_best: bool) {
        debug_assert!(self.under_way.is_none(), "one at a time");
        let (run, keep) = (self.run.clone(), self.keep);
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        let write = move || write(&run, keep, &checkpoint, is_best).context("saving the checkpoint");
        self.under_way = Some(thread.spawn(write).expect("a thread can be started"));
    }

    /// Waits for the one that is being written, if any.
    pub(crate) fn finish(&mut self) -> anyhow::Result<Option<Saved>> {
        let Some(thread) = self.under_way.take() else { return Ok(None) };
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map(Some)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            log::error!("{error:#}");
        }
    }
}

fn write(run: &Path, keep: usize, checkpoint: &Checkpoint, is_best: bool) -> anyhow::Result<Saved> {
    let start = Instant::now();
    let checkpoints = Checkpoints::of_run(run);
    let path = checkpoints.write(checkpoint)?;
    let model = path.join(checkpoint.best_file());
    publish(&model, &run.join("last.safetensors"))?;
    if is_best {
        publish(&model, &run.join("best.safetensors"))?;
    }
    checkpoints.prune(keep)?;
    Ok(Saved { path, took: start.elapsed() })
}

/// Gives the file `model` another name, in the place of what had it before: a hard link, or a copy on file systems
/// without.
fn publish(model: &Path, name: &Path) -> anyhow::Result<()> {
    let link = || -> std::io::Result<()> {
        let folder = name.parent().unwrap_or(Path::new("."));
        let mut temporary = tempfile::Builder::new();
        let temporary = temporary
            .prefix(".rust-train.")
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

    #[test]
    fn the_last_and_the_best_stay() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(run.path(), 2);
        for (step, is_best) in [(1, true), (2, true), (3, false), (4, false)] {
            writer.start(checkpoint(step), is_best);
            let saved = writer.finish().unwrap().unwrap();
            assert!(saved.path.ends_with(format!("checkpoints/step-{step:08}")));
        }
        let value = |name: &str| {
            let found = weights::read(&run.path().join(name)).unwrap();
            found.entries()[0].1.to_f32()[0]
        };
        assert_eq!((value("best.safetensors"), value("last.safetensors")), (2.0, 4.0));
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
        writer.start(checkpoint(1), true);
        writer.finish().unwrap();
        let mut broken = checkpoint(2);
        broken.model.push(broken.model[0].clone()); // the same name twice is no file
        broken.model[1].0 = "weight".to_owned();
        std::fs::remove_dir_all(run.path().join("checkpoints")).unwrap();
        std::fs::write(run.path().join("checkpoints"), "a file, no folder").unwrap();
        writer.start(broken, false);
        let error = format!("{:#}", writer.finish().unwrap_err());
        assert!(error.starts_with("saving the checkpoint: ") && error.contains("checkpoints"), "{error}");
        assert!(run.path().join("best.safetensors").exists());
        assert!(writer.finish().unwrap().is_none());
    }
}
