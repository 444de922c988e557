//! What a server is asked, and answers; however it is reached.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use crate::Error;
use crate::limits::Limits;

/// What a server is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub url: String,
    /// It as messages have it.
    pub shown: String,
    /// The first byte that is wanted.
    pub from: u64,
    /// If the file is this version still; else the whole of the new one is wanted.
    pub version: Option<String>,
}

/// What a server answered.
pub(crate) struct Reply {
    pub status: u16,
    /// The offset of the first byte of `body`.
    pub start: u64,
    /// The size of the whole file, where the server says it.
    pub total: Option<u64>,
    /// Whether the end of `body` shows: a connection that breaks is no end.
    pub has_end: bool,
    /// What the server calls this version of the file, if it has a name that no other version has.
    pub version: Option<String>,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
    pub body: Box<dyn Read>,
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt may do better.
    Passing(String),
    /// It will be the same the next time.
    Lasting(Error),
}

/// The way to a server; tests put a model in its place.
pub(crate) trait Transport: Send + Sync + 'static {
    /// Asks a server. Takes its time, and may be left alone with it.
    fn get(&self, ask: &Ask) -> Result<Reply, Failure>;
}

/// What went wrong with a connection, in words.
pub(crate) fn io_words(error: &io::Error, limits: &Limits) -> String {
    match error.kind() {
        // Which of the two a time-out is depends on the system.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("nothing came for {} s", limits.stall_timeout.max(limits.connect_timeout).as_secs_f64())
        }
        _ => error.to_string(),
    }
}
