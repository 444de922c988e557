//! The commands people type in batch scripts: which launcher starts which program, with which options.

mod launch;
mod options;
mod trainer;

pub(crate) use launch::{Launch, Launcher, launches};
pub(crate) use trainer::{RecipeFlag, Trainer, TrainerKind, trainer};
