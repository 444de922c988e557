//! Does a person watch? Under `mpirun` a rank's own stderr is a pipe (and its stdout a terminal that nobody sees), so
//! the question is whether the launcher's stderr, where the pipe ends, is a terminal.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use indicatif::{ProgressDrawTarget, TermLike};
use rustix::termios::tcgetwinsize;

/// Launchers that hand a rank's stderr on to their own, unchanged.
const FORWARDING_LAUNCHERS: &[&str] = &["mpirun", "mpiexec", "orterun", "prterun", "mpiexec.hydra"];

/// The terminal at the end of this process's stderr, if there is one.
fn watched_terminal() -> Option<File> {
    let own = File::options().write(true).open("/proc/self/fd/2").ok();
    if let Some(own) = own.filter(|_| io::stderr().is_terminal()) {
        return Some(own);
    }
    let parent = rustix::process::getppid()?.as_raw_nonzero();
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    if !FORWARDING_LAUNCHERS.contains(&name.trim()) {
        return None;
    }
    File::options().write(true).open(format!("/proc/{parent}/fd/2")).ok().filter(IsTerminal::is_terminal)
}

/// Whether log lines may have colours.
pub(crate) fn shows_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && watched_terminal().is_some()
}

/// The terminal that a person watches.
#[derive(Debug)]
pub(crate) struct Terminal(Arc<File>);

impl Terminal {
    /// `None` where nobody watches.
    pub(crate) fn watched() -> Option<Self> {
        watched_terminal().map(|terminal| Self(Arc::new(terminal)))
    }

    /// Its columns at present; 80 where that cannot be told.
    pub(crate) fn width(&self) -> usize {
        columns(&self.0).into()
    }

    /// Where a progress bar is drawn.
    pub(crate) fn draw_target(&self) -> ProgressDrawTarget {
        ProgressDrawTarget::term_like_with_hz(Box::new(ForwardedTerminal { terminal: Arc::clone(&self.0) }), 5)
    }
}

fn columns(terminal: &File) -> u16 {
    tcgetwinsize(terminal).map_or(80, |size| if size.ws_col == 0 { 80 } else { size.ws_col })
}

/// A terminal at the other end of a launcher's pipe: written to through our own stderr, so that bar and log lines come
/// in order, and measured by the launcher's.
#[derive(Debug)]
struct ForwardedTerminal {
    terminal: Arc<File>,
}

impl ForwardedTerminal {
    fn control(&self, count: usize, letter: char) -> io::Result<()> {
        if count == 0 { Ok(()) } else { self.write_str(&format!("\x1b[{count}{letter}")) }
    }
}

impl TermLike for ForwardedTerminal {
    fn width(&self) -> u16 {
        columns(&self.terminal)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.control(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.control(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.control(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.control(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.write_str(&format!("{s}\n"))
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        io::stderr().write_all(s.as_bytes())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}
