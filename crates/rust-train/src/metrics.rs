//! `metrics.jsonl`: one JSON object a line, for programs to read.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::files::write_whole;

/// Appends lines to a run's `metrics.jsonl`; only rank 0 has one.
#[derive(Debug)]
pub(crate) struct Metrics {
    path: PathBuf,
    file: File,
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct StepLine {
    pub step: usize,
    /// Mean loss over the global batch.
    pub loss: f64,
    pub lr: f64,
}

/// One epoch.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct EpochLine {
    pub epoch: usize,
    /// Mean of the steps' losses.
    pub train_loss: f64,
    pub val_loss: f64,
    pub top1: f64,
    pub top5: f64,
    /// Training pictures per second over all ranks, evaluation not counted.
    pub images_per_second: f64,
    /// Share of the training time that rank 0 waited for data, 0–1.
    pub data_wait: f64,
    /// Since the run started.
    pub elapsed_seconds: f64,
}

impl Metrics {
    pub(crate) fn create(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("metrics.jsonl");
        let file = File::create_new(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, file })
    }

    /// Goes on with what is there, cut back to what was written when `steps` steps and `epochs` epochs were done.
    pub(crate) fn resume(folder: &Path, steps: usize, epochs: usize) -> anyhow::Result<Self> {
        /// What tells a line's place.
        #[derive(Deserialize)]
        struct Place {
            step: Option<usize>,
            epoch: Option<usize>,
        }
        let path = folder.join("metrics.jsonl");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| path.display().to_string())?,
        };
        let is_done = |line: &&str| match serde_json::from_str(line) {
            Ok(Place { step: Some(step), .. }) => step < steps,
            Ok(Place { epoch: Some(epoch), .. }) => epoch <= epochs,
            _ => false, // cut off by a kill
        };
        let kept: String = text.lines().filter(is_done).flat_map(|line| [line, "\n"]).collect();
        write_whole(&path, |file| Ok(std::fs::write(file, &kept)?))?;
        let file = File::options().append(true).open(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, file })
    }

    /// Writes `lines`, in one call.
    pub(crate) fn write(&mut self, lines: &[impl Serialize]) -> anyhow::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        self.file.write_all(&text).with_context(|| self.path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_goes_on_forgets_what_it_will_do_again() {
        let folder = tempfile::tempdir().unwrap();
        let lines =
            ["{\"step\":0}", "{\"step\":1}", "{\"epoch\":1}", "{\"step\":2}", "{\"step\":3}", "{\"epoch\":2}", "{\"st"];
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, lines.join("\n")).unwrap();
        let mut metrics = Metrics::resume(folder.path(), 3, 1).unwrap();
        metrics.write(&[StepLine { step: 3, loss: 0.5, lr: 0.1 }]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n{{\"step\":3,\"loss\":0.5,\"lr\":0.1}}\n", lines[..4].join("\n")));
    }
}
