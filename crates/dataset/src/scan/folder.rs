//! A tree of images as torchvision's ImageFolder has it: `DIR/train/<class>/…`, or `DIR/Training/<class>/…` and the like.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fs::DirEntry;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::left_out::{LeftOut, OWN_FOLDER, is_trace};
use super::{EXTENSIONS, Layout, Part, Split, class_name};
use crate::watch::Counter;
use crate::{Error, Result};

/// `DIR/train/`.
pub(super) const LAYOUT: Layout = Layout { place, is_at, read: list };

/// The folder of a split: as it is called here, or else another spelling that has folders of classes.
fn place(root: &Path, split: Split) -> PathBuf {
    let usual = root.join(split.name());
    let others = || split.spellings().map(|name| root.join(name)).find(|other| has_folder(other));
    if usual.is_dir() { usual } else { others().unwrap_or(usual) }
}

/// A folder without folders is none of classes where a list says what is in it, as of ImageNet's images to validate on.
fn is_at(place: &Path) -> bool {
    // The list first: a folder of very many images is read only where there is one.
    place.is_dir() && (!place.with_extension("tsv").is_file() || has_folder(place))
}

/// Whether there is a folder in a folder, which may be that of a class.
pub(super) fn has_folder(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| !is_trace(&entry.file_name()) && is_folder(&entry).unwrap_or(false))
}

/// The images of each class folder.
fn list(root: &Path, split: Split, place: &Path, counter: &Counter<'_>) -> Result<Part> {
    if !place.is_dir() {
        return Err(Error::Input(format!(
            "{}: no such folder; --data wants DIR/train/<class>/* and DIR/val/<class>/*; where each class has a folder in \
             DIR itself, add --val-split 0.1",
            place.display()
        )));
    }
    let below_root = place.strip_prefix(root).unwrap_or(place);
    let (mut files, mut left_out) = (Vec::new(), LeftOut::default());
    let mut folders = vec![(below_root.to_owned(), written(place)?)];
    let mut by_name = HashMap::new();
    for entry in class_entries(place, &mut left_out, counter)? {
        let (images, below) = images_in(root, below_root.join(entry.file_name()), &mut left_out, counter)?;
        folders.extend(below);
        if images.is_empty() && split != Split::Train {
            continue; // as if it were not there
        }
        if images.is_empty() {
            return Err(Error::Input(format!(
                "{}: no readable image in it (known: {})",
                entry.path().display(),
                EXTENSIONS.join(", ")
            )));
        }
        match by_name.entry(class_name(entry.file_name().as_bytes())) {
            Entry::Vacant(place) => {
                files.push((place.key().text.clone(), images));
                place.insert(files.len() - 1);
            }
            Entry::Occupied(place) => {
                let both: &mut Vec<PathBuf> = &mut files[*place.get()].1;
                both.extend(images);
                both.sort_unstable();
            }
        }
    }
    if files.is_empty() {
        return Err(Error::Input(format!(
            "{}: no class in it; put the images of each class into a folder of its own, or name them in {}",
            place.display(),
            place.with_extension("tsv").display()
        )));
    }
    left_out.say(place);
    Ok(Part { place: place.to_owned(), files, folders, order: None })
}

/// The folders of classes at a place.
fn class_entries(place: &Path, left_out: &mut LeftOut, counter: &Counter<'_>) -> Result<Vec<DirEntry>> {
    let mut classes = Vec::new();
    for entry in entries(place, counter)? {
        let name = entry.file_name();
        // A link to a folder is a class too; a hidden folder is not.
        match !is_trace(&name) && is_folder(&entry)? {
            true => classes.push(entry),
            false if is_image(Path::new(&name)) && !is_trace(&name) => {
                left_out.of_kind("images in no folder of a class");
            }
            false if name == OWN_FOLDER => {} // what this program keeps
            false => left_out.file(Path::new(&name)),
        }
    }
    Ok(classes)
}

