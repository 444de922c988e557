//! What the program can do: one file a verb.

pub(crate) mod bench;
pub(crate) mod cache;
pub(crate) mod compare_bits;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod fetch;
pub(crate) mod inference;
pub(crate) mod models;
pub(crate) mod predict;
pub(crate) mod profile;
pub(crate) mod report;
pub(crate) mod scripts;
pub(crate) mod teacher;
pub(crate) mod train;
pub(crate) mod version;

use flags::{Cli, Command};
use world::World;

use crate::errors::RunOutcome;
use crate::program::Program;

/// Does what needs no MPI; `None` where that is something else.
pub(crate) fn run_alone(cli: &Cli) -> Option<anyhow::Result<()>> {
    match &cli.command {
        Some(Command::CompareBits(args)) => Some(compare_bits::run(args)),
        Some(Command::Completions(args)) => Some(completions::completions(args)),
        Some(Command::Man(args)) => Some(completions::man(args)),
        Some(Command::Models(args)) => Some(models::run(args)),
        Some(Command::Profile(args)) => Some(profile::run(args)),
        Some(Command::Report(args)) => Some(report::run(args)),
        Some(Command::Scripts(args)) => Some(scripts::run(args)),
        _ => None,
    }
}

/// Does what the command line says, on every rank of the job. Collective.
pub(crate) fn run(cli: &Cli, world: &World, program: &Program) -> anyhow::Result<RunOutcome> {
    match &cli.command {
        None => train::run(&cli.train, world, program),
        Some(Command::Cache(args)) => cache::run(args, world).map(|()| RunOutcome::Complete),
        Some(Command::Fetch(args)) => fetch::run(args, world).map(|()| RunOutcome::Complete),
        Some(
            Command::CompareBits(_)
            | Command::Completions(_)
            | Command::Doctor(_)
            | Command::Man(_)
            | Command::Models(_)
            | Command::Profile(_)
            | Command::Report(_)
            | Command::Scripts(_),
        ) => unreachable!("is done before MPI is up"),
        Some(Command::Bench(args)) => bench::run(args, world, program),
        Some(Command::Eval(args)) => eval::run(args, world).map(|()| RunOutcome::Complete),
        Some(Command::Predict(args)) => predict::run(args, world).map(|()| RunOutcome::Complete),
        Some(Command::Export(args)) => export::run(args, world).map(|()| RunOutcome::Complete),
    }
}
