//! Looking around: everything here asks the world, and nothing here judges.

mod allocation;
mod devices;
mod files;
mod login;
mod run;

pub(crate) use allocation::allocation;
pub(crate) use login::{Questions, login, queues, sinfo};
