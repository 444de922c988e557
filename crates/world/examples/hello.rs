//! Who is there, over which MPI: `mpirun -n 4 hello`.
use std::process::ExitCode;

use world::{World, WorldConfig};

fn main() -> ExitCode {
    let world = match World::init(WorldConfig::default()) {
        Ok(world) => world,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let mut ranks = [1u64];
    if let Err(error) = world.control().all_reduce(&mut ranks, world::Reduction::Sum) {
        world.abort(&error.to_string(), 1);
    }
    if world.rank() == 0 {
        println!("{} ranks on {} nodes, over {}", ranks[0], world.nodes(), world::mpi_library());
    }
    world.finalize(0)
}
