//! What the files beside an image tell of it, as WebDataset has them: `000012.jpg`, `000012.cls`, `000012.json`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::index::{Contents, Entry, Told};
use super::{ArchiveSpec, Checked};
use crate::limits::quote;
use crate::scan::{composed, is_image, is_left_behind};

/// Endings of files with a label and nothing else.
const LABELS: &[&str] = &["cls", "label", "class"];
/// Keys of a label in a `.json`.
const KEYS: &[&str] = &["label", "cls", "class", "class_id", "class_index", "target", "category"];
/// Longest file of labels that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Takes the entries of an archive one after the other, and makes images with labels of them.
pub(super) struct Gatherer<'a> {
    spec: &'a ArchiveSpec,
    contents: Contents,
    /// Where each entry stands among the images, by its name.
    by_name: HashMap<PathBuf, usize>,
    /// What is told of each image, by what its name begins with: the ending of the file that tells it, and the label.
    told: HashMap<PathBuf, (String, Told)>,
    /// Where other files lie: a link may call one an image.
    others: HashMap<PathBuf, (u64, u64)>,
    /// What is wrong with a .json, which does not matter where another file tells the label.
    faults: HashMap<PathBuf, String>,
}

impl<'a> Gatherer<'a> {
    pub fn new(spec: &'a ArchiveSpec) -> Self {
        Self {
            spec,
            contents: Contents::default(),
            by_name: HashMap::new(),
            told: HashMap::new(),
            others: HashMap::new(),
            faults: HashMap::new(),
        }
    }

    /// Whether an entry of this `name` and `size` tells a label, so that its text is wanted.
    pub fn wants_text(&self, name: &Path, size: u64) -> bool {
        !is_left_behind(name) && size <= LONGEST && self.tells(&ending(name))
    }

    fn tells(&self, ending: &str) -> bool {
        match &self.spec.labels {
            Some(labels) => ending == labels.trim_start_matches('.').to_ascii_lowercase() || ending == "json",
            None => LABELS.contains(&ending) || ending == "json",
        }
    }

    /// A file that may be an image.
    pub fn file(&mut self, name: PathBuf, at: u64, packed: u64, size: u64) -> Checked<()> {
        let is_other = |wanted: &String| ending(&name) != wanted.trim_start_matches('.').to_ascii_lowercase();
        if is_left_behind(&name) || !is_image(&name) || self.spec.images.as_ref().is_some_and(is_other) {
            self.contents.left_out.file(&name);
            self.others.insert(name, (at, size));
            return Ok(());
        }
        if self.by_name.insert(name.clone(), self.contents.entries.len()).is_some() {
            return Err(format!("has a name twice: {}", quote(name.display())));
        }
        self.contents.entries.push(Entry { name, at, packed, size, told: None });
        Ok(())
    }

    /// A second name of a file that came before.
    pub fn link(&mut self, name: PathBuf, target: &Path) -> Checked<()> {
        let told = || self.told.get(&stem(target)).map(|(_, label)| label.clone());
        match (self.by_name.get(target), self.others.get(target)) {
            (Some(&index), _) => {
                let Entry { at, packed, size, .. } = self.contents.entries[index];
                self.file(name, at, packed, size)
            }
            (None, Some(&(at, size))) => self.file(name, at, 0, size),
            (None, None) if self.tells(&ending(&name)) && told().is_some() => {
                if let Some(label) = told() {
                    self.told.insert(stem(&name), (ending(&name), label));
                }
                Ok(())
            }
            (None, None) => {
                self.contents.left_out.of_kind("links");
                Ok(())
            }
        }
    }

    /// What is neither a file nor a folder.
    pub fn other(&mut self, kind: &str) {
        self.contents.left_out.of_kind(kind);
    }

