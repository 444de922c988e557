//! The command line.

use clap::Parser;

/// Judge devices, ranks and batch before a job is submitted.
///
/// Prints the layout that the flags give, each value with its origin, and says whether every rank gets an equal part of
/// the batch. What is not given is taken from this machine: one node, and a rank for each CUDA device of it, or one
/// rank where it has none.
#[derive(Clone, Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// Pictures per step over all ranks
    #[arg(long, value_name = "N")]
    pub batch: usize,

    /// Nodes of the job
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nodes: usize,

    /// Ranks on each node. Default: one for each device
    #[arg(long, value_name = "N")]
    pub ranks_per_node: Option<usize>,

    /// CUDA devices on each node. Default: those of this machine
    #[arg(long, value_name = "N")]
    pub gpus_per_node: Option<usize>,

    /// Devices of each node, as rust-train takes them: '' (CUDA where there is, else the CPU), cpu, cuda, 0, 0,1, cuda:0
    #[arg(long, default_value = "", value_name = "DEVICES")]
    pub device: String,

    /// Micro-batches that each rank adds up for one step
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub accumulation: usize,
}

const EXAMPLES: &str = "\
Examples:
  check-devices --batch 64                                      this machine
  check-devices --batch 64 --device 0,1                         two devices of it, two ranks
  check-devices --batch 4096 --nodes 8 --gpus-per-node 4        a job on 32 GPUs, from a login node
  check-devices --batch 256 --nodes 2 --ranks-per-node 16 --device cpu

Exit status: 0 the layout works, 1 it does not, 2 wrong usage.";
