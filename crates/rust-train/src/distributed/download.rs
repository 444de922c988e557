//! Files from elsewhere for the whole job: one download, then MPI.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::PathBuf;

use anyhow::anyhow;
use fetch::{Incoming, Request, Source, Store, unwatched};
use world::{Failure, Scope, World};

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
    world.control().all_reduce(&mut first, world::Reduction::Min)?;
    Ok((first[0] < nobody).then_some(first[0] as usize))
}

/// Whether `this` is so on any rank. Collective.
fn any(world: &World, this: bool) -> anyhow::Result<bool> {
    let mut any = [u8::from(this)];
    world.control().all_reduce(&mut any, world::Reduction::Max)?;
    Ok(any[0] == 1)
}
