//! Files from elsewhere for the whole job: one download, then MPI.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::anyhow;
use fetch::{Checksum, Incoming, Request, Source, Store, unwatched};
use world::{Failure, Reduction, Scope, World};

use crate::errors::{agree, name_interruption, to_failure};
use crate::observe::progress::Progress;

/// Gets the file of `request` in place on every node, verified, and says where it lies on this one. Collective.
///
/// At most one rank of the job downloads, and only if no node has the file; the others get the bytes by MPI, and each
/// node that lacks the file writes a copy of its own. Where nodes share the store, one copy serves all.
///
/// No rank waits for a lock here but rank 0, while all others wait for it: two that wait for each other, one for a lock
/// and one in a collective, would wait for ever.
pub(crate) fn fetch_once(world: &World, store: &Store, request: &Request) -> anyhow::Result<PathBuf> {
    let request = &pinned(world, store, request)?;
    let looks = |this_one: bool| -> anyhow::Result<Option<PathBuf>> {
        let found = if this_one { store.find(request, &unwatched).map_err(Into::into) } else { Ok(None) };
        agree(world, found)
    };
    let is_leader = world.local_rank() == 0;
    let first = looks(world.rank() == 0)?;
    let scope = match any(world, first.is_some())? {
        // A file system that is shared remembers for a while that a file was not there: it is not asked before it is.
        false if matches!(request.source, Source::Url(_)) && !store.is_offline() => world.scope_of(store.folder())?,
        _ => Scope::Node,
    };
    let mut found = match scope {
        Scope::World => first,
        Scope::Node => looks(is_leader && world.rank() != 0)?.or(first),
    };
    if first_node_with(world, found.is_some())?.is_none() {
        world.from_rank_zero(&format!("downloading {}", request.source), || {
            let progress = Progress::new(world, &request.source.file_name(), "bytes", 0);
            let fetched = store.fetch(request, &|fetched| {
                let total = fetched.total.unwrap_or(0);
                progress.update_of(fetched.bytes, total, || "bytes".to_owned());
                world::report(fetched.bytes, total, "bytes")
            });
            progress.finish();
            let doing = format!("downloading {}; what has come is kept where it can be continued", request.source);
            name_interruption(doing, fetched).map(|_| Vec::new()).map_err(|error| to_failure(&error))
        })?;
        found = looks(is_leader)?;
    }
    // What a node still does not see of a store that it shares, it sees after reading the folder: on NFS at least.
    let is_blind = is_leader && found.is_none();
    if is_blind {
        let _ = fs::read_dir(store.folder()).map(Iterator::count); // it need not be there
    }
    if any(world, is_blind)? {
        found = found.or(looks(is_blind)?);
    }
    let lacking = is_leader && found.is_none();
    if any(world, lacking)? {
        let from = first_node_with(world, found.is_some())?;
        let from = agree(world, from.ok_or_else(|| anyhow!("{}: it went as soon as it was there", request.source)))?;
        let received = spread(world, from, store, request, found.clone(), lacking)?;
        found = found.or(received);
    }
    // The leader's word counts for its node: it knows whether the file is at its source or in the store.
    let mut path = found.map(|path| path.into_os_string().into_encoded_bytes()).unwrap_or_default();
    world.node_channel().broadcast_bytes(&mut path, 0)?;
    Ok(PathBuf::from(String::from_utf8(path)?))
}

