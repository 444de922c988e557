//! How much of everything a file of weights may ask for, all in one place.
//!
//! What a file claims is checked against the file, and what is made of it is counted: reading takes at most 64 MB and 4
//! times the file's size, however small it is and whatever it says. One of the four is the file itself, which is mapped.

use std::cell::Cell;

use crate::error::Checked;

/// Memory that any file may take, in bytes. A quarter of the 64 MB is left for what is not counted: what the allocator
/// adds to each block, and what a message takes.
const FREE: usize = 48 << 20;
/// Memory beyond that for each byte of the file: arrays that inflate, views that are copied in another order, names.
const TIMES_THE_FILE: usize = 3;

/// Most tensors in a file, and most entries of a zip file. The largest files have a few thousand.
pub(crate) const MOST_TENSORS: usize = 1 << 16;
/// Most axes of a tensor. NumPy has at most 64, and no layer has more than 6.
pub(crate) const MOST_AXES: usize = 16;
/// Longest name of a storage, in bytes. torch numbers them.
pub(crate) const LONGEST_STORAGE_NAME: usize = 256;
/// Most values that a pickle may make, those on the stack included. The largest state dicts need some ten thousand.
pub(crate) const MOST_VALUES: usize = 1 << 21;
/// Longest pickle, in bytes: a sparse file of a terabyte must not be read to its end. A state dict needs 150 a tensor.
pub(crate) const LONGEST_PICKLE: usize = 1 << 28;
/// Longest header of a safetensors file, in bytes; the format's own limit.
pub(crate) const LONGEST_JSON: usize = 100_000_000;
/// Longest header of a NumPy array, in bytes.
pub(crate) const LONGEST_ARRAY_HEADER: usize = 1 << 12;
/// Most characters of a file's own words that an error repeats.
const LONGEST_QUOTE: usize = 80;

/// The memory that one file may still take.
#[derive(Debug)]
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    /// For a file of `length` bytes.
    pub(crate) fn of_file(length: usize) -> Self {
        Self(Cell::new(length.saturating_mul(TIMES_THE_FILE).saturating_add(FREE)))
    }

    /// Counts `bytes` that are about to be taken.
    pub(crate) fn take(&self, bytes: usize) -> Checked<()> {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.ok_or_else(|| {
            "would take more memory than 64 MB and 4 times the file, which no weights do; save model.state_dict() alone"
                .to_owned()
        })?);
        Ok(())
    }
}

/// Words of the file as an error may repeat them: on one line, and not all of a megabyte.
pub(crate) fn quote(words: &str) -> String {
    let mut shown: String = words.chars().take(LONGEST_QUOTE).flat_map(char::escape_debug).collect();
    if words.chars().nth(LONGEST_QUOTE).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends() {
        let budget = Budget::of_file(10);
        assert!(budget.take(FREE).is_ok());
        assert!(budget.take(30).is_ok());
        assert!(budget.take(1).unwrap_err().contains("64 MB and 4 times the file"));
        assert!(Budget::of_file(usize::MAX).take(usize::MAX).is_ok(), "no overflow");
    }

    #[test]
    fn quotes_are_short_and_on_one_line() {
        assert_eq!(quote("layer1.0.conv1.weight"), "layer1.0.conv1.weight");
        assert_eq!(quote("é\n\u{1b}[2J"), "é\\n\\u{1b}[2J");
        assert_eq!(quote(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
    }
}
