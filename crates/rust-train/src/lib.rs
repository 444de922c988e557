//! Data-parallel training of image models under `mpirun` and `srun`.
//!
//! One run, as data flows:
//!
//! ```text
//! cli (flags) ─> World (who am I) ─> plan (validated values)
//!   ─> data  (zero-first: the cache)   ─> dataset::Loader ──┐
//!   ─> model (zero-first: the weights) ─> Backbone ─────────┴─> train (the loop) ─> evaluate ─> checkpoint, metrics
//! ```

mod activity;
mod agreement;
mod announce;
mod cache;
mod checkpoint;
pub mod cli;
pub mod collectives;
mod cores;
mod data;
mod device;
mod download;
mod eval;
mod evaluate;
mod export;
mod failure;
mod files;
mod inference;
mod logging;
mod metrics;
mod model;
mod output;
mod pictures;
mod plan;
mod predict;
mod process_group;
mod profile;
mod progress;
mod resume;
mod run_directory;
mod schedule;
mod seed;
mod step;
mod terminal;
mod time;
mod time_limit;
mod timeline;
mod train;
mod trainable;
mod trainer;
mod watchdog;
mod weights;

use std::process::ExitCode;

use clap::Parser;
use world::{Launcher, World, WorldConfig};

pub use trainable::{Model, Module};

use cli::{Cli, Command};
use failure::{Ending, Outcome};

/// Runs the program: from its arguments to its exit status (0 done, 1 failed, 2 wrong usage, 75 stopped with a
/// checkpoint saved).
pub fn main() -> ExitCode {
    torch_ext::keep_freed_memory();
    // Before MPI is up only the launcher can say which of several processes should speak.
    let speaks = Launcher::detect().is_none_or(|launcher| launcher.task == 0);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if speaks {
                let _ = error.print(); // where stderr is closed there is nobody to tell
            }
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    if let Some(Command::Profile(args)) = &cli.command {
        return alone(profile::run(args));
    }
    let world = match World::init(WorldConfig { timeout: cli.timeout() }) {
        Ok(world) => world,
        Err(error) => {
            if speaks {
                eprintln!("error: {error}");
            }
            return ExitCode::from(2);
        }
    };
    logging::init(&world);
    let result = match &cli.command {
        None => train::run(&cli.train, &world),
        Some(Command::Cache(args)) => cache::run(args, &world).map(|()| Ending::Complete),
        Some(Command::Fetch(args)) => download::run(args, &world).map(|()| Ending::Complete),
        Some(Command::Profile(_)) => unreachable!("is done before MPI is up"),
        Some(Command::Eval(args)) => eval::run(args, &world).map(|()| Ending::Complete),
        Some(Command::Predict(args)) => predict::run(args, &world).map(|()| Ending::Complete),
        Some(Command::Export(args)) => export::run(args, &world).map(|()| Ending::Complete),
    };
    match failure::settle(&world, result) {
        Outcome::Done(ending) => ExitCode::from(ending.exit_code()),
        Outcome::Agreed { message, exit_code } => {
            if world.rank() == 0 {
                eprintln!("error: {message}");
            }
            ExitCode::from(exit_code)
        }
        Outcome::Alone { message, exit_code } => world.abort(&message, exit_code),
    }
}

/// The exit status of what needs no other rank.
fn alone(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let failure = failure::to_failure(&error);
    eprintln!("error: {}", failure.message);
    ExitCode::from(failure.exit_code)
}
