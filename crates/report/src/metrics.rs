//! `metrics.jsonl`, the run's record of itself: one JSON object a line, for each step and each epoch. And `metrics.csv`,
//! its epochs as a table.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Metric, Result, Scores};

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// The step, from 0.
    pub step: usize,
    /// Mean loss over the global batch.
    #[serde(with = "null_is_nan")]
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochLine {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Mean of the steps' losses.
    #[serde(with = "null_is_nan")]
    pub train_loss: f64,
    /// Mean loss over the validation samples.
    #[serde(with = "null_is_nan")]
    pub val_loss: f64,
    /// The scores of the validation samples, each under its name: of a classification `top1` and `top5`.
    #[serde(flatten)]
    pub scores: Scores,
    /// Training samples per second over all ranks, evaluation not counted.
    #[serde(with = "null_is_nan")]
    pub images_per_second: f64,
    /// Share of the training time that rank 0 waited for data, 0–1.
    #[serde(with = "null_is_nan")]
    pub data_wait: f64,
    /// Share of the training time that rank 0 waited for other ranks and for what travels between them, 0–1.
    #[serde(with = "null_is_nan", default)]
    pub communication_wait: f64,
    /// Time since the run started, in seconds.
    pub elapsed_seconds: f64,
}

/// All lines of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Every step.
    pub steps: Vec<StepLine>,
    /// Every epoch, with the number of steps in [`steps`](Self::steps) at its end.
    pub epochs: Vec<(EpochLine, usize)>,
}

impl Metrics {
    /// Reads lines; `path` names them in errors. Objects that are neither a step's nor an epoch's are passed over. So is
    /// a last line that ends in its middle: a job that was killed leaves one.
    ///
    /// # Errors
    /// A line that is not a JSON object, or lacks a value.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut metrics = Self::default();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        for (number, line) in whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            metrics.push(line).map_err(|error| Error::Malformed {
                path: path.to_owned(),
                line: number + 1,
                reason: error.to_string(),
            })?;
        }
        Ok(metrics)
    }

    fn push(&mut self, line: &str) -> serde_json::Result<()> {
        let value: Value = serde_json::from_str(line)?;
        if value.get("epoch").is_some() && value.get("train_loss").is_some() {
            self.epochs.push((serde_json::from_value(value)?, self.steps.len()));
        } else if value.get("step").is_some() && value.get("lr").is_some() {
            self.steps.push(serde_json::from_value(value)?);
        }
        Ok(())
    }

    /// Whether nothing was trained yet.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.epochs.is_empty()
    }

    /// Epochs that were done when `steps` steps were, with the fraction of the one under way.
    pub fn epochs_at(&self, steps: usize) -> f64 {
        let ends: Vec<_> = self.epochs.iter().map(|&(_, end)| end).collect();
        let whole = ends.partition_point(|&end| end <= steps);
        let begin = whole.checked_sub(1).map_or(0, |last| ends[last]);
        // The one under way is as long as its predecessor; without one, as what there is of it.
        let length = match ends.get(whole) {
            Some(&end) => end - begin,
            None if whole >= 1 => begin - whole.checked_sub(2).map_or(0, |before| ends[before]),
            None => self.steps.len(),
        };
        whole as f64 + (steps - begin) as f64 / length.max(1) as f64
    }

    /// The epoch that is best by `metric`, the first of several; none where nothing was validated.
    pub fn best(&self, metric: &Metric) -> Option<&EpochLine> {
        let value = |line: &EpochLine| line.scores.get(&metric.name);
        let scored = self.epochs.iter().map(|(line, _)| line).filter(|line| !value(line).is_nan());
        scored.reduce(|best, line| if metric.is_better(value(line), value(best)) { line } else { best })
    }
}

