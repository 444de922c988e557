//! Opening files in a folder that others can write to.
//!
//! Whoever may write to a folder can put a link there under a name that is easily foreseen, and what is written through it
//! lands elsewhere; or a file of their own, which they change later. So nothing here is opened through a link, and only
//! what belongs to this user is written to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// What every file that is not known to be one's own is opened with: not through a link, and not waiting for the other
/// end of a pipe.
fn wary(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
}

/// What lies under a name.
pub(crate) enum Opened {
    /// A plain file, which was there before or has just been made.
    File { file: File, is_new: bool },
    /// Something that is not to be used: a link, a folder, a file that this user may not open.
    Foreign,
}

/// Opens the file at `path`, made if nothing is there, and with `again` once more where that fails.
fn open(path: &Path, options: &OpenOptions, again: Option<&OpenOptions>) -> io::Result<Opened> {
    for _ in 0..100 {
        let error = match options.open(path).or_else(|error| match again {
            Some(again) if error.kind() != ErrorKind::NotFound => again.open(path),
            _ => Err(error),
        }) {
            Ok(file) if file.metadata()?.is_file() => return Ok(Opened::File { file, is_new: false }),
            Ok(_) => return Ok(Opened::Foreign),
            Err(error) => error,
        };
        // Whatever the reason is, something lies there.
        if error.kind() != ErrorKind::NotFound {
            return if fs::symlink_metadata(path).is_ok() { Ok(Opened::Foreign) } else { Err(error) };
        }
        match wary(File::options().read(true).write(true).create_new(true)).open(path) {
            Ok(file) => return Ok(Opened::File { file, is_new: true }),
            // Somebody was quicker; whether what they made can be used shows in the next turn.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Opened::Foreign) // it comes and goes
}

/// Opens the file at `path` to lock it: anybody's, as it is neither read nor written.
pub(crate) fn open_to_lock(path: &Path) -> io::Result<Opened> {
    let (mut write, mut read) = (File::options(), File::options());
    // NFS wants a file that is open for writing.
    open(path, wary(write.write(true)), Some(wary(read.read(true))))
}

/// Opens the file at `path` for reading and writing, made if nothing is there. `None` where what lies there is not this
/// user's alone.
pub(crate) fn open_own(path: &Path) -> io::Result<Option<File>> {
    let mut options = File::options();
    match open(path, wary(options.read(true).write(true)), None)? {
        Opened::File { file, is_new } if is_new || is_own(&file.metadata()?) => Ok(Some(file)),
        _ => Ok(None),
    }
}

/// The text of the file at `path`, of at most `longest` bytes, if it is this user's own.
pub(crate) fn read_own(path: &Path, longest: u64) -> Option<String> {
    let file = wary(File::options().read(true)).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    (is_own(&metadata) && metadata.len() <= longest).then(|| io::read_to_string(file).ok()).flatten()
}

/// The text of the plain file at `path`, whose ever it is, of at most `longest` bytes.
pub(crate) fn read_plain(path: &Path, longest: u64) -> Option<String> {
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    (metadata.is_file() && metadata.len() <= longest).then(|| io::read_to_string(file).ok()).flatten()
}

/// Whether a file is a plain one of this user, with no other name.
pub(crate) fn is_own(metadata: &fs::Metadata) -> bool {
    metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw() && metadata.nlink() == 1
}

/// A new file in `folder`, under a name that begins like `name` and that nobody can foresee.
pub(crate) fn unforeseen(folder: &Path, name: &str) -> io::Result<(File, PathBuf)> {
    let (file, path) = temporary(folder, name)?.keep().map_err(|error| error.error)?;
    Ok((file, path))
}

/// Puts `text` at `path`: whole or not at all, and in place of a link rather than through it.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let (folder, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
    let mut file = temporary(folder, &name.to_string_lossy())?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map(|_| ()).map_err(|error| error.error)
}

fn temporary(folder: &Path, name: &str) -> io::Result<tempfile::NamedTempFile> {
    let name = name.trim_start_matches('.');
    tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".part")
        .permissions(fs::Permissions::from_mode(0o666)) // the umask takes its part
        .tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_others_planted_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("precious"), "kept").unwrap();
        symlink(path("precious"), path("link")).unwrap();
        symlink(path("nothing"), path("dangling")).unwrap();
        fs::hard_link(path("precious"), path("second-name")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            path("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o666),
            0,
        );
        made.unwrap();
        for name in ["link", "dangling", "second-name", "folder", "pipe"] {
            assert!(open_own(&path(name)).unwrap().is_none(), "{name}");
            assert!(read_own(&path(name), 1 << 20).is_none(), "{name}");
            assert_eq!(read_plain(&path(name), 4).is_some(), ["link", "second-name"].contains(&name), "{name}");
            assert_eq!(read_plain(&path(name), 3), None);
        }
        for name in ["link", "dangling", "folder", "pipe"] {
            assert!(matches!(open_to_lock(&path(name)).unwrap(), Opened::Foreign), "{name}");
        }
        assert!(!path("nothing").exists());

        let file = open_own(&path("mine")).unwrap().unwrap();
        drop(file);
        assert!(open_own(&path("mine")).unwrap().is_some());
        assert!(open_own(&path("no/folder")).is_err());

        // A link is replaced, not followed.
        write_whole(&path("link"), "new").unwrap();
        assert!(!fs::symlink_metadata(path("link")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(path("link")).unwrap(), "new");
        assert_eq!(fs::read_to_string(path("precious")).unwrap(), "kept");
    }
}
