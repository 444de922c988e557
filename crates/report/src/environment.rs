//! `environment.json`: what computed, where, and with which versions; one entry for each time that the run was started.

use serde::{Deserialize, Serialize};

/// All sessions of a run, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The first start and every resumption.
    #[serde(alias = "sittings")]
    pub sessions: Vec<Session>,
}

/// What ran from a start to an end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// When it began, as RFC 3339.
    pub started: String,
    /// Steps that were done before.
    pub first_step: usize,
    /// The command line.
    pub command: Vec<String>,
    /// The folder that it was started in.
    pub directory: String,
    /// Names and versions of what the program stands on, in the order to show them.
    pub versions: Vec<(String, String)>,
    /// The commit of the Git repository around the folder, where there is one.
    pub commit: Option<String>,
    /// The number of the Slurm job, where there is one.
    pub slurm_job: Option<String>,
    /// All ranks, in order.
    pub ranks: Vec<Rank>,
    /// Samples a step over all ranks.
    pub batch: usize,
    /// How it ended; `None` while it runs, and where it ended without a word.
    pub end: Option<SessionEnd>,
}

/// One rank.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rank {
    /// The name of its node.
    pub host: String,
    /// Its node, from 0.
    pub node: usize,
    /// Its number among those of its node, from 0.
    pub local_rank: usize,
    /// What it computed on.
    pub device: String,
    /// Its threads.
    pub threads: usize,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// When, as RFC 3339.
    pub time: String,
    /// Steps that were done by then, of the whole run.
    pub step: usize,
    /// In words: "done", "stopped by a signal".
    pub how: String,
}

impl Session {
    /// The number of nodes.
    pub fn nodes(&self) -> usize {
        self.ranks.iter().map(|rank| rank.node + 1).max().unwrap_or(0)
    }
}
