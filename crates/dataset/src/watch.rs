//! Who watches long work: is told how far it is, and may end it.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Error, Result};

/// Is called with the number of files or images done, often and on any thread. Where it breaks off, the work ends soon
/// with [`Error::Interrupted`].
pub type Watch<'a> = dyn Fn(usize) -> ControlFlow<()> + Sync + 'a;

/// Watches nothing, and never breaks off.
pub fn unwatched(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Counts what is done, for a watch.
pub(crate) struct Counter<'a> {
    done: AtomicUsize,
    watch: &'a Watch<'a>,
}

impl<'a> Counter<'a> {
    pub(crate) fn new(watch: &'a Watch<'a>) -> Self {
        Self { done: AtomicUsize::new(0), watch }
    }

    /// One more is done.
    pub(crate) fn one(&self) -> Result<()> {
        match (self.watch)(self.done.fetch_add(1, Ordering::Relaxed) + 1) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        }
    }

    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }
}
