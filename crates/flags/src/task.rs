//! The flags about what is learned.

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Essential;

/// What is learned.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TaskArgs {
    /// To learn: classify, multilabel, regress, segment
    ///
    /// An image's class; which of several classes are there; numbers; the class of each pixel. The second and third need a --table, or
    /// a file with rows of numbers; the last needs masks beside the images: DIR/train/images/*, DIR/train/masks/*
    #[arg(long, value_enum, default_value_t = TaskKind::Classify, hide_possible_values = true)]
    #[arg(help_heading = "Training", add = Essential)]
    pub task: TaskKind,

    /// What is minimized. Default: ce for classify and segment, bce for multilabel, mse for regress
    #[arg(long, value_enum, help_heading = "Optimization")]
    pub loss: Option<LossKind>,
}

/// What is learned of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Its class
    Classify,
    /// Which of K classes are there: labels of K numbers, 0 or 1
    Multilabel,
    /// K numbers
    Regress,
    /// The class of each of its pixels
    Segment,
}

/// What is minimized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// Binary cross-entropy of each class
    Bce,
    /// Of several labels: what is easily told to be absent counts less (Ridnik et al., 2021)
    Asymmetric,
    /// The square of the error, in standard deviations
    Mse,
    /// Its absolute value
    L1,
    /// The square of small errors, the absolute value of large ones
    Huber,
    /// Cross-entropy of the classes; of masks that of each pixel
    Ce,
    /// Of masks: how little of each class the model and the mask have in common (soft Dice), of an image's classes
    Dice,
    /// Of masks: the sum of both
    CeDice,
}
