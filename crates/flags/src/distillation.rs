//! The flags about learning from another model, too.

use clap::{Args, ValueEnum};
use serde::Serialize;

/// What is learned from another model.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DistillationArgs {
    /// Learn from what this model sees in the same images, too: a run's folder, or a file of weights, as for --weights
    ///
    /// The teacher sees each training image as it is augmented and mixed, normalized as its model card says. Its classes are told by
    /// their names, and may be more than those of the data
    #[arg(long, value_name = "SOURCE", help_heading = "Distillation")]
    pub teacher: Option<String>,

    /// The teacher's network. Without --teacher: with the weights that torchvision publishes. Default: what the model card of the
    /// weights says, or the one that they fit
    #[arg(long, value_name = "NAME", help_heading = "Distillation")]
    pub teacher_model: Option<String>,

    /// What is learned from the teacher. Default: soft
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Distillation")]
    pub distillation: Option<DistillationKind>,

    /// Share of the teacher in the loss; what is left is the labels'. Default: 0.5
    #[arg(long, value_name = "SHARE", help_heading = "Distillation")]
    pub distillation_alpha: Option<f64>,

    /// Soft: what the logits of both are divided by first. The larger, the more the unlikely classes count. Default: 1
    #[arg(long, value_name = "T", help_heading = "Distillation")]
    pub distillation_temperature: Option<f64>,
}

/// What is learned from a teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DistillationKind {
    /// The probability of each class (Hinton et al., 2015)
    Soft,
    /// The class that it takes for the likeliest, as if it were the label (Touvron et al., 2021)
    Hard,
}
