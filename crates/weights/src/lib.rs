//! Files of weights: bytes to named tensors, and back.
//!
//! ```text
//! path ── read ──> which format? ──┬─ torch/  .pth: a zip of storages, or the older sequence of pickles ─┐
//!                                  ├─ safetensors                                                       ├─> StateDict
//!                                  ├─ npz                                                               │
//!                                  └─ sharded: an index, and files of these beside it ──────────────────┘
//! StateDict ── write_pth, write_safetensors ──> file
//! ```
//!
//! A file is not trusted. A pickle is read by an interpreter of its own that runs no code and knows a handful of names;
//! every size is checked against the file before memory is taken, of which reading takes at most 64 MB and 4 times the
//! file's size (`limits`); whatever is not understood is refused by name.
//!
//! Nothing here knows torch or networks.

mod error;
mod format;
mod limits;
mod npz;
mod safetensors;
mod sharded;
mod state_dict;
mod tensor;
mod torch;

pub use archives::Bytes;
pub use error::{Error, Result};
pub use format::{Wanted, parse, read, read_wanted};
pub use safetensors::write_safetensors;
pub use sharded::{USUAL_NAMES, files_of_index};
pub use state_dict::StateDict;
pub use tensor::{Dtype, Tensor};
pub use torch::{add_extra_file, write_pth};
