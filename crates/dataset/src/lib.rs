//! Image folders to an HDF5 cache to batches in host memory.
//!
//! ```text
//! folder ── scan ──> Folder ── cache::build ──> HDF5 file ── cache::open ──> ImageSet ── Loader ──> Batch
//! digits (embedded) ───────────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing here knows torch or MPI: a [`Loader`] takes a [`Shard`](layout::Shard) and yields bytes, N×H×W×3.

mod augment;
pub mod cache;
mod classes;
mod decode;
pub mod digits;
mod error;
mod folder;
mod image_set;
mod loader;
mod order;

pub use augment::{Augmentation, Crop};
pub use classes::read_classes;
pub use decode::decode_square;
pub use error::{Error, Result};
pub use folder::{Folder, Sample};
pub use image_set::{Dataset, ImageSet};
pub use loader::{Batch, Batches, Loader, LoaderConfig};
