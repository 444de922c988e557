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
mod bench;
mod cache;
mod checkpoint;
pub mod cli;
pub mod collectives;
mod cores;
mod data;
pub mod device;
mod download;
mod ema;
mod eval;
mod evaluate;
mod export;
mod failure;
mod files;
mod inference;
mod logging;
mod loss;
mod model;
mod output;
mod pictures;
mod plan;
mod predict;
mod process_group;
mod profile;
mod progress;
mod progressive;
mod recipe;
mod results;
mod resume;
mod run_directory;
mod schedule;
mod seed;
mod spent;
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

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use world::{Launcher, Signals, World, WorldConfig};

pub use trainable::{Build, Model, Module, OwnModel, Setting};

use cli::{Cli, Command};
use failure::{Ending, Outcome};
use recipe::Recipe;

/// Runs the program `rust-train`: from its arguments to its exit status (0 done, 1 failed, 2 wrong usage, 75 stopped with a
/// checkpoint saved).
pub fn main() -> ExitCode {
    program(None)
}

/// As [`main`], with a model of the caller's own in the place of `--model`: a program with all of `rust-train`'s flags.
///
/// ```no_run
/// use rust_train::{Module, OwnModel};
/// use tch::nn;
///
/// let own = OwnModel::new("perceptron", 8, |setting| {
///     let vs = nn::VarStore::new(setting.device);
///     let (pixels, classes) = (3 * setting.image_size * setting.image_size, setting.classes);
///     let layer = nn::linear(vs.root() / "layer", pixels as i64, classes as i64, Default::default());
///     let module = nn::seq_t().add_fn(|pictures| pictures.flatten(1, -1)).add(layer);
///     Ok(Box::new(Module::new(vs, module)))
/// });
/// # let _ =
/// rust_train::main_with(own); // from main: mpirun -n 2 PROGRAM --epochs 10
/// ```
pub fn main_with(own: OwnModel) -> ExitCode {
    program(Some(own))
}

fn program(own: Option<OwnModel>) -> ExitCode {
    torch_ext::keep_freed_memory();
    // Before MPI is up only the launcher can say which of several processes should speak.
    let speaks = Launcher::speaks();
    let arguments: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::of(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            if speaks {
                let _ = error.print(); // where stderr is closed there is nobody to tell
            }
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    match &cli.command {
        Some(Command::Profile(args)) => return alone(profile::run(args)),
        Some(Command::Report(args)) => return alone(args.runs.iter().try_for_each(|run| results::render_again(run))),
        _ => {}
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
    cores::limit_shared_threads(&world);
    // Before anything that takes long: from here on a signal ends what is under way in good order.
    let signals = Signals::install().map(drop).context("installing signal handlers");
    let result = failure::agree(&world, signals).and_then(|()| run(&cli, &arguments, &world, own.as_ref()));
    match failure::settle(&world, result) {
        Outcome::Done(ending) => world.finalize(ending.exit_code()),
        Outcome::Agreed { message, exit_code } => {
            if world.rank() == 0 {
                // What was asked to stop has not failed.
                let kind = if exit_code == failure::STOPPED { "" } else { "error: " };
                eprintln!("{kind}{message}");
            }
            world.finalize(exit_code)
        }
        Outcome::Alone { message, exit_code } => world.abort(&message, exit_code),
    }
}

/// Does what the command line says, and the recipe that it names.
fn run(cli: &Cli, arguments: &[OsString], world: &World, own: Option<&OwnModel>) -> anyhow::Result<Ending> {
    let Some(path) = cli.recipe() else { return run_verb(cli, world, own) };
    let recipe = Recipe::fetch(world, path)?;
    let cli = failure::agree(world, recipe.complete(arguments))?;
    run_verb(&cli, world, own).map_err(|error| recipe.locate(error, arguments))
}

fn run_verb(cli: &Cli, world: &World, own: Option<&OwnModel>) -> anyhow::Result<Ending> {
    match &cli.command {
        None => train::run(&cli.train, world, own),
        Some(Command::Cache(args)) => cache::run(args, world).map(|()| Ending::Complete),
        Some(Command::Fetch(args)) => download::run(args, world).map(|()| Ending::Complete),
        Some(Command::Profile(_) | Command::Report(_)) => unreachable!("is done before MPI is up"),
        Some(Command::Bench(args)) => bench::run(args, world, own),
        Some(Command::Eval(args)) => eval::run(args, world).map(|()| Ending::Complete),
        Some(Command::Predict(args)) => predict::run(args, world).map(|()| Ending::Complete),
        Some(Command::Export(args)) => export::run(args, world).map(|()| Ending::Complete),
    }
}

/// The exit status of what needs no other rank.
fn alone(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let failure = failure::to_failure(&error);
    eprintln!("error: {}", failure.message);
    ExitCode::from(failure.exit_code)
}
