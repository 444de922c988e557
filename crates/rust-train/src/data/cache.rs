//! The dataset cache of a job: found, or built by all ranks that reach it together.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use dataset::cache::{self, CacheShard, CacheWriter, Lock, Origin};
use dataset::{BadImage, Contents, Dataset, Decoding, MaskValues, Numbers, OnBadImage, Spec, Split};
use flags::CheckFiles;
use layout::Shard;
use serde::{Deserialize, Serialize};
use world::{Channel, Failure, Scope, Turn, World};

use super::archives::{Archives, index_alone};
use super::listing::{Found, Listed, count_files, indexed, list};
use super::place::cache_path;
use super::survey::{find, survey};
use crate::config::images::Images;
use crate::errors::{agree_after, name_interruption, to_failure};
use crate::observe::progress::Progress;

/// Skipped images that are named in the log.
const NAMED: usize = 10;

/// What rank 0 finds out about a folder and all ranks need to know.
#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    fingerprint: String,
    /// Any bytes, which JSON has no text for: a `PathBuf` would have to be UTF-8.
    path: OsString,
    listed: Listed,
    /// The numbers that the images are read as; empty for RGB of 8 bits.
    numbers: String,
    is_exact: bool,
    /// Which numbers of masks stand for which classes; empty where there are no masks.
    masks: String,
}

impl Identity {
    fn new(spec: &Spec, fingerprint: String, path: PathBuf, listed: Listed) -> Self {
        let numbers = spec.decoding.numbers.map(|numbers| numbers.to_words()).unwrap_or_default();
        let masks = spec.masks.as_ref().map(MaskValues::to_words).unwrap_or_default();
        let (path, is_exact) = (path.into_os_string(), spec.decoding.is_exact);
        Self { fingerprint, path, listed, numbers, is_exact, masks }
    }
}

/// What the leader has while the others write their shares.
struct Leading {
    writer: CacheWriter,
    _lock: Option<Lock>,
}

