//! The flags of `cache`.

use clap::Args;

use super::{DEFAULT_MODEL, DataArgs, TaskKind};

/// The flags of `cache`.
#[derive(Args, Clone, Debug)]
pub struct CacheArgs {
    /// Compare every image in the cache with its checksum
    #[arg(long, conflicts_with_all = ["explain", "summary"])]
    pub verify: bool,

    /// Say why the cache would have to be rebuilt
    #[arg(long, conflicts_with = "summary")]
    pub explain: bool,

    /// Show how many images each class has, and what was skipped
    #[arg(long)]
    pub summary: bool,

    /// Where the images come from
    #[command(flatten)]
    pub data: DataArgs,

    /// What the labels of a table are for
    #[arg(long, value_enum, default_value_t = TaskKind::Classify)]
    pub task: TaskKind,

    /// Network that the images are for: decides their size
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub model: String,

    /// Longest wait for another rank, or another job that builds the same cache, that makes no progress, in seconds
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS")]
    pub timeout: f64,
}
