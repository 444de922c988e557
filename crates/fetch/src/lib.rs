//! Files from elsewhere: downloaded once, verified, complete or not there.
//!
//! A [`Store`] is a folder of fetched files. What lies there under its final name is whole and has the right hash:
//! bytes arrive under a hidden name, are written to disk and verified, and only then get their name. Downloads resume
//! where they were cut, are tried again with growing pauses, and processes that want the same file wait for each other.
//!
//! Others may be able to write to the folder: no link is followed, and nothing that another user put there is written to.
//!
//! Nothing here knows MPI; a file that reaches this node by another way than HTTP comes in through [`Incoming`].

mod backoff;
mod checksum;
mod download;
mod error;
mod http;
mod hub;
mod limits;
mod lock;
mod own;
mod part;
mod progress;
mod proxy;
mod source;
mod store;
mod transport;
mod trust;

pub use checksum::Checksum;
pub use error::{Error, Result};
pub use hub::{HubFile, HubListing, HubModel};
pub use limits::Limits;
pub use progress::{Doing, Progress, Watch, unwatched};
pub use source::Source;
pub use store::{Incoming, Request, Store};
