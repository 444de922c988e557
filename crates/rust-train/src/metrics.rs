//! `metrics.jsonl`: one JSON object a line, for programs to read.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

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
