//! Flags of the verb `compare-bits`.

use std::path::PathBuf;

use clap::Args;

/// The flags of `compare-bits`.
#[derive(Args, Clone, Debug)]
pub struct CompareBitsArgs {
    /// A run's folder, the folder of a checkpoint, or a file of weights
    #[arg(value_name = "A")]
    pub one: PathBuf,

    /// What it is compared with
    #[arg(value_name = "B")]
    pub other: PathBuf,
}
