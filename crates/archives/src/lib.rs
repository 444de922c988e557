//! Files that hold others: zip archives, and NumPy's arrays in them. Of weights and of images alike.
//!
//! A file is not trusted: every size is checked against the file before memory is taken, of which it may have so much
//! ([`Budget`]) and no more; whatever is not understood is refused by name.

mod budget;
mod bytes;
mod npy;
mod zip_file;

pub use budget::{Budget, quote};
pub use bytes::Bytes;
pub use npy::{Header, LONGEST_HEADER, MOST_AXES};
pub use zip_file::ZipFile;

/// What is wrong with some bytes, in one line; who knows the path adds it.
pub type Checked<T> = Result<T, String>;
