//! What ranks do together: gradients, a word at each step, one download for all.

pub mod collectives;
pub(crate) mod download;
pub(crate) mod gather;
pub(crate) mod hub;
pub(crate) mod process_group;
pub(crate) mod synchronization;
pub(crate) mod time_limit;
