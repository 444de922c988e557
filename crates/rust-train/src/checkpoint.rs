//! Weights on disk: complete, or not at all.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use backbones::Backbone;

/// Writes the model to `path` as safetensors: under a temporary name, to the disk, then renamed.
pub(crate) fn save(backbone: &Backbone, path: &Path) -> anyhow::Result<()> {
    let write = || -> anyhow::Result<()> {
        let folder = path.parent().context("a checkpoint lies in a folder")?;
        let temporary = tempfile::Builder::new()
            .prefix(".checkpoint.")
            .suffix(".part")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)) // the umask takes its part
            .tempfile_in(folder)?;
        backbone.save(temporary.path())?;
        File::open(temporary.path())?.sync_all()?;
        temporary.persist(path)?;
        File::open(folder)?.sync_all()?;
        Ok(())
    };
    write().with_context(|| format!("saving the checkpoint {}", path.display()))
}
