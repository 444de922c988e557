//! What lies among images and is none: traces of tools and systems, which nobody put there to be learned from.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Component, Path};

use crate::limits::quote;

/// The folder beside images in which caches of them are kept.
pub const OWN_FOLDER: &str = ".rust-train";

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

/// Endings of images that are not read here, in lower case.
const UNREAD: &[&str] = &["avif", "heic", "heif", "j2k", "jp2", "jxl", "psd", "svg", "dng", "cr2", "cr3", "nef", "arw"];

/// How many files of each kind are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LeftOut(pub BTreeMap<String, u64>);

impl LeftOut {
    /// One more file of this name, which is no image that is read here, or a trace.
    pub fn file(&mut self, name: &Path) {
        let ending = || name.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        self.of_kind(match ending() {
            _ if is_left_behind(name) => "hidden or left by a tool".to_owned(),
            Some(ending) => format!(".{}", quote(ending)),
            None => "without an ending".to_owned(),
        });
    }

    /// One more of a kind: ".txt".
    pub fn of_kind(&mut self, kind: impl Into<String>) {
        *self.0.entry(kind.into()).or_default() += 1;
    }

    /// Those of another, too.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind.clone()).or_default() += count;
        }
    }

    /// Says once what is left out of `place`; images are missed more than other files.
    pub fn say(&self, place: &Path) {
        let is_unread = |kind: &str| UNREAD.iter().any(|ending| kind.strip_prefix('.') == Some(*ending));
        let (unread, others): (Vec<_>, Vec<_>) = self.0.iter().partition(|(kind, _)| is_unread(kind));
        let shown = |kinds: Vec<(&String, &u64)>| {
            kinds.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
        };
        let place = place.display();
        if !unread.is_empty() {
            log::warn!(
                "{place}: images that are not read here are left out, save them as JPEG or PNG: {}",
                shown(unread)
            );
        }
        if !others.is_empty() {
            log::info!("{place}: left out: {}", shown(others));
        }
    }
}

/// Whether any part of a path is a trace.
pub(crate) fn is_left_behind(path: &Path) -> bool {
    path.components().any(|part| matches!(part, Component::Normal(name) if is_trace(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted_by_kind() {
        let mut left_out = LeftOut::default();
        for name in ["a/note.txt", "b/NOTE.TXT", "a/1.heic", "README", "a/._1.jpg"] {
            left_out.file(Path::new(name));
        }
        let kinds: Vec<_> = left_out.0.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        assert_eq!(kinds, ["1 .heic", "2 .txt", "1 hidden or left by a tool", "1 without an ending"]);
    }

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
