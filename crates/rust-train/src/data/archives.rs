//! The archives of a data set, indexed by all ranks together. What is found is kept: tars are read header by header.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use dataset::{ArchiveIndex, ArchiveSet, ArchiveSpec, archive_stamp, index_archive};
use layout::Shard;
use rayon::prelude::*;
use world::World;

use super::listing::count_files;
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

/// Whether a data set consists of archives, and on rank 0 what is in them.
#[derive(Debug)]
pub(crate) enum Archives {
    /// It does not.
    None,
    /// It does, and another rank knows more.
    Elsewhere,
    Here(Indexed),
}

impl Archives {
    /// What is in them, if this rank knows it.
    pub fn indexed(&self) -> Option<&Indexed> {
        match self {
            Self::Here(indexed) => Some(indexed),
            Self::None | Self::Elsewhere => None,
        }
    }
}

/// The archives that the data set at `root` consists of, indexed with so many `cores` a rank. Its indices are kept beside it, or in
/// the folder `cache`. Collective.
pub(crate) fn index(
    world: &World,
    root: &Path,
    spec: &ArchiveSpec,
    cache: Option<&Path>,
    cores: usize,
) -> anyhow::Result<Archives> {
    let mut own: Option<Kept> = None;
    // Whether there are any, and those that nobody has indexed since they were written.
    let found = world.from_rank_zero("looking for archives", || {
        let mut find = || -> anyhow::Result<Vec<u8>> {
            let Some(kept) = Kept::find(root, spec, cache)? else { return Ok(Vec::new()) };
            let wanted = kept.wanted().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat());
            let bytes = std::iter::once(b'+').chain(wanted).collect();
            own = Some(kept);
            Ok(bytes)
        };
        find().map_err(|error| to_failure(&error))
    })?;
    let Some((_, wanted)) = found.split_first() else { return Ok(Archives::None) };
    if let Some(wanted) = wanted.strip_suffix(b"\0") {
        let path = |path: &[u8]| PathBuf::from(OsString::from_vec(path.to_vec()));
        let paths: Vec<_> = wanted.split(|&byte| byte == 0).map(path).collect();
        let share = agree(world, index_share(world, spec, &paths, cores))?;
        let found = gather(world, share)?;
        if let Some(kept) = &mut own {
            kept.complete(found);
            kept.keep(spec);
        }
    }
    let Some(kept) = own else { return Ok(Archives::Elsewhere) };
    Ok(Archives::Here(kept.indexed()?))
}

/// The same by one rank alone, which needs the list too, because it builds a cache for its node.
pub(crate) fn index_alone(root: &Path, spec: &ArchiveSpec, cache: Option<&Path>) -> anyhow::Result<Option<Indexed>> {
    let Some(mut kept) = Kept::find(root, spec, cache)? else { return Ok(None) };
    let paths: Vec<_> = kept.wanted().collect();
    let index = |path: &PathBuf| index_archive(path, spec, &count_files);
    let found = name_interruption("indexing the archives", paths.par_iter().map(index).collect())?;
    kept.complete(found);
    Ok(Some(kept.indexed()?))
}

/// The archives of a data set, and the indices of them that were kept.
struct Kept {
    set: ArchiveSet,
    /// Where they are kept.
    place: PathBuf,
    indices: Vec<Option<ArchiveIndex>>,
}

impl Kept {
    fn find(root: &Path, spec: &ArchiveSpec, cache: Option<&Path>) -> anyhow::Result<Option<Self>> {
        let Some(set) = ArchiveSet::find(root)? else { return Ok(None) };
        let place = kept_path(root, cache, "archives");
        let mut kept = std::fs::read(&place).ok().and_then(|bytes| parse(&bytes, spec)).unwrap_or_default();
        let current = |(path, name): (PathBuf, &Path)| -> anyhow::Result<Option<ArchiveIndex>> {
            let (size, modified) = archive_stamp(&path)?;
            Ok(kept.remove(name).filter(|index| index.is_current(size, modified)))
        };
        let indices = set.paths().into_iter().zip(set.names()).map(current).collect::<anyhow::Result<_>>()?;
        Ok(Some(Self { set, place, indices }))
    }

    /// The archives that have no index yet.
    fn wanted(&self) -> impl Iterator<Item = PathBuf> {
        self.set.paths().into_iter().zip(&self.indices).filter(|(_, index)| index.is_none()).map(|(path, _)| path)
    }

    /// Puts those that were wanted in their places.
    fn complete(&mut self, found: Vec<ArchiveIndex>) {
        let mut found = found.into_iter();
        for index in self.indices.iter_mut().filter(|index| index.is_none()) {
            *index = found.next();
        }
    }

    /// Writes the indices down; without them the next run reads the archives again.
    fn keep(&self, spec: &ArchiveSpec) {
        let mut bytes = head(spec).into_bytes();
        for (name, index) in self.set.names().zip(&self.indices) {
            let Some(index) = index else { continue };
            bytes.extend_from_slice(name.as_os_str().as_bytes());
            bytes.push(0);
            bytes.extend(index.to_bytes());
        }
        bytes.extend(fnv1a(&bytes).to_le_bytes());
        let folder = self.place.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder
            .map_err(Into::into)
            .and_then(|()| write_whole(&self.place, |path| std::fs::write(path, &bytes).map_err(Into::into)));
        if let Err(error) = written {
            log::info!("what is in the archives is not kept: {error:#}");
        }
    }

    fn indexed(self) -> anyhow::Result<Indexed> {
        let indices = self.indices.into_iter().collect::<Option<_>>().context("every archive was indexed")?;
        Ok(Indexed { set: self.set, indices })
    }
}

/// This rank's part of the archives, one after the other.
fn index_share(world: &World, spec: &ArchiveSpec, paths: &[PathBuf], cores: usize) -> anyhow::Result<Vec<u8>> {
    let own = &paths[Shard::new(world.rank(), world.size()).of(0..paths.len())];
    let threads = rayon::ThreadPoolBuilder::new().num_threads(cores).build().context("starting threads")?;
    let progress = Progress::new(world, "archives", "archives", own.len() as u64);
    let done = AtomicU64::new(0);
    let index = |path: &PathBuf| {
        let index = index_archive(path, spec, &count_files)?;
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

/// What [`Kept::keep`] has written: the archives below their folder, and what is in them; `None` where it is of something else, or damaged.
fn parse(bytes: &[u8], spec: &ArchiveSpec) -> Option<HashMap<PathBuf, ArchiveIndex>> {
    let (rest, checksum) = bytes.split_last_chunk::<8>()?;
    let mut rest = rest.strip_prefix(head(spec).as_bytes()).filter(|_| fnv1a(rest).to_le_bytes() == *checksum)?;
    let mut kept = HashMap::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == 0)?;
        let path = PathBuf::from(OsStr::from_bytes(&rest[..end]));
        let (index, behind) = ArchiveIndex::from_bytes(&rest[end + 1..])?;
        kept.insert(path, index);
        rest = behind;
    }
    Some(kept)
}

fn head(spec: &ArchiveSpec) -> String {
    format!("{FORMAT} {spec:?}\n")
}
