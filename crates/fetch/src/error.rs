//! Why a file is not there.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The result of getting a file.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a file is not there. Each message says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text names no source.
    #[error("'{text}' is no source: {reason}; use http://, https://, file:// or a path")]
    Source {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The server refuses, and would refuse again.
    #[error("{url}: the server answered {status}")]
    Refused {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The transfer failed as often as it may.
    #[error("{url}: gave up after {attempts} attempts: {reason}")]
    Transfer {
        /// Where.
        url: String,
        /// How often it was tried.
        attempts: usize,
        /// What happened last.
        reason: String,
    },
    /// The bytes are not those that were asked for.
    #[error("{from}: wrong content: SHA-256 {got} instead of {expected}")]
    Checksum {
        /// Where they came from.
        from: String,
        /// The hash that was asked for, or its beginning.
        expected: String,
        /// The hash of what came.
        got: String,
    },
    /// There are not as many bytes as were asked for.
    #[error("{from}: wrong size: {got} bytes instead of {expected}")]
    Size {
        /// Where they came from.
        from: String,
        /// How many were asked for.
        expected: u64,
        /// How many there are.
        got: u64,
    },
    /// Nothing may be downloaded, and the file is not there.
    #[error("offline, and {place} is not there: download {from} elsewhere and put it there{hash}", place = place.display())]
    Offline {
        /// Where the file is looked for.
        place: PathBuf,
        /// Where it could be had.
        from: String,
        /// Its hash, as words.
        hash: String,
    },
    /// Another process holds the file for too long.
    #[error("{path}: another process has been fetching it for {} s; is it stuck?", waited.as_secs(), path = path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },
    /// A local file or folder cannot be read or written.
    #[error("{path}: {doing}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// Whether the user has to change something (exit status 2) rather than the machine or the network.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Source { .. } | Self::Refused { .. } | Self::Offline { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, doing, source }
    }
}
