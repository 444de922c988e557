//! What tch does not bind of libtorch: process groups, the engine of DistributedDataParallel, fused optimizer steps.
//!
//! The only crate with C++ and unsafe FFI. It does not know MPI: on the CPU, collectives go through the trait
//! [`HostCollectives`], which the caller implements over whatever connects its ranks.

mod backends;
mod distributed_data_parallel;
mod ffi;
mod host;
pub mod optim;
mod process_group;

pub use backends::{CudnnMode, set_cudnn_mode};
pub use distributed_data_parallel::{DdpConfig, DistributedDataParallel};
pub use host::{HostCollectives, HostElements, ReduceOp};
pub use process_group::ProcessGroup;

/// What libtorch, or the communication under it, refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// libtorch threw this.
    #[error("{call}: {message}")]
    Torch {
        /// What was called.
        call: &'static str,
        /// The exception's message.
        message: String,
    },
    /// tch refused.
    #[error(transparent)]
    Tch(#[from] tch::TchError),
}

/// The result of a call into libtorch.
pub type Result<T> = std::result::Result<T, Error>;
