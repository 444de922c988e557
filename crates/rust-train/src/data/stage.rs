//! `--stage`: copies of the files that images are read from, on a disk of each node's own, made while training goes on. The bytes are the same,
//! so ranks need not agree on when they change over: each does when the copy is whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
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

/// A file and its copy. Paths of any bytes, which JSON has no text for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Copied {
    from: OsString,
    to: OsString,
    length: u64,
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
    if speaks && !planned.is_empty() {
        let total: u64 = planned.iter().map(|copied| copied.length).sum();
        log::info!(
            "copying {} files, {} MB, to {} while training begins",
            planned.len(),
            total >> 20,
            folder.display()
        );
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
        // Another file, or another version of it, has another name.
        let whole = from.canonicalize().unwrap_or_else(|_| from.to_owned());
        let time = (metadata.mtime(), metadata.mtime_nsec(), metadata.len());
        let mut name = OsString::from(format!("{:016x}-", fnv1a(format!("{whole:?} {time:?}").as_bytes())));
        name.push(from.file_name().unwrap_or_default());
        planned.push(Copied { from: from.into(), to: folder.join(name).into(), length: file.length() });
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
        let to = Path::new(&copied.to);
        let is_there = fs::metadata(to).is_ok_and(|metadata| metadata.len() == copied.length);
        if !is_there && !copy(Path::new(&copied.from), to, copied.length, stop)? {
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

/// Copies a file of `length` bytes, whole or not at all; whether the run was not over before.
fn copy(from: &Path, to: &Path, length: u64, stop: &AtomicBool) -> anyhow::Result<bool> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let free = rustix::fs::statvfs(folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if free < length.saturating_add(LEFT_FREE.min(length)) {
        let (length, free) = (length >> 20, free >> 20);
        return Err(anyhow!("{} has {length} MB, and {free} MB are free", from.display()));
    }
    let mut source = File::open(from).with_context(|| from.display().to_string())?;
    let mut part = tempfile::Builder::new().prefix(".stage-").suffix(".part").tempfile_in(folder)?;
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
    let whole = part.as_file().metadata()?.len();
    if whole != length {
        return Err(anyhow!("{}: has changed: {whole} bytes instead of {length}", from.display()));
    }
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
        let names = || fs::read_dir(root.path()).unwrap().count();
        let going = AtomicBool::new(false);
        assert!(copy(&from, &to, 10, &going).unwrap_err().to_string().contains("has changed: 9 bytes instead of 10"));
        assert_eq!(names(), 1);
        assert!(!copy(&from, &to, 9, &AtomicBool::new(true)).unwrap());
        assert_eq!(names(), 1);
        assert!(copy(&from, &to, 9, &going).unwrap());
        assert_eq!((fs::read(&to).unwrap(), names()), (b"all of it".to_vec(), 2));
        let error = copy(&from, &to, u64::MAX / 2, &going).unwrap_err().to_string();
        assert!(error.contains("MB are free"), "{error}");
    }
}
