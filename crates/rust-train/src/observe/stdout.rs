//! Results on standard output.

use std::io::{ErrorKind, Write};

/// Prints `text`. False where nobody reads any more, as behind `| head`: then there is no use in going on, and nothing is
/// wrong.
pub(crate) fn print(text: &str) -> std::io::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}
