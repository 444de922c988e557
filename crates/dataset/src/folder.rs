//! A tree of pictures as torchvision's ImageFolder has it: `DIR/train/<class>/…`, `DIR/val/<class>/…`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::{Error, Result};

/// File names that count as pictures, in lower case.
const EXTENSIONS: &[&str] = &["jpg", "jpeg", "png", "bmp", "gif", "tif", "tiff", "webp"];

/// One picture on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where it lies, below the folder.
    pub path: PathBuf,
    /// The index of its class.
    pub class: usize,
    /// Bytes.
    size: u64,
    /// When it was last written, in nanoseconds.
    modified: u128,
}

/// What a folder of pictures holds: its classes, and the samples of each split in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The folder.
    pub root: PathBuf,
    /// The names of the classes; a label is an index here.
    pub classes: Vec<String>,
    /// The pictures to train on, sorted by class and path.
    pub train: Vec<Sample>,
    /// The pictures to validate on, sorted by class and path.
    pub val: Vec<Sample>,
}

impl Folder {
    /// Lists the folder `root`. Classes are its sub-folders in alphabetical order, or `classes` in theirs.
    ///
    /// Reads directories and the size and time of each file, but no picture.
    ///
    /// # Errors
    /// A missing folder, no classes, a class without pictures, or classes that differ between train, val and the list.
    pub fn scan(root: &Path, classes: Option<&[String]>) -> Result<Self> {
        if !root.is_dir() {
            return Err(Error::Input(format!("{}: no such folder; --data wants DIR/train/<class>/*", root.display())));
        }
        let train_classes = list_classes(root, "train")?;
        let val_classes = list_classes(root, "val")?;
        let classes = match classes {
            None => train_classes.clone(),
            Some(listed) => {
                same_classes(&train_classes, listed, &root.join("train"), "the classes file")?;
                listed.to_vec()
            }
        };
        same_classes(&val_classes, &train_classes, &root.join("val"), "train")?;
        let train = list_samples(root, "train", &classes)?;
        let val = list_samples(root, "val", &classes)?;
        Ok(Self { root: root.to_owned(), classes, train, val })
    }

