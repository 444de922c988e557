//! The data of a run: the digits, or a folder of pictures behind its cache, built once.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use dataset::cache::{self, Found};
use dataset::{Dataset, Folder, ImageSet, digits, read_classes};
use serde::{Deserialize, Serialize};
use world::{Failure, Scope, Turn, World};

use crate::failure::{self, to_failure, usage};
use crate::plan::{Data, Plan};
use crate::progress::Progress;

/// What rank 0 finds out about a folder and all ranks need to know.
#[derive(Debug, Serialize, Deserialize)]
struct Listing {
    fingerprint: String,
    classes: Vec<String>,
    cache: PathBuf,
}

/// Gets the data in place on every rank. Collective.
pub(crate) fn prepare(world: &World, plan: &Plan) -> anyhow::Result<Dataset> {
    let dataset = match &plan.data {
        Data::Digits => embedded(world, plan.classes.as_deref())?,
        Data::Folder { root, cache, cache_scope } => cached_folder(world, plan, root, cache.as_deref(), *cache_scope)?,
    };
    let least = plan.batch.global();
    failure::agree(world, refuse_too_small(&dataset.train, least))?;
    Ok(dataset)
}

fn refuse_too_small(train: &ImageSet, least: usize) -> anyhow::Result<()> {
    if train.len() < least {
        let count = train.len();
        return Err(usage(format!("--batch {least}: there are only {count} training pictures, less than one batch")));
    }
    Ok(())
}

fn embedded(world: &World, classes: Option<&Path>) -> anyhow::Result<Dataset> {
    let mut dataset = digits::load();
    let Some(path) = classes else { return Ok(dataset) };
    dataset.classes = serde_json::from_slice(&world.from_rank_zero("reading the classes file", || {
        let names = read_classes(path).map_err(|error| to_failure(&error.into()))?;
        if names.len() != dataset.classes.len() {
            let count = names.len();
            return Err(Failure::usage(format!("{}: {count} classes, and the digits are 10", path.display())));
        }
        to_json(&names)
    })?)?;
    Ok(dataset)
}

fn cached_folder(
    world: &World,
    plan: &Plan,
    root: &Path,
    cache: Option<&Path>,
    scope: Option<Scope>,
) -> anyhow::Result<Dataset> {
    let side = plan.cache_side();
    let scan = || -> anyhow::Result<Folder> {
        let classes = plan.classes.as_deref().map(read_classes).transpose()?;
        Ok(Folder::scan(root, classes.as_deref())?)
    };
    // One rank lists the folder: a thousand that each list a million files would bring a shared file system down.
    let folder = OnceLock::new();
    let listing: Listing = serde_json::from_slice(&world.from_rank_zero("listing the pictures", || {
        let scanned = folder.get_or_init(scan).as_ref().map_err(to_failure)?;
        let fingerprint = cache::fingerprint(scanned, side);
        let cache = cache_path(root, cache, side);
        to_json(&Listing { fingerprint, classes: scanned.classes.clone(), cache })
    })?)?;
    let Listing { fingerprint, cache, .. } = &listing;
    let scope = match (scope, cache.parent()) {
        (Some(scope), _) => scope,
        (None, Some(folder)) => world.scope_of(folder)?,
        (None, None) => Scope::World,
    };

    let dataset = world.zero_first(scope, "building the dataset cache", |turn| {
        let stale = match cache::open(cache, fingerprint).map_err(|error| to_failure(&error.into()))? {
            Found::Current(dataset) => {
                if world.rank() == 0 && turn == Turn::First {
                    log::info!("reusing the dataset cache {}", cache.display());
                }
                return Ok(dataset);
            }
            Found::Nothing => None,
            Found::Stale(reason) => Some(reason),
        };
        if turn == Turn::After {
            let reason = stale.unwrap_or_else(|| "there is no such file".to_owned());
            return Err(Failure::usage(format!(
                "{}: the cache that another rank has just built cannot be used here: {reason}; is the folder shared \
                 by all nodes? If not, use --cache-scope node or auto",
                cache.display()
            )));
        }
        if let Some(reason) = stale {
            log::info!("the dataset cache {} cannot be used: {reason}", cache.display());
        }
        let folder = folder.get_or_init(scan).as_ref().map_err(to_failure)?;
        build(world, folder, side, cache).map_err(|error| to_failure(&error))?;
        match cache::open(cache, fingerprint).map_err(|error| to_failure(&error.into()))? {
            Found::Current(dataset) => Ok(dataset),
            other => Err(Failure::new(format!("{}: not usable right after it was built: {other:?}", cache.display()))),
        }
    })?;
    Ok(dataset)
}

fn build(world: &World, folder: &Folder, side: usize, cache: &Path) -> anyhow::Result<()> {
    let total = (folder.train.len() + folder.val.len()) as u64;
    log::info!("building the dataset cache {} of {total} pictures, {side}×{side} pixels", cache.display());
    let progress = Progress::new(world, "cache", "pictures", total);
    let built = cache::build(folder, side, cache, &|done| progress.update(done as u64, || "pictures".to_owned()));
    progress.finish();
    Ok(built?)
}

/// Where the cache of the folder `root` lies: in the folder that the user named, beside the pictures, or where those
/// cannot be written to, in the user's own cache folder.
fn cache_path(root: &Path, named: Option<&Path>, side: usize) -> PathBuf {
    let whole = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let name = whole.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
    // The folder's whole path is part of the name: two folders called `data` share a cache folder, but no cache.
    let hash = fnv1a(whole.as_os_str().as_encoded_bytes());
    let elsewhere = format!("{name}-{hash:016x}-{side}px.h5");
    if let Some(folder) = named {
        return folder.join(elsewhere);
    }
    let beside = whole.join(".rust-train");
    let path = beside.join(format!("pixels-{side}px.h5"));
    let can_be_written = || std::fs::create_dir_all(&beside).is_ok() && tempfile::tempfile_in(&beside).is_ok();
    if path.exists() || can_be_written() {
        return path;
    }
    let user = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let user = user.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let user = user.unwrap_or_else(std::env::temp_dir);
    log::info!("{} cannot be written to; the cache goes to {}", whole.display(), user.display());
    user.join("rust-train").join(elsewhere)
}

/// FNV-1a, 64 bits: a stable short name for a path.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(Failure::new)
}
