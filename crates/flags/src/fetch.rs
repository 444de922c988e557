//! The flags of `fetch`, and those about fetched files.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Scope;

/// The flags of `fetch`.
#[derive(Args, Clone, Debug)]
pub struct FetchArgs {
    /// Files to bring: http://, https://, file:// or a path; or a model's weights: hf:ORG/NAME, with @REVISION or /FILE behind it
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<String>,

    /// SHA-256 of the file, or its first digits. Default: the digits in its name, as in resnet18-f37072fd.pth
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,

    /// Where the files are kept
    #[command(flatten)]
    pub store: StoreArgs,

    /// Longest wait for another rank that makes no progress before the job gives up, in seconds
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS")]
    pub timeout: f64,
}

/// Where fetched files are kept, and how they get there.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StoreArgs {
    /// Folder for fetched files. Default: rust-train in the user's cache folder
    #[arg(long, value_name = "DIR", help_heading = "Fetching", add = Scope::Free)]
    pub store: Option<PathBuf>,

    /// Download nothing; say what to put where
    #[arg(long, help_heading = "Fetching", add = Scope::Free)]
    pub offline: bool,

    /// How often a transfer is tried
    #[arg(long, default_value_t = 5, value_name = "N", help_heading = "Fetching", add = Scope::Free)]
    pub attempts: usize,

    /// Longest time in which no byte of a download arrives, in seconds
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", help_heading = "Fetching", add = Scope::Free)]
    pub stall_timeout: f64,
}
