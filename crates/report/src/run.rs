//! A run's folder, read.

use std::io::ErrorKind;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Environment, Error, Evaluation, Metric, Metrics, Result};

/// Everything that a run wrote down.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The folder's name.
    pub name: String,
    /// Steps and epochs.
    pub metrics: Metrics,
    /// The last evaluation, where there is one.
    pub evaluation: Option<Evaluation>,
    /// Who computed where.
    pub environment: Environment,
    /// Every flag, as TOML.
    pub plan: Option<String>,
}

impl Run {
    /// What models of this run are judged by, the deciding one first. Older runs do not say it.
    pub fn metrics(&self) -> Vec<Metric> {
        let said = self.evaluation.as_ref().map(|evaluation| &evaluation.metrics).filter(|said| !said.is_empty());
        let scores = self.metrics.epochs.last().map(|(line, _)| &line.scores);
        let scores = scores.or_else(|| self.evaluation.as_ref().map(|evaluation| &evaluation.scores));
        let of_names =
            || scores.into_iter().flat_map(|scores| &scores.0).map(|(name, _)| Metric::of_name(name)).collect();
        said.map_or_else(of_names, Clone::clone)
    }

    /// Reads the files of `folder` that are there.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what its name says.
    pub fn read(folder: &Path) -> Result<Self> {
        let name = folder.canonicalize().map_err(Error::io(folder))?;
        let name = name.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy());
        let metrics = text(&folder.join("metrics.jsonl"))?.unwrap_or_default();
        Ok(Self {
            name: name.into_owned(),
            metrics: Metrics::parse(&metrics, &folder.join("metrics.jsonl"))?,
            evaluation: json(&folder.join("evaluation.json"))?,
            environment: json(&folder.join("environment.json"))?.unwrap_or_default(),
            plan: text(&folder.join("plan.toml"))?,
        })
    }
}

fn text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path)(error)),
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let parse = |text: String| {
        serde_json::from_str(&text).map_err(|error| Error::Malformed {
            path: path.to_owned(),
            line: error.line(),
            reason: error.to_string(),
        })
    };
    text(path)?.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_left_out_and_what_is_broken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::read(folder.path()).unwrap();
        assert_eq!((run.metrics, run.evaluation, run.plan), (Metrics::default(), None, None));
        std::fs::write(folder.path().join("evaluation.json"), "{\n\"loss\": 1").unwrap();
        let error = Run::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("evaluation.json: line 2: "), "{error}");
        assert!(Run::read(&folder.path().join("no")).is_err());
    }
}
