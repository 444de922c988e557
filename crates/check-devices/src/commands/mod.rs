//! What the commands of a batch script start, and how many of it.
//!
//! `launcher.rs` is the table of what starts ranks, a file in `launchers/` each; `wrapper.rs` the table of what stands before
//! a program and passes on to it; `follow.rs` goes through both, through shells and through scripts beside this one.

mod follow;
mod launch;
mod launcher;
mod launchers;
mod options;
mod trainer;
mod wrapper;

pub(crate) use follow::{Files, Followed, follow, foreign_interpreter};
pub(crate) use launch::{Launch, Step};
pub(crate) use launcher::{Around, Processes, Reach};
pub(crate) use launchers::SRUN_OPTIONS;
pub(crate) use options::Given;
pub(crate) use trainer::{RecipeFlag, Trainer, TrainerKind, trainer};
