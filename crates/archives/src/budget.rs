//! How much memory a file may take, and how much of its words an error repeats.

use std::cell::Cell;

use crate::Checked;

/// Memory that any file may take, in bytes. A quarter of the 64 MB is left for what is not counted: what the allocator
/// adds to each block, and what a message takes.
const FREE: usize = 48 << 20;
/// Memory beyond that for each byte of the file: arrays that inflate, views that are copied in another order, names.
const TIMES_THE_FILE: usize = 3;

/// Most characters of a file's own words that an error repeats.
const LONGEST_QUOTE: usize = 80;

/// The memory that one file may still take.
#[derive(Debug)]
pub struct Budget {
    left: Cell<usize>,
    /// What an error says that it would be too much for, and what to do.
    otherwise: &'static str,
}

impl Budget {
    /// For a file of `length` bytes: 64 MB and 4 times as much, of which one is the file itself, which is mapped. `otherwise` is
    /// what an error ends with.
    pub fn of_file(length: usize, otherwise: &'static str) -> Self {
        Self { left: Cell::new(length.saturating_mul(TIMES_THE_FILE).saturating_add(FREE)), otherwise }
    }

    /// So many bytes.
    pub fn of_bytes(bytes: usize, otherwise: &'static str) -> Self {
        Self { left: Cell::new(bytes), otherwise }
    }

    /// Counts `bytes` that are about to be taken.
    ///
    /// # Errors
    /// More than are left.
    pub fn take(&self, bytes: usize) -> Checked<()> {
        self.left.set(
            self.left
                .get()
                .checked_sub(bytes)
                .ok_or_else(|| format!("would take more memory than {}", self.otherwise))?,
        );
        Ok(())
    }
}

/// Words of the file as an error may repeat them: on one line, and not all of a megabyte.
pub fn quote(words: &str) -> String {
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
        let budget = Budget::of_file(10, "64 MB and 4 times the file");
        assert!(budget.take(FREE).is_ok());
        assert!(budget.take(30).is_ok());
        assert!(budget.take(1).unwrap_err().contains("64 MB and 4 times the file"));
        assert!(Budget::of_file(usize::MAX, "").take(usize::MAX).is_ok(), "no overflow");
    }

    #[test]
    fn quotes_are_short_and_on_one_line() {
        assert_eq!(quote("layer1.0.conv1.weight"), "layer1.0.conv1.weight");
        assert_eq!(quote("é\n\u{1b}[2J"), "é\\n\\u{1b}[2J");
        assert_eq!(quote(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
    }
}