    /// A hash of everything that decides what a cache of this folder holds: paths, sizes, times and classes, and the
    /// `settings` that the pictures are decoded with. An edit that keeps a file's size changes its time, and so this.
    pub fn fingerprint(&self, settings: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(settings.as_bytes());
        field(&(self.classes.len() as u64).to_le_bytes());
        for class in &self.classes {
            field(class.as_bytes());
        }
        for samples in [&self.train, &self.val] {
            field(&(samples.len() as u64).to_le_bytes());
            for sample in samples {
                field(sample.path.as_os_str().as_encoded_bytes());
                field(&(sample.class as u64).to_le_bytes());
                field(&sample.size.to_le_bytes());
                field(&sample.modified.to_le_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

fn list_classes(root: &Path, split: &str) -> Result<Vec<String>> {
    let folder = root.join(split);
    if !folder.is_dir() {
        return Err(Error::Input(format!(
            "{}: no such folder; --data wants DIR/train/<class>/* and DIR/val/<class>/*",
            folder.display()
        )));
    }
    let mut classes = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(Error::io(&folder, "listing the classes"))? {
        let entry = entry.map_err(Error::io(&folder, "listing the classes"))?;
        let name = entry.file_name();
        // A link to a folder is a class too; a hidden folder is not.
        if name.as_encoded_bytes().starts_with(b".") || !entry.path().is_dir() {
            continue;
        }
        let name = name.into_string().map_err(|name| {
            Error::Input(format!("{}: the class name {} is not UTF-8; rename it", folder.display(), name.display()))
        })?;
        classes.push(name);
    }
    if classes.is_empty() {
        return Err(Error::Input(format!(
            "{}: no class in it; put the pictures of each class into a folder of its own",
            folder.display()
        )));
    }
    classes.sort_unstable();
    Ok(classes)
}

/// Refuses `found` classes that are not exactly the `wanted` ones.
fn same_classes(found: &[String], wanted: &[String], folder: &Path, source: &str) -> Result<()> {
    if let Some(class) = wanted.iter().find(|class| !found.contains(class)) {
        return Err(Error::Input(format!("{}: class '{class}' of {source} has no folder here", folder.display())));
    }
    if let Some(class) = found.iter().find(|class| !wanted.contains(class)) {
        return Err(Error::Input(format!("{}: class '{class}' is not in {source}", folder.display())));
    }
    Ok(())
}

fn list_samples(root: &Path, split: &str, classes: &[String]) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (class, name) in classes.iter().enumerate() {
        let folder = root.join(split).join(name);
        let mut of_class = BTreeMap::new();
        for entry in walkdir::WalkDir::new(&folder).follow_links(true) {
            let entry = entry.map_err(|error| Error::Io {
                path: folder.clone(),
                doing: "listing the pictures",
                source: error.into(),
            })?;
            if !entry.file_type().is_file() || !is_picture(entry.path()) {
                continue;
            }
            let metadata = entry.metadata().map_err(|error| Error::Io {
                path: entry.path().to_owned(),
                doing: "reading its size",
                source: error.into(),
            })?;
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let path = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_owned();
            // torchvision's order: folder by folder, then by name.
            let key = (path.parent().map(Path::to_owned), path.file_name().map(ToOwned::to_owned));
            let modified = modified.map_or(0, |age| age.as_nanos());
            of_class.insert(key, Sample { path, class, size: metadata.len(), modified });
        }
        if of_class.is_empty() {
            return Err(Error::Input(format!(
                "{}: no readable picture in it (known: {})",
                folder.display(),
                EXTENSIONS.join(", ")
            )));
        }
        samples.extend(of_class.into_values());
    }
    Ok(samples)
}

fn is_picture(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    !hidden && extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            if file.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
        }
        root
    }

    fn classes(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn classes_and_samples_come_in_torchvisions_order() {
        let root = tree(&[
            "train/bee/b.png",
            "train/bee/B.JPG",
            "train/bee/deep/a.png",
            "train/ant/1.webp",
            "train/ant/note.txt",
            "train/.hidden/x.png",
            "train/stray.png",
            "val/ant/1.png",
            "val/bee/1.png",
        ]);
        let folder = Folder::scan(root.path(), None).unwrap();
        assert_eq!(folder.classes, ["ant", "bee"]);
        let paths: Vec<_> = folder.train.iter().map(|sample| sample.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["train/ant/1.webp", "train/bee/B.JPG", "train/bee/b.png", "train/bee/deep/a.png"]);
        let listed = Folder::scan(root.path(), Some(&classes(&["bee", "ant"]))).unwrap();
        assert_eq!(listed.train[0].path, Path::new("train/bee/B.JPG"));
        assert_eq!(listed.train[0].class, 0);
    }

    #[test]
    fn every_fault_has_its_words() {
        let whole = &["train/ant/1.png", "train/bee/1.png", "val/ant/1.png", "val/bee/1.png"];
        let cases: &[(&[&str], Option<&[&str]>, &str)] = &[
            (&[], None, "train: no such folder; --data wants DIR/train/<class>/*"),
            (&["train/", "val/"], None, "train: no class in it"),
            (&["train/ant/1.png"], None, "val: no such folder"),
            (&["train/ant/", "val/ant/1.png"], None, "train/ant: no readable picture in it"),
            (&["train/ant/1.txt", "val/ant/1.png"], None, "train/ant: no readable picture in it"),
            (&["train/ant/1.png", "train/bee/1.png", "val/ant/1.png"], None, "val: class 'bee' of train has no folder"),
            (&["train/ant/1.png", "val/ant/1.png", "val/bee/1.png"], None, "val: class 'bee' is not in train"),
            (whole, Some(&["ant"]), "train: class 'bee' is not in the classes file"),
            (whole, Some(&["ant", "bee", "cat"]), "train: class 'cat' of the classes file has no folder here"),
        ];
        for (files, listed, words) in cases {
            let root = tree(files);
            let error = Folder::scan(root.path(), listed.map(classes).as_deref()).unwrap_err();
            assert!(error.is_bad_input(), "{error}");
            assert!(error.to_string().contains(words), "{error} does not say: {words}");
        }
        let error = Folder::scan(Path::new("/no/such/folder"), None).unwrap_err();
        assert!(error.to_string().starts_with("/no/such/folder: no such folder"), "{error}");
    }

    #[test]
    fn an_edit_of_the_same_size_changes_the_fingerprint() {
        let root = tree(&["train/ant/1.png", "val/ant/1.png"]);
        let before = Folder::scan(root.path(), None).unwrap().fingerprint("32");
        assert_eq!(before, Folder::scan(root.path(), None).unwrap().fingerprint("32"));
        assert_ne!(before, Folder::scan(root.path(), None).unwrap().fingerprint("64"));
        std::thread::sleep(std::time::Duration::from_millis(20)); // file systems keep coarse time
        fs::write(root.path().join("train/ant/1.png"), "train/ant/1.pnG").unwrap();
        assert_ne!(before, Folder::scan(root.path(), None).unwrap().fingerprint("32"));
    }
}
