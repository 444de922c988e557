//! The flags of `bench`, and of `report`.

use std::path::PathBuf;

use clap::Args;

use super::TrainArgs;

/// The flags of `bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Numbers of ranks to measure, of those that the job has. Default: 1, 2, 4… and all
    #[arg(long, value_name = "N,N…", value_delimiter = ',', help_heading = "Benchmark")]
    pub ranks: Vec<usize>,

    /// Weak scaling: every rank keeps its part of the batch that --batch gives it when all ranks share it. The default
    #[arg(long, conflicts_with = "strong", help_heading = "Benchmark")]
    pub weak: bool,

    /// Strong scaling: --batch is shared by as many ranks as there are
    #[arg(long, help_heading = "Benchmark")]
    pub strong: bool,

    /// Times that each number of ranks is measured; the median counts
    #[arg(long, default_value_t = 5, value_name = "N", help_heading = "Benchmark")]
    pub windows: usize,

    /// Length of each, in seconds
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", help_heading = "Benchmark")]
    pub window: f64,

    /// What is trained, and how: every flag of a run, though what is about its length and its checkpoints plays no part
    #[command(flatten)]
    pub train: TrainArgs,
}

/// The flags of `report`.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// Folders of runs; several are compared on one page, too
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,

    /// Where the page that compares several runs goes
    #[arg(long, value_name = "FILE", default_value = "comparison.html")]
    pub output: PathBuf,
}
