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
    #[error("invalid source '{text}': {reason}; use http://, https://, file://, hf:ORG/NAME or a path")]
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
    /// The way to the file ends before it, and would end there again: a redirect, a proxy.
    #[error("{url}: {reason}")]
    Unusable {
        /// Where.
        url: String,
        /// Why it leads nowhere.
        reason: String,
    },
    /// The server of an https address is not known to be the one that it should be, and nothing was read from it.
    #[error("{url}: the server cannot be trusted: {reason}")]
    Untrusted {
        /// Where.
        url: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// An https address, and no authority that could vouch for its server.
    #[error(
        "https needs the certificates of authorities, and {reason}: install the package ca-certificates, or name a file \
         of such certificates in SSL_CERT_FILE"
    )]
    NoAuthorities {
        /// What was found instead.
        reason: String,
    },
    /// A variable of the environment names no proxy. Its value may hold a password, and is not shown.
    #[error("the environment variable {variable}: {reason}")]
    Proxy {
        /// The variable.
        variable: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nothing would show that a file is whole.
    #[error("{url}: the server does not say where the file ends, so a cut one would look whole: give its SHA-256")]
    NoEnd {
        /// Where.
        url: String,
    },
    /// Whoever watches wanted it to stop. What has come is kept, if it is of use.
    #[error("{from}: stopped before it was whole")]
    Interrupted {
        /// Where it came from.
        from: String,
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
    #[error("offline, and {place} is not there: download {from} elsewhere and put it there{hint}", place = place.display())]
    Offline {
        /// Where the file is looked for.
        place: PathBuf,
        /// Where it could be had.
        from: String,
        /// Its hash, and what else may help, as words.
        hint: String,
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
            Self::Source { .. }
            | Self::Refused { .. }
            | Self::Unusable { .. }
            | Self::Untrusted { .. }
            | Self::NoAuthorities { .. }
            | Self::Proxy { .. }
            | Self::NoEnd { .. }
            | Self::Offline { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, doing, source }
    }
}
