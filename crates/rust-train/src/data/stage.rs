//! `--stage`: copies of the files that images are read from, on a disk of each node's own, made while training goes on. The bytes are the same,
//! so ranks need not agree on when they change over: each does when the copy is whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use dataset::{Dataset, MappedFile};
use serde::{Deserialize, Serialize};
use world::{Scope, World};

use super::place::fnv1a;
use crate::errors::{agree, usage};

/// Copied at a time, in bytes: how soon a run that ends is heard.
const PIECE: usize = 8 << 20;
/// Between two looks for a copy that another rank makes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// What is left free on the disk, in bytes.
const LEFT_FREE: u64 = 1 << 30;

/// What stands before and behind the names of copies that are not whole.
const PART: (&str, &str) = (".stage-", ".part");
/// A part that has not grown for this long is nobody's.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A file and its copy. Paths of any bytes, which JSON has no text for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Copied {
    from: OsString,
    to: OsString,
    version: Version,
    /// Whether it is there already.
    is_there: bool,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    length: u64,
    inode: u64,
    modified: (i64, i64),
}

impl Version {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { length: metadata.len(), inode: metadata.ino(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

/// Copies under way. They end with it; what is whole stays for the next run on the node.
#[derive(Debug)]
pub(crate) struct Staging {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Begins to copy what the images of `dataset` are read from to `folder`. Collective.
pub(crate) fn begin(world: &World, dataset: &Dataset, folder: &Path) -> anyhow::Result<Staging> {
    let files = agree(world, mapped_files(dataset))?;
    if world.scope_of(folder)? == Scope::World && world.nodes() > 1 {
        let refused =
            format!("--stage {}: all nodes share it; name a folder on a disk of each node's own", folder.display());
        agree(world, Err(usage(refused)))?;
    }
    let is_leader = world.local_rank() == 0;
    let planned = if is_leader { plan(&files, folder) } else { Ok(Vec::new()) };
    let planned = agree(world, planned.with_context(|| format!("--stage {}", folder.display())))?;
    let mut bytes = serde_json::to_vec(&planned)?;
    world.node_channel().broadcast_bytes(&mut bytes, 0)?;
    let planned: Vec<Copied> = serde_json::from_slice(&bytes)?;
    let (speaks, folder, stop) = (is_leader && world.node() == 0, folder.to_owned(), Arc::new(AtomicBool::new(false)));
    let (there, coming): (Vec<_>, Vec<_>) = planned.iter().partition(|copied| copied.is_there);
    if speaks && !planned.is_empty() {
        let megabytes = |of: &[&Copied]| of.iter().map(|copied| copied.version.length).sum::<u64>() >> 20;
        let shown = folder.display();
        match coming.len() {
            0 => log::info!("{} files, {} MB, have been copied to {shown} before", there.len(), megabytes(&there)),
            count => log::info!("copying {count} files, {} MB, to {shown} while training begins", megabytes(&coming)),
        }
    }
    let stopped = Arc::clone(&stop);
    let work = move || {
        let start = Instant::now();
        let done =
            if is_leader { copy_all(&planned, &files, &stopped) } else { wait_for_all(&planned, &files, &stopped) };
        match done {
            Ok(true) if speaks && !planned.is_empty() => {
                let seconds = start.elapsed().as_secs_f64();
                log::info!(
                    "images are read from {} from here on, {seconds:.1} s after the copying began",
                    folder.display()
                );
            }
            Ok(_) => {}
            Err(error) => log::warn!("--stage {}: {error:#}; images are read where they lie", folder.display()),
        }
    };
    let thread = std::thread::Builder::new().name("stage".to_owned()).spawn(work).context("starting a thread")?;
    Ok(Staging { stop, thread: Some(thread) })
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic has ended the job
        }
    }
}

/// The files that images to train and to validate on are read from.
fn mapped_files(dataset: &Dataset) -> anyhow::Result<Vec<MappedFile>> {
    let files = [dataset.train.mapped_files()?, dataset.val.mapped_files()?].concat();
    if files.is_empty() {
        return Err(usage(
            "--stage: copies a cache, archives or files of arrays that can be mapped, and these images are not in such files",
        ));
    }
    Ok(files)
}

/// Which copies are to be made in `folder`: none of what lies on the same disk.
fn plan(files: &[MappedFile], folder: &Path) -> anyhow::Result<Vec<Copied>> {
    fs::create_dir_all(folder)?;
    let disk = fs::metadata(folder)?.dev();
    remove_abandoned(folder);
    let mut planned: Vec<Copied> = Vec::new();
    let mut is_here = None;
    for file in files {
        let from = file.path();
        if planned.iter().any(|copied| Path::new(&copied.from) == from) {
            continue;
        }
        let metadata = fs::metadata(from).with_context(|| from.display().to_string())?;
        if metadata.dev() == disk {
            is_here = Some(from);
            continue;
        }
        // Another file, or another version of it, has another name; of a file only the last version is kept.
        let whole = from.canonicalize().unwrap_or_else(|_| from.to_owned());
        let version = Version::of(&metadata);
        let of_file = format!("{:016x}-", fnv1a(whole.as_os_str().as_encoded_bytes()));
        let mut name = OsString::from(format!("{of_file}{:08x}-", fnv1a(format!("{version:?}").as_bytes()) as u32));
        name.push(from.file_name().unwrap_or_default());
        remove_others(folder, &of_file, &name);
        let to = folder.join(name);
        let is_there = fs::metadata(&to).is_ok_and(|metadata| metadata.len() == version.length);
        planned.push(Copied { from: from.into(), to: to.into(), version, is_there });
    }
    if let Some(from) = is_here {
        let (from, folder) = (from.display(), folder.display());
        log::warn!("--stage {folder}: {from} lies on the same disk; it is read where it is");
    }
    Ok(planned)
}

/// Makes the copies that are not there yet, and has each read as soon as it is whole; whether all were made.
fn copy_all(planned: &[Copied], files: &[MappedFile], stop: &AtomicBool) -> anyhow::Result<bool> {
    for copied in planned {
        if !copied.is_there && !copy(Path::new(&copied.from), Path::new(&copied.to), copied.version, stop)? {
            return Ok(false);
        }
        read_copy(copied, files)?;
    }
    Ok(true)
}

/// Has each copy read when another rank has made it; whether all were there before the end of the run.
fn wait_for_all(planned: &[Copied], files: &[MappedFile], stop: &AtomicBool) -> anyhow::Result<bool> {
    for copied in planned {
        while !Path::new(&copied.to).is_file() {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        read_copy(copied, files)?;
    }
    Ok(true)
}

fn read_copy(copied: &Copied, files: &[MappedFile]) -> anyhow::Result<()> {
    let mut of_this = files.iter().filter(|file| file.path() == Path::new(&copied.from));
    of_this.try_for_each(|file| file.read_copy(Path::new(&copied.to))).map_err(Into::into)
}

/// Removes the copies of other versions of a file; whoever reads one reads on.
fn remove_others(folder: &Path, of_file: &str, name: &OsString) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_other =
            entry.file_name() != *name && entry.file_name().as_encoded_bytes().starts_with(of_file.as_bytes());
        if is_other {
            let _ = fs::remove_file(entry.path()); // perhaps it is somebody else's
        }
    }
}

/// Removes what runs have left that were killed while they copied.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_part = entry.file_name().to_str().is_some_and(|name| name.starts_with(PART.0) && name.ends_with(PART.1));
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
        if is_part && age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path()); // perhaps it is somebody else's
        }
    }
}

