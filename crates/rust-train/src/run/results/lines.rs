//! Files of one JSON object a line, for programs to read: `metrics.jsonl`, from which a report is made, and `bits.jsonl`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::files::write_whole;

/// Appends lines to a run's file. Those that a full disk does not take wait until it does.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines in the file.
    length: u64,
    waiting: Vec<u8>,
    /// Whether it has been said that the file is not where it was.
    said_lost: bool,
}

impl Lines {
    pub(crate) fn create(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let path = folder.join(name);
        let file =
            File::options().append(true).create_new(true).open(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, file, length: 0, waiting: Vec::new(), said_lost: false })
    }

    /// Goes on with what is there, cut back to what was written when `steps` steps and `epochs` epochs were done.
    pub(crate) fn resume(folder: &Path, name: &str, steps: usize, epochs: usize) -> anyhow::Result<Self> {
        /// What tells a line's place.
        #[derive(Deserialize)]
        struct Place {
            step: Option<usize>,
            epoch: Option<usize>,
        }
        let path = folder.join(name);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if steps > 0 {
                    log::warn!("{}: is not there; the record starts over after step {steps}", path.display());
                }
                String::new()
            }
            read => read.with_context(|| path.display().to_string())?,
        };
        let is_done = |line: &&str| match serde_json::from_str(line) {
            Ok(Place { step: Some(step), .. }) => step < steps,
            Ok(Place { epoch: Some(epoch), .. }) => epoch <= epochs,
            _ => false, // cut off by a kill
        };
        let kept: String = text.lines().filter(is_done).flat_map(|line| [line, "\n"]).collect();
        if kept != text || kept.is_empty() {
            write_whole(&path, |file| Ok(std::fs::write(file, &kept)?))?;
        }
        let file = File::options().append(true).open(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, file, length: kept.len() as u64, waiting: Vec::new(), said_lost: false })
    }

    /// Writes `lines`, in one call. Where that fails, it says so once, and they wait for the next call.
    pub(crate) fn write(&mut self, lines: &[impl Serialize]) -> anyhow::Result<()> {
        let all_is_well = self.waiting.is_empty();
        for line in lines {
            serde_json::to_writer(&mut self.waiting, line)?;
            self.waiting.push(b'\n');
        }
        match self.flush() {
            Err(error) if all_is_well => log::warn!("{error:#}; training continues, and this is tried again later"),
            _ => {}
        }
        if let (Err(error), false) = (self.refuse_lost(), self.said_lost) {
            log::warn!("{error:#}; training continues, and the run will have failed at its end");
            self.said_lost = true;
        }
        Ok(())
    }

    /// Writes down what waits.
    ///
    /// # Errors
    /// The disk does not take it, or the record is not where it was.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        self.refuse_lost()
    }

    /// Whether the record is where whoever looks for it will look.
    fn refuse_lost(&self) -> anyhow::Result<()> {
        let there = std::fs::metadata(&self.path).map(|metadata| metadata.len());
        anyhow::ensure!(
            there.is_ok_and(|length| length >= self.length),
            "{}: was removed, moved or replaced while the run was writing to it, so its record is not whole",
            self.path.display()
        );
        Ok(())
    }

    /// Writes down what waits.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all(&self.waiting) {
            // A part of it may be there.
            self.file.set_len(self.length).with_context(|| self.path.display().to_string())?;
            return Err(error).with_context(|| self.path.display().to_string());
        }
        self.length += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::StepLine;

    #[test]
    fn a_record_that_is_gone_is_missed() {
        let line = [StepLine { step: 3, loss: 0.5, lr: 0.1 }];
        let spoil: [fn(&Path); 3] = [
            |path| std::fs::remove_file(path).unwrap(),
            |path| std::fs::rename(path, path.with_extension("old")).unwrap(),
            |path| std::fs::write(path, "").unwrap(),
        ];
        for spoil in spoil {
            let folder = tempfile::tempdir().unwrap();
            let mut lines = Lines::create(folder.path(), "metrics.jsonl").unwrap();
            lines.write(&line).unwrap();
            lines.settle().unwrap();
            spoil(&folder.path().join("metrics.jsonl"));
            lines.write(&line).unwrap();
            let error = lines.settle().unwrap_err().to_string();
            assert!(error.contains("metrics.jsonl: was removed, moved or replaced"), "{error}");
        }
        let root = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (root.path().join("run"), root.path().join("moved"));
        std::fs::create_dir(&folder).unwrap();
        let mut lines = Lines::create(&folder, "metrics.jsonl").unwrap();
        std::fs::rename(&folder, &elsewhere).unwrap();
        lines.write(&line).unwrap();
        assert!(lines.settle().is_err() && !folder.exists());
    }

    #[test]
    fn a_run_that_goes_on_forgets_what_it_will_do_again() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            ["{\"step\":0}", "{\"step\":1}", "{\"epoch\":1}", "{\"step\":2}", "{\"step\":3}", "{\"epoch\":2}", "{\"st"];
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, text.join("\n")).unwrap();
        let mut lines = Lines::resume(folder.path(), "metrics.jsonl", 3, 1).unwrap();
        lines.write(&[StepLine { step: 3, loss: 0.5, lr: 0.1 }]).unwrap();
        let read = std::fs::read_to_string(&path).unwrap();
        assert_eq!(read, format!("{}\n{{\"step\":3,\"loss\":0.5,\"lr\":0.1}}\n", text[..4].join("\n")));
    }
}
