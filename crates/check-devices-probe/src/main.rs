//! `srun check-devices --probe`: every rank looks around, all add up a number, and rank 0 judges what they say.
//!
//! A program of its own, so that `check-devices` itself links no MPI and starts on any login node; that one puts this one
//! in its place.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use check_devices::Invocation;
use check_devices::facts::RankFacts;
use world::{Launcher, Reduction, Scope, World, WorldConfig};

fn main() -> ExitCode {
    let invocation = match Invocation::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(code) => return code,
    };
    let config = WorldConfig { timeout: invocation.probe_timeout(), ..WorldConfig::default() };
    let world = match World::init(config) {
        Ok(world) => world,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match probe(&world, invocation) {
        Ok(status) => world.finalize(status),
        Err(error) => {
            eprintln!("error: rank {} on {}: {error}", world.rank(), world.host());
            ExitCode::FAILURE
        }
    }
}

/// Gathers what every rank sees, lets rank 0 judge it, and gives every rank the exit status.
fn probe(world: &World, invocation: Invocation) -> world::Result<u8> {
    let facts = RankFacts {
        rank: world.rank(),
        local_rank: world.local_rank(),
        size: world.size(),
        local_size: world.local_size(),
        launcher_tasks: Launcher::detect().map(|launcher| launcher.tasks),
        allocation: invocation.look_around(),
        all_reduce: Some(all_reduce(world)),
        sees_checkpoint_probe: invocation.output_folder().and_then(|folder| {
            // The folder itself must not exist yet; the one that it will lie in does.
            let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // A folder of each node's own is seen by the node of rank 0 alone.
            world.scope_of(above).ok().map(|scope| scope == Scope::World || world.node() == 0)
        }),
    };
    let text = serde_json::to_string(&facts).expect("plain data");
    let all = world.control().all_gather_text(&text)?;
    let mut status = [0u64];
    if world.rank() == 0 {
        let ranks = all.iter().map(|text| serde_json::from_str(text).expect("written above"));
        status = [invocation.run_for_status(Some(ranks.collect())).into()];
    }
    world.control().broadcast(&mut status, 0)?;
    Ok(status[0] as u8)
}

/// The sum of all ranks' numbers, whose answer is known; in milliseconds.
fn all_reduce(world: &World) -> Result<f64, String> {
    const ELEMENTS: usize = 256;
    let size = world.size();
    let start = Instant::now();
    let mut values = vec![(world.rank() + 1) as f32; ELEMENTS];
    world.control().all_reduce(&mut values, Reduction::Sum).map_err(|error| error.to_string())?;
    let expected = (size * (size + 1) / 2) as f32;
    match values.iter().find(|&&value| value != expected) {
        Some(wrong) => Err(format!("the sum of 1 to {size} came out as {wrong}")),
        None => Ok(start.elapsed().as_secs_f64() * 1e3),
    }
}
