//! `.pth`, as torch.save writes it: tensors that are views of storages, described by a pickle.

mod assemble;
mod legacy;
mod pickle;
mod values;
mod write;
mod zip;

pub(crate) use legacy::{LEGACY_MAGIC, legacy};
pub use write::{add_extra_file, write_pth};
pub(crate) use zip::zip;