/// The epochs as a table with a header, one row each.
pub fn csv<'a>(epochs: impl IntoIterator<Item = &'a EpochLine>) -> String {
    let epochs: Vec<_> = epochs.into_iter().collect();
    let names: Vec<_> =
        epochs.first().map_or_else(Vec::new, |line| line.scores.0.iter().map(|(name, _)| name).collect());
    let header = ["epoch", "train_loss", "val_loss"].into_iter().chain(names.iter().map(|name| name.as_str()));
    let header = header.chain(["images_per_second", "data_wait", "communication_wait", "elapsed_seconds"]);
    let rows = epochs.iter().map(|line| {
        let scores = names.iter().map(|name| line.scores.get(name));
        let numbers = [line.train_loss, line.val_loss].into_iter().chain(scores);
        let rest = [line.images_per_second, line.data_wait, line.communication_wait, line.elapsed_seconds];
        // With a point, 2.0, so that a column is one of floats to whoever reads it.
        std::iter::once(line.epoch.to_string()).chain(numbers.chain(rest).map(|number| format!("{number:?}"))).collect()
    });
    let rows: Vec<Vec<String>> = std::iter::once(header.map(str::to_owned).collect()).chain(rows).collect();
    written(|writer| rows.iter().try_for_each(|row| writer.write_record(row)))
}

/// Rows of numbers as comma-separated values, the fields' names in front.
pub(crate) fn table(rows: impl IntoIterator<Item = impl Serialize>) -> String {
    written(|writer| rows.into_iter().try_for_each(|row| writer.serialize(row)))
}

fn written(write: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = write(&mut writer);
    let bytes = written.and_then(|()| writer.into_inner().map_err(|error| error.into_error().into()));
    // Numbers always serialize, and memory takes all that is written.
    String::from_utf8(bytes.expect("rows of numbers are written to memory")).expect("numbers are ASCII")
}

/// Numbers that JSON cannot say are null.
pub(crate) mod null_is_nan {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Metrics> {
        Metrics::parse(text, Path::new("metrics.jsonl"))
    }

    const EPOCH: &str = "{\"epoch\":1,\"train_loss\":2.0,\"val_loss\":null,\"top1\":0.5,\"top5\":1.0,\
                         \"images_per_second\":10.0,\"data_wait\":0.25,\"elapsed_seconds\":3.5}\n";

    #[test]
    fn steps_and_epochs_are_told_apart() {
        let step = |step: usize| format!("{{\"step\":{step},\"loss\":2.5,\"lr\":0.1}}\n");
        let text = [step(0), step(1), EPOCH.to_owned(), "{\"note\":1}\n".to_owned(), step(2)].concat();
        let metrics = parse(&(text + "{\"step\":3,\"lo")).unwrap();
        assert_eq!(metrics.steps.iter().map(|line| line.step).collect::<Vec<_>>(), [0, 1, 2]);
        let (epoch, end) = &metrics.epochs[0];
        assert_eq!((epoch.scores.get("top1"), *end, epoch.communication_wait), (0.5, 2, 0.0));
        assert!(epoch.val_loss.is_nan());
        // The second epoch is as long as the first.
        assert_eq!([0, 1, 2, 3].map(|steps| metrics.epochs_at(steps)), [0.0, 0.5, 1.0, 1.5]);
        assert_eq!(parse("").unwrap(), Metrics::default());
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = parse(&format!("{EPOCH}{{\"step\":1,\"lr\":\n")).unwrap_err().to_string();
        assert!(error.starts_with("metrics.jsonl: line 2: "), "{error}");
    }

    #[test]
    fn epochs_become_rows() {
        let metrics = parse(EPOCH).unwrap();
        insta::assert_snapshot!(csv(metrics.epochs.iter().map(|(line, _)| line)), @r"
        epoch,train_loss,val_loss,top1,top5,images_per_second,data_wait,communication_wait,elapsed_seconds
        1,2.0,NaN,0.5,1.0,10.0,0.25,0.0,3.5
        ");
    }
}