/// Opens the cache of the images below `root`, on every rank. Where it is not current, the ranks that reach it build
/// it together: the leader lays it out, each writes a shard with so many `cores`, the leader seals it. Gives its path
/// too. Collective.
///
/// An error on any rank is known to all, and then no rank uses the file: it has no name until it is complete. Every rank
/// calls `check` before anything is built.
pub(crate) fn open_or_build(
    world: &World,
    images: &Images,
    contents: Contents,
    root: &Path,
    cores: usize,
    check: impl FnOnce(Listed) -> anyhow::Result<()>,
) -> anyhow::Result<(Dataset, PathBuf)> {
    let found = OnceLock::new();
    let (mut archives, mut surveyed) = (Archives::None, None);
    let trusted = trusted(world, images, contents, root)?;
    if trusted.is_none() {
        archives = indexed(world, images, root, cores)?;
        // On every rank alike.
        if let Archives::None = archives {
            surveyed = survey(world, images, root, cores)?;
        }
    }
    let scan = || {
        let list = || match &archives {
            Archives::Elsewhere => {
                // The leader of another node.
                let indexed = index_alone(root, &images.archives(), images.cache.as_deref())?;
                list(images, root, indexed.as_ref())
            }
            known => list(images, root, known.indexed()),
        };
        found.get_or_init(list).as_ref().map_err(to_failure)
    };
    // One rank lists the folder: a thousand that each list a million files would bring a shared file system down.
    let identity = || {
        world.from_rank_zero("listing the images", || {
            let (spec, fingerprint, listed) = match &surveyed {
                Some(surveyed) => {
                    let spec = Spec { contents, decoding: surveyed.decoding, masks: None };
                    let fingerprint = surveyed.fingerprint(&spec);
                    (spec, fingerprint, surveyed.listed())
                }
                None => {
                    let Found { listing, decoding, masks } = scan()?;
                    let spec = Spec { contents, decoding: *decoding, masks: masks.clone() };
                    let fingerprint = spec.fingerprint(listing);
                    let (channels, train) = (decoding.format().channels(), listing.train.len());
                    (spec, fingerprint, Listed { classes: listing.classes.clone(), channels, train })
                }
            };
            let path = cache_path(root, images, &spec, || Ok::<_, Failure>(fingerprint.clone()))?;
            serde_json::to_vec(&Identity::new(&spec, fingerprint, path, listed)).map_err(Failure::new)
        })
    };
    let identity: Identity = match trusted {
        Some(identity) => identity,
        None => serde_json::from_slice(&identity()?)?,
    };
    let Identity { fingerprint, path, listed, numbers, is_exact, masks } = &identity;
    let decoding = Decoding { numbers: Numbers::of_words(numbers), is_exact: *is_exact, ..images.evaluation.decoding };
    let spec = Spec { contents, decoding, masks: MaskValues::of_words(masks) };
    let path = Path::new(path);
    check(listed.clone())?;
    let scope = match (images.cache_scope, path.parent()) {
        (Some(scope), _) => scope,
        (None, Some(folder)) => world.scope_of(folder)?,
        (None, None) => Scope::World,
    };
    let channel = match scope {
        Scope::World => world.control(),
        Scope::Node => world.node_channel(),
    };
    let open = || cache::open(path, fingerprint, spec.decoding).map_err(|error| to_failure(&error.into()));

    let mut leading = world.zero_first(scope, "looking for the dataset cache", |turn| match turn {
        Turn::After => Ok(None),
        Turn::First => {
            if let cache::Found::Current(_) = open()? {
                if world.rank() == 0 {
                    if let Some(surveyed) = &surveyed {
                        surveyed.say();
                    }
                    log::info!("reusing the dataset cache {}", path.display());
                }
                return Ok(None);
            }
            let lock = wait_for_lock(path, channel.timeout()).map_err(|error| to_failure(&error))?;
            match open()? {
                cache::Found::Current(_) => return Ok(None), // another job has just built it
                cache::Found::Stale(reason) => {
                    log::info!("the dataset cache {} cannot be used: {reason}", path.display());
                }
                cache::Found::Nothing => {}
            }
            // What was looked at and what is listed now, perhaps after a wait for another job, are the same images.
            let listing = &scan()?.listing;
            if spec.fingerprint(listing) != *fingerprint {
                let root = root.display();
                return Err(Failure::usage(format!("{root}: has changed while it was looked at; start again")));
            }
            let writer =
                CacheWriter::create(listing, &spec, fingerprint, path).map_err(|error| to_failure(&error.into()))?;
            Ok(Some(Leading { writer, _lock: lock }))
        }
    })?;
    let mut temporary = leading.as_ref().map_or(Vec::new(), |leading| path_bytes(leading.writer.temporary()));
    channel.broadcast_bytes(&mut temporary, 0)?;

    if leading.is_some() {
        let ranks = channel.size();
        log::info!("building the dataset cache {} ({}) with {ranks} ranks", path.display(), spec.settings());
    }
    let bad = if temporary.is_empty() {
        Ok(Vec::new())
    } else {
        write_share(world, channel, &bytes_path(temporary), root, images.on_bad_image, cores)
    };
    let bad = name_interruption("building the dataset cache; nothing is half-built", bad);
    let bad = gather(channel, &agree_after(world, "building the dataset cache", bad)?)?;
    let dataset = world.zero_first(scope, "completing the dataset cache", |turn| {
        if let Some(leading) = leading.take() {
            leading.writer.seal(&bad).map_err(|error| to_failure(&error.into()))?;
        }
        match open()? {
            cache::Found::Current(dataset) => Ok(*dataset),
            cache::Found::Nothing | cache::Found::Stale(_) if turn == Turn::After => Err(Failure::usage(format!(
                "{}: the cache that another rank has just built cannot be used here; is the folder shared by all \
                 nodes? If not, use --cache-scope node or auto",
                path.display()
            ))),
            other => Err(Failure::new(format!("{}: not usable right after it was built: {other:?}", path.display()))),
        }
    })?;
    if world.rank() == 0 {
        report_skipped(path);
    }
    Ok((dataset, path.to_owned()))
}

