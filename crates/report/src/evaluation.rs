//! `evaluation.json`: how good a model is on a set of samples, class by class, and where it is most wrong.

use serde::{Deserialize, Serialize};

use crate::confusion::{ClassScores, Confusion};
use crate::{Metric, Scores};

/// An exact evaluation: every sample was seen once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// After which epoch, from 1; `None` outside of training.
    pub epoch: Option<usize>,
    /// Mean loss.
    #[serde(with = "crate::metrics::null_is_nan")]
    pub loss: f64,
    /// Samples.
    pub samples: u64,
    /// What the scores are.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// The scores of each class; a label is an index here. Empty where nothing is told apart.
    #[serde(default)]
    pub classes: Vec<ClassScores>,
    /// Which classes were taken for which: label, predicted class, how often. Pairs that do not occur are left out.
    #[serde(default, with = "entries")]
    pub confusion: Confusion,
    /// The samples with the highest loss, highest first.
    #[serde(default)]
    pub worst: Vec<WorstSample>,
    /// The images whose masks have the highest loss, highest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst_masks: Vec<WorstMask>,
    /// The scores of each output, where outputs are several labels or numbers, or the classes of pixels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputScores>,
    /// The scores, each under its name: of a classification `top1` and `top5`.
    #[serde(flatten)]
    pub scores: Scores,
}

/// How good a model is at one of several labels or numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputScores {
    /// What it is called.
    pub name: String,
    /// Samples that have it, or pixels.
    pub support: u64,
    /// Curves and points of it.
    #[serde(default)]
    pub curves: Vec<Curve>,
    /// The scores, by name.
    #[serde(flatten)]
    pub scores: Scores,
}

/// Points of a chart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// `pr` (recall and precision), `roc` (false and true positives), or `scatter` (what it is, and what the model says).
    pub kind: String,
    /// Across and up.
    pub points: Vec<[f64; 2]>,
}

/// Points that a curve keeps.
const MOST_POINTS: usize = 256;

impl Curve {
    /// Of so many points as a chart can show: of more some, evenly, with the first and the last.
    pub fn new(kind: &str, points: Vec<[f64; 2]>) -> Self {
        let count = points.len();
        let points = match count > MOST_POINTS {
            true => (0..MOST_POINTS).map(|index| points[index * (count - 1) / (MOST_POINTS - 1)]).collect(),
            false => points,
        };
        Self { kind: kind.to_owned(), points }
    }
}

/// A sample that the model is very wrong about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstSample {
    /// Its file, or its number in the set.
    pub path: String,
    /// Its class.
    pub label: u32,
    /// What it was taken for.
    pub predicted: u32,
    /// How sure of that the model was, 0–1.
    #[serde(with = "crate::metrics::null_is_nan")]
    pub probability: f64,
    /// How likely the model found its class, 0–1.
    #[serde(with = "crate::metrics::null_is_nan")]
    pub label_probability: f64,
    /// Its cross-entropy.
    #[serde(with = "crate::metrics::null_is_nan")]
    pub loss: f64,
    /// The image as the network saw it, as a `data:` URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
}

/// An image whose mask the model is very wrong about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstMask {
    /// Its file, or its number in the set.
    pub path: String,
    /// The share of its pixels that are taken for what they are.
    #[serde(with = "crate::metrics::null_is_nan")]
    pub accuracy: f64,
    /// Its loss.
    #[serde(with = "crate::metrics::null_is_nan")]
    pub loss: f64,
    /// The image as the network saw it, as a `data:` URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
    /// Its mask, as one that can lie over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<String>,
    /// What the model makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<String>,
}

impl Evaluation {
    /// An evaluation of scores alone.
    pub fn plain(epoch: Option<usize>, loss: f64, samples: u64, metrics: Vec<Metric>, scores: Scores) -> Self {
        let (classes, confusion, worst, worst_masks, outputs) = Default::default();
        Self { epoch, loss, samples, metrics, classes, confusion, worst, worst_masks, outputs, scores }
    }

    /// The name of a class.
    pub fn class(&self, label: u32) -> &str {
        let named = self.classes.get(label as usize).map(|class| &*class.name);
        named.or_else(|| self.outputs.get(label as usize).map(|output| &*output.name)).unwrap_or("?")
    }

    /// How many samples a class has.
    pub fn support(&self, label: u32) -> u64 {
        self.classes.get(label as usize).map_or(0, |class| class.support)
    }

    /// The mean of a score over the classes that have one.
    pub fn mean_over_classes(&self, score: impl Fn(&ClassScores) -> Option<f64>) -> Option<f64> {
        let scores: Vec<_> = self.classes.iter().filter_map(score).collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    }
}

/// A confusion matrix as a list of its entries.
mod entries {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Confusion;

    pub fn serialize<S: Serializer>(confusion: &Confusion, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(confusion.entries())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Confusion, D::Error> {
        let mut confusion = Confusion::default();
        for (label, predicted, count) in Vec::<(u32, u32, u64)>::deserialize(deserializer)? {
            confusion.add_many(label, predicted, count);
        }
        Ok(confusion)
    }
}