/// A request for the one content that all nodes are to have: a file of this job's machines may lie on some of them alone, and under its name another
/// that an earlier job brought. The first node that has it where it comes from says what it is. Collective.
fn pinned(world: &World, store: &Store, request: &Request) -> anyhow::Result<Request> {
    let mut request = request.clone();
    let Source::File(path) = &request.source else { return Ok(request) };
    if request.checksum.is_some() || world.nodes() == 1 {
        return Ok(request);
    }
    let is_leader = world.local_rank() == 0;
    let stamp = if is_leader { stamp(path) } else { None };
    // A folder that all nodes share shows all of them the same file: no need to read it on each.
    if all_leaders_have(world, stamp)? {
        return Ok(request);
    }
    let own = match (is_leader, stamp) {
        (true, Some(_)) => Ok(Some(path.clone())),
        (true, None) => store.find(&request, &unwatched).map_err(Into::into),
        (false, _) => Ok(None),
    };
    let own = agree(world, own)?;
    // What lies where it comes from goes before what stores have kept of it.
    let (rank, size) = (world.rank() as i64, world.size() as i64);
    let mut first = [match (&own, stamp) {
        (Some(_), Some(_)) => rank,
        (Some(_), None) => size + rank,
        (None, _) => 2 * size,
    }];
    world.control().all_reduce(&mut first, Reduction::Min)?;
    if first[0] == 2 * size {
        return Ok(request); // nobody has it, which is told where it is looked for
    }
    let root = first[0] % size;
    let of_root = own.filter(|_| rank == root).map(|path| Checksum::of(&path)).transpose();
    let mut hash =
        agree(world, of_root.map_err(Into::into))?.map(|hash| hash.to_string().into_bytes()).unwrap_or_default();
    world.control().broadcast_bytes(&mut hash, root as usize)?;
    request.checksum = Some(String::from_utf8(hash)?.parse().map_err(|reason: String| anyhow!(reason))?);
    Ok(request)
}

/// Whether the leaders of all nodes have a stamp, and the same. Collective.
fn all_leaders_have(world: &World, stamp: Option<[i64; 2]>) -> anyhow::Result<bool> {
    const NONE: [i64; 2] = [-1; 2];
    let of_leader = |others: [i64; 2]| if world.local_rank() == 0 { stamp.unwrap_or(NONE) } else { others };
    let [mut least, mut most] = [of_leader([i64::MAX; 2]), of_leader([i64::MIN; 2])];
    world.control().all_reduce(&mut least, Reduction::Min)?;
    world.control().all_reduce(&mut most, Reduction::Max)?;
    Ok(least == most && least != NONE)
}

/// How long a file is, and when it was last written, in nanoseconds since 1970; `None` where it is none.
fn stamp(path: &Path) -> Option<[i64; 2]> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let time = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some([i64::try_from(metadata.len()).ok()?, i64::try_from(time.as_nanos()).ok()?])
}

/// Sends the file from node `from` to the nodes that lack it. Collective.
fn spread(
    world: &World,
    from: usize,
    store: &Store,
    request: &Request,
    found: Option<PathBuf>,
    lacking: bool,
) -> anyhow::Result<Option<PathBuf>> {
    let mut file: Option<File> = None;
    let mut read = |piece: &mut [u8]| -> Result<usize, Failure> {
        let path = found.as_deref().ok_or_else(|| Failure::new("the file to send is not there"))?;
        let unreadable = |error: std::io::Error| Failure::new(format!("{}: {error}", path.display()));
        let open = match &mut file {
            Some(open) => open,
            none => none.insert(File::open(path).map_err(unreadable)?),
        };
        loop {
            match open.read(piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other.map_err(unreadable),
            }
        }
    };
    let to_failure = |error: fetch::Error| to_failure(&anyhow!(error));
    let mut incoming: Option<Incoming> = None;
    let mut write = |piece: &[u8]| -> Result<(), Failure> {
        if !lacking {
            return Ok(());
        }
        let incoming = match &mut incoming {
            Some(incoming) => incoming,
            none => none.insert(store.receive(request).map_err(to_failure)?),
        };
        incoming.write(piece).map_err(to_failure)
    };
    world.spread(from, &mut read, &mut write)?;
    let finished = match incoming {
        Some(incoming) => incoming.finish(&unwatched).map(Some),
        None if lacking => store.receive(request).and_then(|empty| empty.finish(&unwatched)).map(Some),
        None => Ok(None),
    };
    agree(world, finished.map_err(Into::into))
}

/// The first node whose leader has the file. Collective.
fn first_node_with(world: &World, have: bool) -> anyhow::Result<Option<usize>> {
    let nobody = world.nodes() as i64;
    let mut first = [if have { world.node() as i64 } else { nobody }];
    world.control().all_reduce(&mut first, Reduction::Min)?;
    Ok((first[0] < nobody).then_some(first[0] as usize))
}

/// Whether `this` is so on any rank. Collective.
fn any(world: &World, this: bool) -> anyhow::Result<bool> {
    let mut any = [u8::from(this)];
    world.control().all_reduce(&mut any, Reduction::Max)?;
    Ok(any[0] == 1)
}
