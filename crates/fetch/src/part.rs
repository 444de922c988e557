//! The beginning of a file that is on its way, and which version of the file it is the beginning of.
//!
//! Bytes of two versions of a file must never become one. A checksum shows that at the end; where there is none, the
//! beginning is kept together with what the server calls that version, and goes on only where the server says that it is
//! the same still.

use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::{Error, Result, checksum, own};

/// What is behind the name of a part in the name of its version's file.
const VERSION_SUFFIX: &str = ".from";
/// The longest file about a version that is read.
const LONGEST_VERSION: u64 = 16 << 10;
/// A beginning that nobody has gone on with for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(14 * 24 * 3600);

/// Which version of a file a beginning is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The address, without its secrets.
    pub origin: String,
    /// What the server calls it, as `If-Range` says it.
    pub name: String,
    /// How many bytes it has, where the server says so.
    pub total: Option<u64>,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (origin, name, total) = (lines.next()?.to_owned(), lines.next()?.to_owned(), lines.next()?);
        // The last line shows that the others are whole.
        (lines.next() == Some("end")).then(|| Self { origin, name, total: total.parse().ok() })
    }

    fn text(&self) -> String {
        let total = self.total.map(|total| total.to_string()).unwrap_or_default();
        format!("{}\n{}\n{total}\nend\n", self.origin, self.name)
    }
}

/// The beginning of a file, under a hidden name.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    path: PathBuf,
    version: Option<Version>,
}

impl Part {
    /// Opens the part of the file `name` in `folder` that every process of this user finds again; whoever calls holds the
    /// lock. Where others have put something in its place it is a fresh one.
    pub(crate) fn open(folder: &Path, name: &str) -> Result<Self> {
        for path in Self::places(folder, name) {
            match own::open_own(&path).map_err(Error::io(&path, "making the file"))? {
                Some(file) => {
                    let version = own::read_own(&version_path(&path), LONGEST_VERSION);
                    return Ok(Self { file, version: version.as_deref().and_then(Version::parse), path });
                }
                None => log::debug!("{}: not this user's own; not used", path.display()),
            }
        }
        Self::fresh(folder, name)
    }

    /// Makes a part of the file `name` in `folder` that no other process has.
    pub(crate) fn fresh(folder: &Path, name: &str) -> Result<Self> {
        let (file, path) = own::unforeseen(folder, name).map_err(Error::io(folder, "making a file in"))?;
        Ok(Self { file, path, version: None })
    }

    /// Where parts that can be found again lie: under a name for all, and one for this user where another has that.
    fn places(folder: &Path, name: &str) -> [PathBuf; 2] {
        let user = rustix::process::geteuid().as_raw();
        [folder.join(format!(".{name}.part")), folder.join(format!(".{name}.{user}.part"))]
    }

    /// The part of the file `name` in `folder`, as far as another process has come with it.
    pub(crate) fn length_elsewhere(folder: &Path, name: &str) -> u64 {
        let [path, _] = Self::places(folder, name);
        fs::symlink_metadata(path).map_or(0, |metadata| metadata.len())
    }

