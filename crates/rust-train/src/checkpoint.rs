//! Weights on disk: complete, or not at all.

use std::path::Path;

use anyhow::Context;
use backbones::Backbone;

use crate::files;

/// Writes the model to `path` as safetensors.
pub(crate) fn save(backbone: &Backbone, path: &Path) -> anyhow::Result<()> {
    files::write_whole(path, |file| Ok(backbone.save(file)?)).context("saving the checkpoint")
}
