//! How much of everything a file of weights may ask for, all in one place.
//!
//! What a file claims is checked against the file, and what is made of it is counted: reading takes at most 64 MB and 4
//! times the file's size, however small it is and whatever it says. One of the four is the file itself, which is mapped.

use archives::Budget;

/// The memory that reading a file of `length` bytes may take.
pub(crate) fn budget(length: usize) -> Budget {
    Budget::of_file(length, "64 MB and 4 times the file, which no weights do; save model.state_dict() alone")
}

/// Most tensors in a file, and most entries of a zip file. The largest files have a few thousand.
pub(crate) const MOST_TENSORS: usize = 1 << 16;
/// Longest name of a storage, in bytes. torch numbers them.
pub(crate) const LONGEST_STORAGE_NAME: usize = 256;
/// Most values that a pickle may make, those on the stack included. The largest state dicts need some ten thousand.
pub(crate) const MOST_VALUES: usize = 1 << 21;
/// Longest pickle, in bytes: a sparse file of a terabyte must not be read to its end. A state dict needs 150 a tensor.
pub(crate) const LONGEST_PICKLE: usize = 1 << 28;
/// Longest header of a safetensors file, in bytes; the format's own limit.
pub(crate) const LONGEST_JSON: usize = 100_000_000;