    /// Removes the parts in `folder` that this user began and nobody has gone on with for weeks, but for that of the file
    /// `name`.
    pub(crate) fn forget_old(folder: &Path, name: &str) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        let keep = Self::places(folder, name);
        for path in entries.flatten().map(|entry| entry.path()) {
            let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let part = file_name.strip_suffix(VERSION_SUFFIX).unwrap_or(&file_name);
            let is_part = part.starts_with('.') && part.ends_with(".part");
            if !is_part || keep.iter().any(|kept| kept.file_name().is_some_and(|kept| kept == part)) {
                continue;
            }
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
            if own::is_own(&metadata) && age.is_some_and(|age| age > FORGOTTEN) {
                log::info!("{}: left behind by a download weeks ago; removed", path.display());
                let _ = fs::remove_file(&path); // another process may have been quicker
            }
        }
    }

    /// Where its bytes lie.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Which version of the file it is the beginning of, where that is known.
    pub(crate) fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// Goes to the end of the bytes there are, and says how many they are.
    pub(crate) fn end(&mut self) -> Result<u64> {
        self.file.seek(SeekFrom::End(0)).map_err(Error::io(&self.path, "measuring what is there"))
    }

    /// Forgets the bytes there are; those that follow are of `version`.
    pub(crate) fn start_over(&mut self, version: Option<Version>) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(Error::io(&self.path, "starting over"))?;
        // Only now, when there are no bytes of another version: this process may end at any moment.
        let path = version_path(&self.path);
        self.version = match version {
            Some(version) => match own::write_whole(&path, &version.text()) {
                Ok(()) => Some(version),
                // A part that cannot go on later is no reason not to fetch.
                Err(error) => {
                    log::debug!("{}: {error}", path.display());
                    let _ = fs::remove_file(&path);
                    None
                }
            },
            None => {
                let _ = fs::remove_file(&path); // mostly there is none
                None
            }
        };
        Ok(())
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io(&self.path, "writing the file"))
    }

    /// Puts the bytes on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(Error::io(&self.path, "writing the file to disk"))
    }

    /// Gives the bytes the name `path`. Where a file lies there with the same content, whose hash is `hash`, that stays: on
    /// a file system that several machines share, a file that is replaced breaks under those that read it.
    pub(crate) fn publish(&self, path: &Path, hash: &str) -> Result<()> {
        let named = match fs::hard_link(&self.path, path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // What lies there may also be a pipe, which is not read.
                match path.is_file().then(|| checksum::of_file(path, &|_| Ok(()))) {
                    Some(Ok(there)) if there == hash => Ok(()),
                    // Something else; or a file that this machine does not see yet, which it must.
                    _ => fs::rename(&self.path, path),
                }
            }
            Err(_) => fs::rename(&self.path, path), // not every file system has hard links
        };
        named.map_err(|error| {
            let doing = match error.kind() {
                ErrorKind::PermissionDenied => {
                    "giving the file its name (if another user's lies there, use another folder)"
                }
                _ => "giving the file its name",
            };
            Error::io(path, doing)(error)
        })
    }

    /// Removes what is hidden.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(version_path(&self.path)); // mostly there is none
        let _ = fs::remove_file(&self.path); // nobody trusts it by its name
    }
}

fn version_path(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(VERSION_SUFFIX);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn version(name: &str) -> Version {
        Version { origin: "https://host/file".to_owned(), name: name.to_owned(), total: Some(10) }
    }

    #[test]
    fn a_part_is_found_again_with_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let mut part = Part::open(folder.path(), "file").unwrap();
        part.write(b"none of any version").unwrap();
        part.start_over(Some(version("\"a\""))).unwrap();
        part.write(b"beginning").unwrap();
        drop(part);
        let mut part = Part::open(folder.path(), "file").unwrap();
        assert_eq!((part.end().unwrap(), part.version()), (9, Some(&version("\"a\""))));
        part.start_over(None).unwrap();
        drop(part);
        let mut part = Part::open(folder.path(), "file").unwrap();
        assert_eq!((part.end().unwrap(), part.version()), (0, None));

        // A description that is not whole describes nothing.
        for text in ["", "https://host/file\n\"a\"\n", "https://host/file\n\"a\"\n10\nen"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert_eq!(Version::parse(&version("\"a\"").text()), Some(version("\"a\"")));
    }

    #[test]
    fn what_others_put_in_its_place_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "kept").unwrap();
        for name in Part::places(folder.path(), "file") {
            symlink(&precious, &name).unwrap();
            symlink(&precious, version_path(&name)).unwrap();
            let mut part = Part::open(folder.path(), "file").unwrap();
            assert_ne!(part.path(), name);
            part.start_over(Some(version("\"a\""))).unwrap();
            part.write(b"something else").unwrap();
            part.remove();
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
    }

    #[test]
    fn what_nobody_goes_on_with_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - FORGOTTEN - Duration::from_secs(60);
        let names = [".a.part", ".a.part.from", ".b.xyz.part", ".file.part", ".other", "c.part"];
        for name in names {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(old).unwrap();
        }
        fs::write(folder.path().join(".young.part"), "").unwrap();
        Part::forget_old(folder.path(), "file");
        let left: Vec<_> =
            names.into_iter().chain([".young.part"]).filter(|name| folder.path().join(name).exists()).collect();
        assert_eq!(left, [".file.part", ".other", "c.part", ".young.part"]);
    }
}
