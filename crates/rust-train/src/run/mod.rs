//! What a run leaves behind: its folder, its checkpoints, its record; and how it goes on from them.

pub(crate) mod bits;
pub(crate) mod checkpoint;
pub(crate) mod directory;
pub(crate) mod model_file;
pub(crate) mod results;
pub(crate) mod resume;
