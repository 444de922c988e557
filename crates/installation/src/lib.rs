//! What `rust-train` stands on, found on this machine: libtorch in somebody's Python, an MPI, a driver, shared memory. `rust-train
//! doctor` prints it; what does not fit is said in the same words by a run.
//!
//! Knows no torch: it must work where libtorch is missing, or is another release than this program speaks with.

mod diagnosis;
mod driver;
mod libtorch;
mod mixed;
mod shared_memory;
mod sites;

pub use diagnosis::{Diagnosis, Line};
pub use driver::driver;
pub use libtorch::{LIBTORCH_RELEASE, Libtorch, NoLibtorch, find_libtorch};
pub use mixed::mixed_mpis;
pub use shared_memory::{SharedMemory, shared_memory};
pub use sites::{Surroundings, find_program};
