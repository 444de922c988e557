//! Judges devices, ranks and batch before a job is submitted.
//!
//! ```text
//! cli.rs       flags, as typed
//! commands/    what the script's commands start (the crate shell), through every launcher that is known
//! resolve/     flags, script, commands, site/ -> Subject: every value with its origin, and what is known of it
//! gather/      what the login node and the allocation say -> facts.rs
//! checks/      Subject -> findings: one file a check or close family, one list
//! report/      layout and findings, for people, programs and GitHub
//! plan/        the layouts that work
//! ```
//!
//! Runs on a login node in milliseconds: it links neither MPI nor CUDA nor libtorch, and uses the very arithmetic
//! (`layout`) that the trainer runs. The ranks look together in a program of its own, `check-devices-probe`, which this
//! one becomes under `--probe`.

mod check;
mod checks;
mod cli;
mod commands;
mod explain;
pub mod facts;
mod finding;
mod fix;
mod gather;
mod job;
mod judge;
mod machine;
mod memory;
mod number;
mod origin;
mod plan;
mod report;
mod resolve;
mod run;
mod run_flags;
mod site;
mod subject;
mod terminal;
mod words;

pub use run::{Invocation, main};
