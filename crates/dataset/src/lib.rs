//! Image files to batches in host memory.
//!
//! ```text
//! scan ──> Listing ──> cache ──> ImageSet ──> Loader ──> Batch
//!                        │ decode, resize         │ decode, resize, augment, in the epoch's order
//!  tar, zip, Parquet ── archive ──┘ (scan, and whoever reads images)
//! digits (embedded), somebody's HDF5 or NumPy file ──> ImageSet
//! ```
//!
//! - `scan` finds the files, their classes and their order, and reads none of them;
//! - `cache` brings them into one HDF5 file, as pixels or as they are; an `ImageSet` can do without it (`of_files`);
//! - `loader` makes batches ahead of the trainer, in an `order` that depends on seed and epoch alone.
//!
//! Nothing here knows torch or MPI: a [`Loader`] takes a [`Shard`](layout::Shard) and yields bytes, N×H×W×3, or where images are
//! no bytes of three colours, normalized numbers, N×C×H×W ([`PixelFormat`]).

mod archive;
mod augment;
pub mod cache;
mod decode;
pub mod digits;
mod error;
mod fields;
mod file;
mod format;
mod h5;
mod images;
mod limits;
mod loader;
mod normalize;
mod order;
mod planes;
mod render;
mod resize;
mod scan;
mod size;
mod summary;
mod watch;

pub use archive::{ArchiveSpec, Index as ArchiveIndex, index as index_archive, is_archive, stamp as archive_stamp};
pub use augment::{Augmentation, Crop, Mix, Mixed};
pub use augmentations::IGNORED;
pub use cache::{BadImage, Contents, OnBadImage, Spec};
pub use decode::{Decoder, Decoding, FirstImage, MOST_PROBED};
pub use error::{Error, Result};
pub use format::PixelFormat;
pub use h5::hdf5_version;
pub use images::{
    Axes, Dataset, FileSpec, Ignored, ImageSet, LabelKind, MappedFile, MaskRule, MaskValues, Numbers, OnNan,
    Percentiles,
};
pub use loader::{Allocate, Batch, Batches, Buffer, HostMemory, LastBatch, Loader, LoaderConfig, heap};
pub use normalize::Normalization;
pub use order::Sampling;
pub use resize::{Fit, Resample, Window};
pub use scan::{
    ArchiveSet, Listing, Looked, MaskFolders, Names, OWN_FOLDER, Sample, Split, Survey, TablePart, TableSpec,
    ToEvaluate, ValSplit, is_image, read_classes,
};
pub use size::Size;
pub use summary::{class_counts, class_weights};
pub use watch::{Watch, unwatched};
