//! What can be wrong with data.

use std::io;
use std::path::PathBuf;

/// The result of work on data.
pub type Result<T> = std::result::Result<T, Error>;

/// What can be wrong with data. Each message says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data are not as they must be: the user has to change something.
    #[error("{0}")]
    Input(String),
    /// An image cannot be decoded.
    #[error("{path}: not a readable image: {reason}", path = path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        reason: String,
    },
    /// A mask cannot be decoded, or is not of these classes.
    #[error("{path}: not a usable mask: {reason}", path = path.display())]
    Mask {
        /// The file, or which mask it is.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file or folder cannot be read or written.
    #[error("{path}: {doing}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A cache that is not what its name says.
    #[error("{path}: not a usable cache: {reason}", path = path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its watch broke the work off. Nothing half-done is left.
    #[error("interrupted")]
    Interrupted,
    /// HDF5 refused.
    #[error("{path}: HDF5 refused", path = path.display())]
    Hdf5 {
        /// The file.
        path: PathBuf,
        /// HDF5's own words.
        source: hdf5::Error,
    },
}

impl Error {
    /// Whether the user's input is at fault (exit status 2) rather than the machine (1).
    pub fn is_bad_input(&self) -> bool {
        matches!(self, Self::Input(_) | Self::Image { .. } | Self::Mask { .. })
    }

    pub(crate) fn cache(path: impl Into<PathBuf>, reason: String) -> Self {
        Self::Cache { path: path.into(), reason }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, doing, source }
    }
}
