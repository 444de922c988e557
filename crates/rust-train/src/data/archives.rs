//! The archives of a data set, indexed by all ranks together. What is found is kept: tars are read header by header.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use dataset::{ArchiveIndex, ArchiveSet, ArchiveSpec, archive_stamp, index_archive};
use layout::Shard;
use rayon::prelude::*;
use world::World;

use super::place::{fnv1a, kept_path};
use crate::distributed::gather::to_rank_zero;
use crate::errors::{agree, name_interruption, to_failure};
use crate::files::write_whole;
use crate::observe::progress::Progress;

/// What a file of kept indices begins with.
const FORMAT: &str = "rust-train archives 1";

/// The archives of a data set, and what is in them.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub set: ArchiveSet,
    pub indices: Vec<ArchiveIndex>,
}

/// The archives that the data set at `root` consists of, indexed with so many `cores` a rank: on rank 0; `None` on the others, and
/// where it has none. Its indices are kept beside it, or in the folder `cache`. Collective.
pub(crate) fn index(
    world: &World,
    root: &Path,
    spec: &ArchiveSpec,
    cache: Option<&Path>,
    cores: usize,
) -> anyhow::Result<Option<Indexed>> {
    let (mut set, mut indices, mut place) = (None, Vec::new(), PathBuf::new());
    // Those that nobody has indexed since they were written.
    let wanted = world.from_rank_zero("looking for archives", || {
        let mut find = || -> anyhow::Result<Vec<u8>> {
            let Some(found) = ArchiveSet::find(root)? else { return Ok(Vec::new()) };
            place = kept_path(root, cache, "archives");
            let paths = found.paths();
            indices = kept(&place, spec, &paths)?;
            set = Some(found);
            let wanted = paths.iter().zip(&indices).filter(|(_, index)| index.is_none());
            Ok(wanted.flat_map(|(path, _)| [path.as_os_str().as_bytes(), b"\0"].concat()).collect())
        };
        find().map_err(|error| to_failure(&error))
    })?;
    if !wanted.is_empty() {
        let paths: Vec<_> = wanted[..wanted.len() - 1]
            .split(|&byte| byte == 0)
            .map(|path| PathBuf::from(OsString::from_vec(path.to_vec())))
            .collect();
        let own = agree(world, index_share(world, spec, &paths, cores))?;
        let found = gather(world, own)?;
        if let Some(set) = &set {
            let mut found = found.into_iter();
            for index in indices.iter_mut().filter(|index| index.is_none()) {
                *index = found.next();
            }
            keep(&place, spec, &set.paths(), &indices);
        }
    }
    let Some(set) = set else { return Ok(None) };
    let indices = indices.into_iter().collect::<Option<Vec<_>>>().context("every archive was indexed")?;
    Ok(Some(Indexed { set, indices }))
}

/// This rank's part of the archives, one after the other.
fn index_share(world: &World, spec: &ArchiveSpec, paths: &[PathBuf], cores: usize) -> anyhow::Result<Vec<u8>> {
    let own = &paths[Shard::new(world.rank(), world.size()).of(0..paths.len())];
    let threads = rayon::ThreadPoolBuilder::new().num_threads(cores).build().context("starting threads")?;
    let progress = Progress::new(world, "archives", "archives", own.len() as u64);
    let done = AtomicU64::new(0);
    let index = |path: &PathBuf| {
        let index = index_archive(path, spec, &|images| world::report(images as u64, 0, "images"))?;
        let before = done.fetch_add(1, Ordering::Relaxed);
        let _ = progress.watch(before + 1, || "of this rank's".to_owned()); // the images have been told to stop already
        Ok(index.to_bytes())
    };
    let indices = threads.install(|| own.par_iter().map(index).collect::<dataset::Result<Vec<_>>>());
    progress.finish();
    Ok(name_interruption("indexing the archives", indices)?.concat())
}

/// The indices of all ranks, in their order, on rank 0.
fn gather(world: &World, own: Vec<u8>) -> anyhow::Result<Vec<ArchiveIndex>> {
    let mut indices = Vec::new();
    to_rank_zero(world, own, |bytes| {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (index, behind) = ArchiveIndex::from_bytes(rest).context("an index arrived damaged")?;
            indices.push(index);
            rest = behind;
        }
        Ok(())
    })?;
    Ok(indices)
}

/// The kept index of each archive, if it is current.
fn kept(place: &Path, spec: &ArchiveSpec, paths: &[PathBuf]) -> anyhow::Result<Vec<Option<ArchiveIndex>>> {
    let mut kept = std::fs::read(place).ok().and_then(|bytes| parse(&bytes, spec)).unwrap_or_default();
    let current = |path: &PathBuf| -> anyhow::Result<Option<ArchiveIndex>> {
        let (size, modified) = archive_stamp(path)?;
        let at = kept.iter().position(|(name, _)| name == path);
        Ok(at.map(|at| kept.swap_remove(at).1).filter(|index| index.is_current(size, modified)))
    };
    paths.iter().map(current).collect()
}

/// What [`keep`] has written; `None` where it is of something else, or damaged.
fn parse(bytes: &[u8], spec: &ArchiveSpec) -> Option<Vec<(PathBuf, ArchiveIndex)>> {
    let (rest, checksum) = bytes.split_last_chunk::<8>()?;
    let mut rest = rest.strip_prefix(head(spec).as_bytes()).filter(|_| fnv1a(rest).to_le_bytes() == *checksum)?;
    let mut kept = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == 0)?;
        let path = PathBuf::from(OsStr::from_bytes(&rest[..end]));
        let (index, behind) = ArchiveIndex::from_bytes(&rest[end + 1..])?;
        kept.push((path, index));
        rest = behind;
    }
    Some(kept)
}

/// Writes the indices down; without them the next run reads the archives again.
fn keep(place: &Path, spec: &ArchiveSpec, paths: &[PathBuf], indices: &[Option<ArchiveIndex>]) {
    let mut bytes = head(spec).into_bytes();
    for (path, index) in paths.iter().zip(indices) {
        let Some(index) = index else { continue };
        bytes.extend_from_slice(path.as_os_str().as_bytes());
        bytes.push(0);
        bytes.extend(index.to_bytes());
    }
    bytes.extend(fnv1a(&bytes).to_le_bytes());
    let folder = place.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = folder
        .map_err(Into::into)
        .and_then(|()| write_whole(place, |path| std::fs::write(path, &bytes).map_err(Into::into)));
    if let Err(error) = written {
        log::info!("what is in the archives is not kept: {error:#}");
    }
}

fn head(spec: &ArchiveSpec) -> String {
    format!("{FORMAT} {spec:?}\n")
}
