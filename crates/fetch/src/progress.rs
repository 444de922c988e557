//! How far a file is, for whoever waits for it or wants to stop it.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// What a file that is being fetched waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Another process fetches it; what counts is what that one has.
    Waiting,
    /// Its bytes arrive.
    Receiving,
    /// Its bytes are read again and compared with what they must be.
    Verifying,
}

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub doing: Doing,
    /// The bytes that are done. When this does not grow from one call to the next, nothing came.
    pub bytes: u64,
    /// The bytes that will be done, where that is known.
    pub total: Option<u64>,
}

/// Is told how far a file is: after every piece, and several times a second while nothing comes. Its answer goes on, or
/// stops: then the fetch ends with [`Error::Interrupted`], and a later one goes on from what is there.
pub type Watch<'a> = dyn Fn(Progress) -> ControlFlow<()> + 'a;

/// For [`Watch`]: lets everything go on, unseen.
pub fn unwatched(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The longest time between two words to a [`Watch`].
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// A [`Watch`] on one file, whose name is `from`.
#[derive(Clone, Copy)]
pub(crate) struct Watched<'a> {
    pub watch: &'a Watch<'a>,
    pub from: &'a str,
}

impl Watched<'_> {
    /// Says how far it is.
    ///
    /// # Errors
    /// Whoever watches wants it to stop.
    pub(crate) fn tell(&self, doing: Doing, bytes: u64, total: Option<u64>) -> Result<()> {
        match (self.watch)(Progress { doing, bytes, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted { from: self.from.to_owned() }),
        }
    }

    /// Sleeps for `pause`, and says meanwhile that nothing has changed.
    pub(crate) fn sleep(&self, pause: Duration, bytes: u64, total: Option<u64>) -> Result<()> {
        let start = Instant::now();
        loop {
            self.tell(Doing::Receiving, bytes, total)?;
            let left = pause.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(TICK));
        }
    }
}