/// Copies this version of a file, whole or not at all; whether the run was not over before.
fn copy(from: &Path, to: &Path, version: Version, stop: &AtomicBool) -> anyhow::Result<bool> {
    let length = version.length;
    let folder = to.parent().unwrap_or(Path::new("."));
    let free = rustix::fs::statvfs(folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if free < length.saturating_add(LEFT_FREE.min(length)) {
        let (length, free) = (length >> 20, free >> 20);
        return Err(anyhow!("{} has {length} MB, and {free} MB are free", from.display()));
    }
    let mut source = File::open(from).with_context(|| from.display().to_string())?;
    let mut named = tempfile::Builder::new();
    named.prefix(PART.0).suffix(PART.1);
    // Other users of the node read it, too, as far as they may read what it is of; the umask takes its part.
    let mut part = named.permissions(fs::Permissions::from_mode(0o666)).tempfile_in(folder)?;
    let (mut piece, mut done) = (vec![0; PIECE], 0);
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(false); // the part goes
        }
        match source.read(&mut piece).with_context(|| from.display().to_string())? {
            0 => break,
            count => part.write_all(&piece[..count])?,
        }
        done += PIECE as u64;
        log::debug!("{}: {} of {length} bytes", from.display(), done.min(length));
    }
    let is_same = part.as_file().metadata()?.len() == length && Version::of(&source.metadata()?) == version;
    // It may have been replaced by another file meanwhile, whose bytes are the ones that are mapped.
    if !is_same || !fs::metadata(from).is_ok_and(|metadata| Version::of(&metadata) == version) {
        return Err(anyhow!("{}: has changed while it was copied", from.display()));
    }
    part.as_file().sync_all()?;
    part.persist(PathBuf::from(to)).map_err(|error| error.error)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_whole_or_not_there() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("cache.h5"), root.path().join("copy"));
        fs::write(&from, b"all of it").unwrap();
        let version = Version::of(&fs::metadata(&from).unwrap());
        let names = || fs::read_dir(root.path()).unwrap().count();
        let going = AtomicBool::new(false);
        for other in [Version { length: 10, ..version }, Version { inode: 0, ..version }] {
            let error = copy(&from, &to, other, &going).unwrap_err().to_string();
            assert!(error.contains("has changed while it was copied"), "{error}");
        }
        assert_eq!(names(), 1);
        assert!(!copy(&from, &to, version, &AtomicBool::new(true)).unwrap());
        assert_eq!(names(), 1);
        assert!(copy(&from, &to, version, &going).unwrap());
        assert_eq!((fs::read(&to).unwrap(), names()), (b"all of it".to_vec(), 2));
        let error = copy(&from, &to, Version { length: u64::MAX / 2, ..version }, &going).unwrap_err().to_string();
        assert!(error.contains("MB are free"), "{error}");
    }

    #[test]
    fn what_is_of_no_use_any_more_goes() {
        let root = tempfile::tempdir().unwrap();
        for name in ["00ff-1-a.tar", "00ff-2-a.tar", "00fe-1-a.tar", ".stage-x.part", ".stage-y.part", "others"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        let long_ago = std::time::SystemTime::now() - ABANDONED * 2;
        File::options().write(true).open(root.path().join(".stage-x.part")).unwrap().set_modified(long_ago).unwrap();
        remove_abandoned(root.path());
        remove_others(root.path(), "00ff-", &OsString::from("00ff-2-a.tar"));
        let mut left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".stage-y.part", "00fe-1-a.tar", "00ff-2-a.tar", "others"]);
    }
}
