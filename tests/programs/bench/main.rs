//! Our side of scripts/bench-ddp and scripts/bench-allreduce.

mod allreduce;
mod ddp;
mod replica;

use clap::{Parser, Subcommand};
use world::{World, WorldConfig};

#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Images per second of training steps on random images
    Ddp(replica::Options),
    /// Bandwidth of the host group against a bare MPI_Allreduce, and how much of it hides behind backward
    Allreduce(replica::Options),
}

fn main() {
    let options = Options::parse();
    let world = World::init(WorldConfig::default()).unwrap();
    tch::set_num_threads(1);
    tch::manual_seed(0);
    match options.bench {
        Bench::Ddp(options) => ddp::run(&options, &world),
        Bench::Allreduce(options) => allreduce::run(&options, &world),
    }
}
