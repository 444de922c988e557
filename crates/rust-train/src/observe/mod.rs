//! What can be seen of a run while it goes on: its progress, where its time goes, and what stands still.

pub(crate) mod activity;
pub(crate) mod announce;
pub(crate) mod clock;
pub(crate) mod logging;
pub(crate) mod progress;
pub(crate) mod stdout;
pub(crate) mod terminal;
pub(crate) mod timeline;
pub(crate) mod timers;
pub(crate) mod watchdog;