/// The cache of the class folders below `root`, if the user trusts it without a look at every file; on every rank. Collective.
fn trusted(world: &World, images: &Images, contents: Contents, root: &Path) -> anyhow::Result<Option<Identity>> {
    if images.check_files == CheckFiles::Full {
        return Ok(None);
    }
    let bytes = world.from_rank_zero("looking at the folders", || {
        let trusted = trust(images, contents, root).map_err(|error| to_failure(&error))?;
        if trusted.is_none() {
            let flag = images.check_files.to_possible_value().map(|value| value.get_name().to_owned());
            log::info!("--check-files {}: does not tell; every file is looked at", flag.unwrap_or_default());
        }
        serde_json::to_vec(&trusted).map_err(Failure::new)
    })?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn trust(images: &Images, contents: Contents, root: &Path) -> anyhow::Result<Option<Identity>> {
    let Some((survey, decoding)) = find(images, root)? else { return Ok(None) };
    let spec = Spec { contents, decoding, masks: None };
    // Where several could be meant, their fingerprints tell, and those are of all files.
    let Ok(path) = cache_path(root, images, &spec, || Err(())) else { return Ok(None) };
    let Some(origin) = Origin::of(&path)? else { return Ok(None) };
    let Some(splits) = survey.splits() else { return Ok(None) };
    let is_same = origin.has_form(&spec)
        && origin.classes == survey.classes()
        && (images.check_files == CheckFiles::None || origin.has_same_folders(root, &splits, &count_files));
    if !is_same {
        return Ok(None);
    }
    match images.check_files {
        CheckFiles::Folders => log::info!(
            "--check-files folders: {} folders are as they were; images that were changed in place would not be noticed",
            origin.folders()
        ),
        _ => log::info!("--check-files none: whether the images have changed is not looked at"),
    }
    let channels = decoding.format().channels();
    let listed = Listed { classes: origin.classes.clone(), channels, train: origin.train };
    Ok(Some(Identity::new(&spec, origin.fingerprint, path, listed)))
}

/// Waits until no other job builds the cache at `path`, for as long as that gets on visibly.
fn wait_for_lock(path: &Path, timeout: Duration) -> anyhow::Result<Option<Lock>> {
    let start = Instant::now();
    let watch = |has_progressed| match has_progressed {
        // Our own ranks wait as long as we do.
        true => world::report(start.elapsed().as_secs(), 0, "s for its lock"),
        false if world::asked_to_stop() => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    // The others, who wait for us, give up a little later.
    let lock = Lock::acquire(path, timeout.mul_f64(0.9), &watch);
    name_interruption("waiting for another job that builds the dataset cache", lock)
}

/// Writes this rank's shard of the images.
fn write_share(
    world: &World,
    channel: &Channel,
    temporary: &Path,
    root: &Path,
    on_bad: OnBadImage,
    cores: usize,
) -> anyhow::Result<Vec<BadImage>> {
    let own = CacheShard::open(temporary, root)
        .context("this rank cannot take part in building the cache; is its folder shared by all nodes?")?;
    let shard = Shard::new(channel.rank(), channel.size());
    let threads = rayon::ThreadPoolBuilder::new().num_threads(cores).build().context("starting threads")?;
    let progress = Progress::new(world, "cache", "images", own.images(shard) as u64);
    let start = Instant::now();
    let rate = |done: usize| format!("of this rank's, {:.0}/s", done as f64 / start.elapsed().as_secs_f64());
    let written = threads.install(|| own.write(shard, on_bad, &|done| progress.watch(done as u64, || rate(done))));
    progress.finish();
    Ok(written?)
}

/// The images that any rank had to skip, on every rank.
fn gather(channel: &Channel, bad: &[BadImage]) -> anyhow::Result<Vec<BadImage>> {
    let row = |bad: &BadImage| (bad.split.name(), bad.index, bad.path.clone().into_os_string(), bad.reason.clone());
    let rows: Vec<_> = bad.iter().map(row).collect();
    let mut all = Vec::new();
    for text in channel.all_gather_text(&serde_json::to_string(&rows)?)? {
        for (split, index, path, reason) in serde_json::from_str::<Vec<(String, usize, OsString, String)>>(&text)? {
            let split = Split::ALL.into_iter().find(|other| other.name() == split).context("an unknown split")?;
            all.push(BadImage { split, index, path: path.into(), reason });
        }
    }
    Ok(all)
}

fn report_skipped(path: &Path) {
    let skipped = cache::skipped(path).unwrap_or_default();
    if skipped.is_empty() {
        return;
    }
    log::warn!("{} images cannot be decoded and are left out (rust-train cache --summary lists them):", skipped.len());
    for (path, reason) in skipped.iter().take(NAMED) {
        log::warn!("  {path}: {reason}");
    }
}

fn path_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

fn bytes_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}
