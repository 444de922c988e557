//! Flags that decide how a run begins, goes on and ends.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{Essential, Scope};

/// How a run begins, goes on, and ends.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunArgs {
    /// Go on where a run stopped
    ///
    /// In the middle of an epoch too: the folder of a run or of one of its checkpoints, or auto: the run in --output if it has
    /// been begun, or the newest unfinished one of this name below ./runs
    #[arg(long, value_name = "auto|DIR", help_heading = "Stopping and resuming", add = Scope::OneRun, add = Essential)]
    #[serde(skip)]
    pub resume: Option<PathBuf>,

    /// Go on although the flags that decide about the result are others than those that the run began with
    #[arg(long, requires = "resume", help_heading = "Stopping and resuming", add = Scope::OneRun)]
    #[serde(skip)]
    pub allow_changed_plan: bool,

    /// Save a checkpoint every N steps too. Default: when an epoch ends, and when the run is stopped
    #[arg(long, value_name = "N", help_heading = "Stopping and resuming", add = Scope::Free)]
    pub checkpoint_steps: Option<usize>,

    /// End the run when N epochs in a row have not been better than the best one (early stopping). Default: never
    #[arg(long, value_name = "N", help_heading = "Stopping and resuming")]
    pub patience: Option<usize>,

    /// Checkpoints that are kept
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = "Stopping and resuming", add = Scope::Free)]
    pub keep_checkpoints: usize,

    /// Save and end with status 75 in time for this: 90s, 30m, 2h, 1:30:00. Default: the end of the Slurm job
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse, help_heading = "Stopping and resuming", add = Scope::OneRun)]
    #[serde(skip)]
    pub time_limit: Option<Duration>,

    /// What to do when the loss of any rank is not a number
    #[arg(long, value_enum, default_value_t = OnNan::Stop, help_heading = "Stopping and resuming", add = Scope::Free)]
    pub on_nan: OnNan,

    /// End the job, and say what every rank was doing, when no step has ended for so many seconds; 0 never does
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0, help_heading = "Stopping and resuming", add = Scope::Free)]
    pub watchdog: f64,
}

/// What to do when a loss is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnNan {
    /// End the run, and name the rank
    Stop,
    /// Leave the step out, on all ranks; 100 in a row end the run
    Skip,
}