/// The names of the classes at a place, and of their folders.
pub(super) fn class_folders(
    place: &Path,
    left_out: &mut LeftOut,
    counter: &Counter<'_>,
) -> Result<Vec<(String, OsString)>> {
    let entries = class_entries(place, left_out, counter)?;
    Ok(entries.iter().map(|entry| (class_name(entry.file_name().as_bytes()).text, entry.file_name())).collect())
}

/// The images of a folder and of all folders below it, in torchvision's order: by the whole name of their folder, then
/// by their own.
pub(super) fn images(
    root: &Path,
    folder: PathBuf,
    left_out: &mut LeftOut,
    counter: &Counter<'_>,
) -> Result<Vec<PathBuf>> {
    Ok(images_in(root, folder, left_out, counter)?.0)
}

/// Folders, and when they were last written.
type Written = Vec<(PathBuf, u64)>;

/// The same, and the folders.
fn images_in(
    root: &Path,
    folder: PathBuf,
    left_out: &mut LeftOut,
    counter: &Counter<'_>,
) -> Result<(Vec<PathBuf>, Written)> {
    let mut folders = Vec::new();
    collect(root, folder, &mut folders, left_out, counter)?;
    folders.sort_unstable_by(|one, other| one.path.as_os_str().cmp(other.path.as_os_str())); // not by components
    let written = folders.iter().map(|folder| (folder.path.clone(), folder.written)).collect();
    let images = |Collected { path, names, .. }: Collected| names.into_iter().map(move |name| path.join(name));
    Ok((folders.into_iter().flat_map(images).collect(), written))
}

/// A folder with images.
struct Collected {
    path: PathBuf,
    names: Vec<OsString>,
    written: u64,
}

/// When a folder was last written, in nanoseconds since 1970: before it is read, so that what changes meanwhile is noticed later.
pub(crate) fn written(folder: &Path) -> Result<u64> {
    let metadata = folder.metadata().map_err(Error::io(folder, "reading its time"))?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(modified.map_or(0, |age| age.as_nanos() as u64))
}

/// The names of the images in each folder. The kind of an entry comes with its name: there is no call for each file.
fn collect(
    root: &Path,
    folder: PathBuf,
    folders: &mut Vec<Collected>,
    left_out: &mut LeftOut,
    counter: &Counter<'_>,
) -> Result<()> {
    let whole = root.join(&folder);
    let (mut names, written) = (Vec::new(), written(&whole)?);
    for entry in entries(&whole, counter)? {
        let name = entry.file_name();
        if is_trace(&name) {
            left_out.file(Path::new(&name));
        } else if is_folder(&entry)? {
            refuse_loop(&entry, &whole)?;
            collect(root, folder.join(name), folders, left_out, counter)?;
        } else if is_image(Path::new(&name)) {
            names.push(name);
        } else {
            left_out.file(Path::new(&name));
        }
    }
    names.sort_unstable();
    folders.push(Collected { path: folder, names, written });
    Ok(())
}

fn entries(folder: &Path, counter: &Counter<'_>) -> Result<Vec<DirEntry>> {
    let unreadable = || Error::io(folder, "listing the images");
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable())? {
        entries.push(entry.map_err(unreadable())?);
        counter.one()?;
    }
    Ok(entries)
}

fn is_folder(entry: &DirEntry) -> Result<bool> {
    let kind = entry.file_type().map_err(Error::io(entry.path(), "finding out what it is"))?;
    Ok(kind.is_dir() || kind.is_symlink() && entry.path().is_dir())
}

/// A link to a folder that it lies in would go round for ever.
fn refuse_loop(entry: &DirEntry, folder: &Path) -> Result<()> {
    let whole = |path: &Path| path.canonicalize().map_err(Error::io(path, "following a link"));
    let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
    if is_link && whole(folder)?.starts_with(whole(&entry.path())?) {
        let path = entry.path();
        return Err(Error::Input(format!("{}: links to a folder that it lies in; remove the link", path.display())));
    }
    Ok(())
}

/// Whether a file's name is that of an image: by its ending.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}
