//! Data-parallel training of image models under `mpirun` and `srun`.
//!
//! One run, as data flows; `ARCHITECTURE.md` says what is in which room:
//!
//! ```text
//! flags (as typed) ─> World (who am I) ─> config::plan (validated values)
//!   ─> data  (zero-first: the cache)   ─> dataset::Loader ──┐
//!   ─> model (zero-first: the weights) ─> Backbone ─────────┴─> trainer (the loop) ─> task (scores) ─> run (checkpoint, results)
//! ```
//!
//! A program of somebody's own begins with [`Program`].

mod commands;
mod config;
mod data;
mod distributed;
mod errors;
mod files;
mod launched;
mod machine;
mod model;
mod observe;
mod optim;
mod program;
mod run;
mod task;
mod trainer;

use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use flags::{Cli, Command};
use mpi::Choice;
use world::{Launcher, Signals, World, WorldConfig};

pub use architectures::architecture;
pub use backbones::Backbone;
pub use data::normalize::normalized;
pub use dataset::Batch;
pub use distributed::collectives;
pub use flags;
pub use machine::device;
pub use model::{Build, BuildContext, Headless, Model, Module, Twin, from_fn};
pub use program::{OwnImages, Program};
pub use report::{Better, EpochLine, Evaluation, Metric, Scores};
pub use task::classification::Counts as ClassCounts;
pub use task::{Means, Scorer, Show, Targets, Task};
pub use trainer::epochs::Epochs;
pub use trainer::hooks::{Flow, Hooks, StepEnd};
pub use world::Channel;

use config::recipe::Recipe;
use errors::{Outcome, RunOutcome};
use machine::cores;
use observe::logging;
use observe::stdout::print;

/// Runs the program `rust-train`: from its arguments to its exit status (0 done, 1 failed, 2 wrong usage, 75 stopped with a
/// checkpoint saved).
pub fn main() -> ExitCode {
    Program::new().run()
}

fn run(program: &Program) -> ExitCode {
    launched::restore_library_path();
    torch_ext::keep_freed_memory();
    world::tell_panics_by(torch_ext::thrown);
    // Before libtorch is asked for devices. Why there are none is said where one is asked for.
    let _ = torch_ext::cuda::open();
    // Before MPI is up only the launcher can say which of several processes should speak.
    let speaks = Launcher::speaks();
    let arguments: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::of(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            if speaks && error.kind() == ErrorKind::DisplayVersion {
                let _ = print(&commands::version::text());
            } else if speaks {
                let _ = error.print(); // where stderr is closed there is nobody to tell
            }
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    if let Some(Command::Eval(_) | Command::Predict(_)) = &cli.command {
        // As many ranks as there may be share the cores: a score is the same for all that.
        torch_ext::set_same_on_any_threads();
    }
    if let Some(done) = commands::run_alone(&cli) {
        return alone(done);
    }
    let refuse = |error: &dyn Display| {
        if speaks {
            eprintln!("error: {error}");
        }
        ExitCode::from(2)
    };
    let choice = match Choice::of(cli.mpi.as_deref()) {
        Ok(choice) => choice,
        Err(refused) => return refuse(&refused),
    };
    if let Some(Command::Doctor(args)) = &cli.command {
        return commands::doctor::run(args, choice);
    }
    match launched::look_at_machine(choice.as_ref(), speaks) {
        Ok(None) => {}
        Ok(Some(warning)) => eprintln!("warning: {warning}"),
        Err(error) => return refuse(&error),
    }
    let world = match World::init(WorldConfig { timeout: cli.timeout(), mpi: choice }) {
        Ok(world) => world,
        Err(error) => return refuse(&error),
    };
    logging::init(&world);
    cores::limit_shared_threads(&world);
    // Before anything that takes long: from here on a signal ends what is under way in good order.
    let signals = Signals::install().map(drop).context("installing signal handlers");
    let result = errors::agree(&world, signals).and_then(|()| complete_and_run(&cli, &arguments, &world, program));
    match errors::settle(&world, result) {
        Outcome::Done(outcome) => world.finalize(outcome.exit_code()),
        Outcome::Agreed { message, exit_code } => {
            if world.rank() == 0 {
                // What was asked to stop has not failed.
                let kind = if exit_code == errors::STOPPED { "" } else { "error: " };
                eprintln!("{kind}{message}");
            }
            world.finalize(exit_code)
        }
        Outcome::Alone { message, exit_code } => world.abort(&message, exit_code),
    }
}

/// Does what the command line says, and the recipe that it names.
fn complete_and_run(cli: &Cli, arguments: &[OsString], world: &World, program: &Program) -> anyhow::Result<RunOutcome> {
    let Some(path) = cli.recipe() else { return commands::run(cli, world, program) };
    let recipe = Recipe::fetch(world, path)?;
    let cli = errors::agree(world, recipe.complete(arguments))?;
    commands::run(&cli, world, program).map_err(|error| recipe.locate(error, arguments))
}

/// The exit status of what needs no other rank.
fn alone(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let failure = errors::to_failure(&error);
    eprintln!("error: {}", failure.message);
    ExitCode::from(failure.exit_code)
}