    /// The text of a file that tells a label.
    pub fn text(&mut self, name: &Path, text: &[u8]) -> Checked<()> {
        let ending = ending(name);
        let label = match ending.as_str() {
            "json" => self.of_json(text).unwrap_or_else(|reason| {
                self.faults.insert(stem(name), format!("{}: {reason}", quote(name.display())));
                None
            }),
            _ => Some(of_text(text).map_err(|reason| format!("{}: {reason}", quote(name.display())))?),
        };
        let Some(label) = label else {
            self.contents.left_out.file(name);
            return Ok(());
        };
        let stem = stem(name);
        match self.told.get(&stem) {
            Some((of, _)) if *of == ending => Err(format!("has a name twice: {}", quote(name.display()))),
            // A file of the label alone is meant, where there is a .json, too.
            Some((of, _)) if of != "json" => Ok(()),
            _ => {
                self.told.insert(stem, (ending, label));
                Ok(())
            }
        }
    }

    fn of_json(&self, text: &[u8]) -> Checked<Option<Told>> {
        let value: serde_json::Value =
            serde_json::from_slice(text).map_err(|error| format!("is no JSON: {}", quote(error)))?;
        let found = match &self.spec.labels {
            Some(key) => value.get(key),
            None => KEYS.iter().find_map(|key| value.get(key)),
        };
        let Some(found) = found else { return Ok(None) };
        match (found, found.as_i64()) {
            (_, Some(number)) => Ok(Some(Told::Number(number))),
            (serde_json::Value::String(name), _) => of_text(name.as_bytes()).map(Some),
            (serde_json::Value::Null, _) => Ok(None),
            (serde_json::Value::Bool(flag), _) => Ok(Some(Told::Number(i64::from(*flag)))),
            (other, _) => Err(format!("its label is neither a whole number nor a name: {}", quote(other))),
        }
    }

    /// All images, each with what is told of it.
    pub fn finish(mut self) -> Checked<Contents> {
        for entry in &mut self.contents.entries {
            let stem = stem(&entry.name);
            let Some((ending, told)) = self.told.get_mut(&stem) else {
                match self.faults.remove(&stem) {
                    Some(fault) => return Err(fault),
                    None => continue,
                }
            };
            if ending.is_empty() {
                let stem = quote(stem.display());
                return Err(format!(
                    "tells one label of several images, {stem}.*; name the ending of one: --images jpg"
                ));
            }
            ending.clear(); // it is used up
            entry.told = Some(told.clone());
        }
        let tells_nothing = self.told.is_empty() && !self.contents.entries.is_empty();
        if let Some(labels) = self.spec.labels.as_ref().filter(|_| tells_nothing) {
            let labels = quote(labels);
            return Err(format!(
                "tells no label by '{labels}' (--labels): neither a file .{labels} beside an image, nor a key of a .json"
            ));
        }
        match self.told.into_iter().filter(|(_, (ending, _))| !ending.is_empty()).map(|(stem, _)| stem).min() {
            // Of one that tells none either nobody knows that it should be there.
            Some(stem) => Err(format!("tells the label of an image that is not in it: {}", quote(stem.display()))),
            None => Ok(self.contents),
        }
    }
}

/// The label that a file of a label alone holds.
pub(super) fn of_text(text: &[u8]) -> Checked<Told> {
    let text = str::from_utf8(text).map_err(|_| "is no text".to_owned())?.trim();
    if text.is_empty() || text.contains(['\0', '\n']) {
        return Err("does not tell one label".to_owned());
    }
    Ok(text.parse().map_or_else(|_| Told::Name(composed(text)), Told::Number))
}

/// A name up to the first dot of its last part: the files of one sample have it in common.
fn stem(name: &Path) -> PathBuf {
    let last = name.file_name().unwrap_or_default().as_bytes();
    let end = last.iter().position(|&byte| byte == b'.').unwrap_or(last.len());
    name.with_file_name(OsStr::from_bytes(&last[..end]))
}

/// What follows the first dot, in lower case.
fn ending(name: &Path) -> String {
    let last = name.file_name().unwrap_or_default().to_string_lossy();
    last.split_once('.').map_or(String::new(), |(_, ending)| ending.to_ascii_lowercase())
}
