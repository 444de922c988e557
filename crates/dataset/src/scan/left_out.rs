//! What lies among images and is none: traces of tools and systems, which nobody put there to be learned from.

use std::ffi::OsStr;
use std::path::{Component, Path};

/// Folders and files that tools leave beside others' files.
const LEFT_BEHIND: &[&str] = &[
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "Thumbs.db",
    "desktop.ini",
    "__pycache__",
];

/// Whether a file or folder of this name is a trace: hidden (`.ipynb_checkpoints`, `._a.jpg`, `.nfs0001`), or of a known name.
pub(super) fn is_trace(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || LEFT_BEHIND.iter().any(|left| name == *left)
}

/// Whether any part of a path is a trace.
pub(crate) fn is_left_behind(path: &Path) -> bool {
    path.components().any(|part| matches!(part, Component::Normal(name) if is_trace(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces() {
        for path in
            [".DS_Store", "a/._b.jpg", "__MACOSX/a/b.jpg", "a/@eaDir/b.jpg", "a/.ipynb_checkpoints/b-checkpoint.jpg"]
        {
            assert!(is_left_behind(Path::new(path)), "{path}");
        }
        for path in ["a/b.jpg", "#ant/b.jpg", "./a/b.jpg", "a..b/c.jpg"] {
            assert!(!is_left_behind(Path::new(path)), "{path}");
        }
    }
}
