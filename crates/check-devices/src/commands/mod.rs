//! The commands people type in batch scripts: which launcher starts which program, with which options.

mod launch;
mod launcher;
mod options;
mod trainer;

pub(crate) use launch::{Launch, launches};
pub(crate) use launcher::Launcher;
pub(crate) use trainer::{RecipeFlag, Trainer, TrainerKind, trainer};
