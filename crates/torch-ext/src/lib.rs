//! What tch does not bind of libtorch: process groups over MPI and NCCL, the engine of DistributedDataParallel, faster
//! convolutions, BatchNorm fused and synchronized, LayerNorm fused, kernels for a GPU, fused optimizers, autocast types, device properties, random
//! generators' states.
//!
//! The only crate with C++ and unsafe FFI. It does not know MPI: on the CPU, collectives go through the trait
//! [`HostCollectives`], which the caller implements over whatever connects its ranks; for NCCL the caller carries the
//! address of a [`Store`] from rank 0 to the others.
//!
//! What needs CUDA's headers ([`ProcessGroup::nccl`], [`cuda::properties`], recorded steps) is a library of its own, of crate
//! torch-ext-cuda, which [`cuda::open`] loads where there is a GPU; where it is not, they say why.

mod allocator;
mod autocast;
mod backends;
mod batch_norm;
mod convolution;
pub mod cuda;
mod cuda_library;
mod device_elements;
mod distributed_data_parallel;
mod each;
mod ffi;
mod gradient_hooks;
mod host;
mod host_memory;
mod images;
pub mod kernels;
mod layer_norm;
mod max_pool;
mod memory_format;
mod numbers;
pub mod optim;
mod process_group;
mod profile;
mod recompute;
mod replicas;
pub mod rng;
mod scaled_sum;
mod store;
mod sync_batch_norm;
mod tree_sum;
mod words;

pub use allocator::keep_freed_memory;
pub use autocast::{Autocast, Precision, in_autocast, weights_in_autocast};
pub use backends::{
    CudnnMode, cpu_capability, on_warning, set_cudnn_mode, set_deterministic, set_same_on_any_threads, set_tf32,
    version,
};
pub use batch_norm::{Activation, BatchNorm, Fused};
pub use convolution::Convolution;
pub use device_elements::{DeviceCollectives, DeviceElements, DeviceSlice};
pub use distributed_data_parallel::{DdpConfig, DistributedDataParallel, Outputs};
pub use each::{Kept, add_to_each, copy_each, drop_gradients, elements, set_elements, set_gradients};
pub use gradient_hooks::watch_gradients;
pub use host::{HostCollectives, HostElements, OnlyRank, ReduceOp};
pub use host_memory::{Copies, PinnedMemory, to_device};
pub use images::NormalizeImages;
pub use layer_norm::{LayerNorm, Takers};
pub use max_pool::MaxPool;
pub use memory_format::{MemoryFormat, set_memory_format, to_channels_last};
pub use numbers::Numbers;
pub use process_group::{Begins, Pending, ProcessGroup};
pub use profile::{Spent, profile};
pub use recompute::{Time, recomputed};
pub use replicas::Difference;
pub use scaled_sum::scaled_sum;
pub use store::Store;
pub use sync_batch_norm::SyncBatchNorm;
pub use words::{thrown, without_frames};

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
    /// A kernel of ours does not compute what libtorch does.
    #[error("{what} differs from libtorch's by {difference:.1e}")]
    Kernel {
        /// Which one, of what.
        what: String,
        /// Of the largest number.
        difference: f64,
    },
    /// tch refused.
    #[error(transparent)]
    Tch(#[from] tch::TchError),
    /// The CUDA half is not there.
    #[error("{call}: {why}")]
    WithoutCuda {
        /// What was called.
        call: &'static str,
        /// Why it is not.
        why: String,
    },
    /// A state that does not belong to what it was loaded into.
    #[error("{what}")]
    State {
        /// What does not fit, and where.
        what: String,
    },
    /// An optimizer's state, whole, but that of an optimizer which keeps something else.
    #[error("the state is that of {saved}, the optimizer is {own}")]
    OtherOptimizer {
        /// Whose state it is: "SGD without momentum".
        saved: &'static str,
        /// The optimizer that it was given to: "AdamW".
        own: &'static str,
    },
}

/// The result of a call into libtorch.
pub type Result<T> = std::result::Result<T, Error>;
