//! Which images there are, found out by one rank, which tells whoever waits how far it is.

use std::ops::ControlFlow;
use std::path::Path;

use dataset::{Dataset, Listing, read_classes};
use serde::{Deserialize, Serialize};

use crate::config::images::Images;
use crate::errors::name_interruption;

/// What is known of the data as soon as they are listed: before a cache is built.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub classes: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Training images.
    pub train: usize,
}

impl Listed {
    pub(super) fn of(dataset: &Dataset) -> Self {
        let channels = dataset.train.format().channels();
        Self { classes: dataset.classes.len(), channels, train: dataset.train.len() }
    }
}

/// Lists the images below `root`, and tells whoever waits how far it is.
pub(crate) fn list(images: &Images, root: &Path) -> anyhow::Result<Listing> {
    let classes = images.classes.as_deref().map(read_classes).transpose()?;
    name_interruption(
        "listing the images",
        Listing::scan_watched(root, classes.as_deref(), images.val_split, &count_files),
    )
}

/// Tells whoever waits for a folder to be listed how far that is.
pub(crate) fn count_files(done: usize) -> ControlFlow<()> {
    world::report(done as u64, 0, "files")
}
