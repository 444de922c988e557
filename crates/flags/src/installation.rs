//! The flags of the verbs about what is installed.

use std::path::PathBuf;

use clap::Args;

/// The flags of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// What a run would compute on: auto, cpu, cuda. With cuda it is wrong not to find a GPU
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: String,
}

/// The flags of `scripts`.
#[derive(Args, Clone, Debug)]
pub struct ScriptsArgs {
    /// Folder for the scripts; files that are there already are left alone
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
