//! The dataset cache of a job: found, or built by all ranks that reach it together; and the verb `cache`.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::Context;
use architectures::architecture;
use dataset::cache::{self, Draft, Found, Lock, Share};
use dataset::{BadPicture, Dataset, ImageSet, OnBadImage, Spec, Split, class_counts, class_weights};
use layout::Shard;
use serde::{Deserialize, Serialize};
use world::{Channel, Failure, Scope, Turn, World};

use crate::cli::CacheArgs;
use crate::cores;
use crate::data::list;
use crate::failure::{agree, to_failure, usage};
use crate::pictures::{Pictures, Source};
use crate::progress::Progress;

/// Skipped pictures that are named in the log.
const NAMED: usize = 10;

/// The verb `cache`: builds it, or looks at it. Collective.
pub(crate) fn run(args: &CacheArgs, world: &World) -> anyhow::Result<()> {
    let plan = || -> anyhow::Result<_> {
        let architecture = architecture(&args.model).map_err(|error| usage(format!("--model: {error}")))?;
        let pictures = Pictures::new(&args.data, &architecture)?;
        let spec = pictures.spec().ok_or_else(|| usage("--cache-format none: there is no cache of that kind"))?;
        let Source::Folder(root) = pictures.source.clone() else {
            return Err(usage("--data: name a folder of pictures; the digits and HDF5 files need no cache"));
        };
        Ok((pictures, spec, root))
    };
    let (pictures, spec, root) = agree(world, plan())?;
    if !(args.verify || args.explain || args.summary) {
        let dataset = open_or_build(world, &pictures, spec, &root, cores::per_rank(world)?)?;
        if world.rank() == 0 {
            log::info!("{} holds {}", cache_path(&root, &pictures, &spec).display(), sizes(&dataset));
        }
        return Ok(());
    }
    world.from_rank_zero("looking at the dataset cache", || {
        let look = || match (args.verify, args.explain) {
            (true, _) => verify(world, &cache_path(&root, &pictures, &spec)),
            (_, true) => explain(&pictures, &spec, &root),
            (false, false) => summarize(&pictures, &spec, &root),
        };
        look().map(|()| Vec::new()).map_err(|error| to_failure(&error))
    })?;
    Ok(())
}

fn verify(world: &World, path: &Path) -> anyhow::Result<()> {
    let progress = Progress::new(world, "verifying", "pictures", 0);
    let verified = cache::verify(path, &|done| progress.update(done as u64, || "pictures".to_owned()))?;
    progress.finish();
    for line in &verified.damaged {
        println!("{line}");
    }
    if !verified.damaged.is_empty() {
        anyhow::bail!("{}: damaged; delete it, and the next run builds it anew", path.display());
    }
    println!("{}: {} pictures, all as they were written", path.display(), verified.pictures);
    Ok(())
}

fn explain(pictures: &Pictures, spec: &Spec, root: &Path) -> anyhow::Result<()> {
    let listing = list(pictures, root)?;
    let path = cache_path(root, pictures, spec);
    let reasons = cache::explain(&path, &listing, spec);
    for reason in &reasons {
        println!("{reason}");
    }
    if !reasons.is_empty() {
        anyhow::bail!("{}: not current; the next run builds it anew", path.display());
    }
    println!("{}: current", path.display());
    Ok(())
}

fn summarize(pictures: &Pictures, spec: &Spec, root: &Path) -> anyhow::Result<()> {
    let listing = list(pictures, root)?;
    let path = cache_path(root, pictures, spec);
    let (dataset, skipped) = match cache::open(&path, &spec.fingerprint(&listing), spec.decoding)? {
        Found::Current(dataset) => (*dataset, cache::skipped(&path)?),
        Found::Nothing | Found::Stale(_) => {
            println!("There is no current cache at {}: what follows is what lies in the folder.\n", path.display());
            (Dataset::of_files(&listing, spec.decoding), Vec::new())
        }
    };
    print!("{}", table(&dataset)?);
    for (path, reason) in skipped {
        println!("skipped: {path}: {reason}");
    }
    Ok(())
}

/// Pictures of each class in each split, and the weight that makes up for a class's size in training.
fn table(dataset: &Dataset) -> Result<String, std::fmt::Error> {
    let count = |set: &ImageSet| class_counts(set, dataset.classes.len());
    let (train, val) = (count(&dataset.train), count(&dataset.val));
    let test = dataset.test.as_ref().map(count);
    let weights = class_weights(&train);
    let width = dataset.classes.iter().map(|name| name.chars().count()).chain([5]).max().unwrap_or(5);
    let mut text = String::new();
    let mut row = |name: &str, train: String, val: String, test: Option<String>, weight: String| {
        let test = test.map_or(String::new(), |test| format!(" {test:>9}"));
        writeln!(text, "{name:width$} {train:>9} {val:>9}{test} {weight:>8}")
    };
    let with_test = |value: String| test.as_ref().map(|_| value);
    row("class", "train".into(), "val".into(), with_test("test".into()), "weight".into())?;
    for (class, name) in dataset.classes.iter().enumerate() {
        let test = test.as_ref().map(|test| test[class].to_string());
        row(name, train[class].to_string(), val[class].to_string(), test, format!("{:.3}", weights[class]))?;
    }
    let sum = |counts: &[usize]| counts.iter().sum::<usize>().to_string();
    row("all", sum(&train), sum(&val), test.as_deref().map(sum), String::new())?;
    Ok(text.lines().map(|line| format!("{}\n", line.trim_end())).collect())
}

fn sizes(dataset: &Dataset) -> String {
    let test = dataset.test.as_ref().map_or(String::new(), |test| format!(", {} test", test.len()));
    let (train, val) = (dataset.train.len(), dataset.val.len());
    format!("{train} training and {val} validation{test} pictures of {} classes", dataset.classes.len())
}

/// What rank 0 finds out about a folder and all ranks need to know.
#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    fingerprint: String,
    path: PathBuf,
}

/// What the leader has while the others write their shares.
struct Leading {
    draft: Draft,
    _lock: Option<Lock>,
}

/// Opens the cache of the pictures below `root`, on every rank. Where it is not current, the ranks that reach it build
/// it together: the leader lays it out, each writes a share with so many `cores`, the leader seals it. Collective.
///
/// An error on any rank is known to all, and then no rank uses the file: it has no name until it is complete.
pub(crate) fn open_or_build(
    world: &World,
    pictures: &Pictures,
    spec: Spec,
    root: &Path,
    cores: usize,
) -> anyhow::Result<Dataset> {
    let listing = OnceLock::new();
    let scan = || listing.get_or_init(|| list(pictures, root)).as_ref().map_err(to_failure);
    // One rank lists the folder: a thousand that each list a million files would bring a shared file system down.
    let identity: Identity = serde_json::from_slice(&world.from_rank_zero("listing the pictures", || {
        let fingerprint = spec.fingerprint(scan()?);
        let path = cache_path(root, pictures, &spec);
        serde_json::to_vec(&Identity { fingerprint, path }).map_err(Failure::new)
    })?)?;
    let Identity { fingerprint, path } = &identity;
    let scope = match (pictures.cache_scope, path.parent()) {
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
            if let Found::Current(_) = open()? {
                if world.rank() == 0 {
                    log::info!("reusing the dataset cache {}", path.display());
                }
                return Ok(None);
            }
            // The others wait for us no longer than this.
            let patience = channel.timeout().mul_f64(0.9);
            let lock = Lock::acquire(path, patience).map_err(|error| to_failure(&error.into()))?;
            match open()? {
                Found::Current(_) => return Ok(None), // another job has just built it
                Found::Stale(reason) => log::info!("the dataset cache {} cannot be used: {reason}", path.display()),
                Found::Nothing => {}
            }
            let draft = Draft::create(scan()?, &spec, path).map_err(|error| to_failure(&error.into()))?;
            Ok(Some(Leading { draft, _lock: lock }))
        }
    })?;
    let mut temporary = leading.as_ref().map_or(Vec::new(), |leading| path_bytes(leading.draft.temporary()));
    channel.broadcast_bytes(&mut temporary, 0)?;

    if leading.is_some() {
        let ranks = channel.size();
        log::info!("building the dataset cache {} ({}) with {ranks} ranks", path.display(), spec.settings());
    }
    let bad = if temporary.is_empty() {
        Ok(Vec::new())
    } else {
        write_share(world, channel, &bytes_path(temporary), root, pictures.on_bad_image, cores)
    };
    let bad = gather(channel, &agree(world, bad)?)?;
    let dataset = world.zero_first(scope, "completing the dataset cache", |turn| {
        if let Some(leading) = leading.take() {
            leading.draft.seal(&bad).map_err(|error| to_failure(&error.into()))?;
        }
        match open()? {
            Found::Current(dataset) => Ok(*dataset),
            Found::Nothing | Found::Stale(_) if turn == Turn::After => Err(Failure::usage(format!(
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
    Ok(dataset)
}

/// Writes this rank's share of the pictures.
fn write_share(
    world: &World,
    channel: &Channel,
    temporary: &Path,
    root: &Path,
    on_bad: OnBadImage,
    cores: usize,
) -> anyhow::Result<Vec<BadPicture>> {
    let share = Share::open(temporary, root)
        .context("this rank cannot take part in building the cache; is its folder shared by all nodes?")?;
    let shard = Shard::new(channel.rank(), channel.size());
    let threads = rayon::ThreadPoolBuilder::new().num_threads(cores).build().context("starting threads")?;
    let progress = Progress::new(world, "cache", "pictures", share.pictures(shard) as u64);
    let start = Instant::now();
    let rate = |done: usize| format!("of this rank's, {:.0}/s", done as f64 / start.elapsed().as_secs_f64());
    let written = threads.install(|| share.write(shard, on_bad, &|done| progress.update(done as u64, || rate(done))));
    progress.finish();
    Ok(written?)
}

/// The pictures that any rank had to skip, on every rank.
fn gather(channel: &Channel, bad: &[BadPicture]) -> anyhow::Result<Vec<BadPicture>> {
    let rows: Vec<_> = bad.iter().map(|bad| (bad.split.name(), bad.index, &bad.path, &bad.reason)).collect();
    let mut all = Vec::new();
    for text in channel.all_gather_text(&serde_json::to_string(&rows)?)? {
        for (split, index, path, reason) in serde_json::from_str::<Vec<(String, usize, PathBuf, String)>>(&text)? {
            let split = Split::ALL.into_iter().find(|other| other.name() == split).context("an unknown split")?;
            all.push(BadPicture { split, index, path, reason });
        }
    }
    Ok(all)
}

fn report_skipped(path: &Path) {
    let skipped = cache::skipped(path).unwrap_or_default();
    if skipped.is_empty() {
        return;
    }
    log::warn!(
        "{} pictures cannot be decoded and are left out (rust-train cache --summary lists them):",
        skipped.len()
    );
    for (path, reason) in skipped.iter().take(NAMED) {
        log::warn!("  {path}: {reason}");
    }
}

/// Where the cache of the folder `root` lies: in the folder that the user named, beside the pictures, or where those
/// cannot be written to, in the user's own cache folder.
fn cache_path(root: &Path, pictures: &Pictures, spec: &Spec) -> PathBuf {
    let file = format!("{}.h5", spec.settings().replace(' ', "-"));
    let whole = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let name = whole.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
    // The folder's whole path is part of the name: two folders called `data` share a cache folder, but no cache.
    let hash = fnv1a(whole.as_os_str().as_encoded_bytes());
    let elsewhere = format!("{name}-{hash:016x}-{file}");
    if let Some(folder) = &pictures.cache {
        return folder.join(elsewhere);
    }
    let beside = whole.join(".rust-train");
    let path = beside.join(&file);
    let can_be_written =
        || whole.is_dir() && std::fs::create_dir_all(&beside).is_ok() && tempfile::tempfile_in(&beside).is_ok();
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

fn path_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

fn bytes_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_a_table() {
        let set = |labels: &[i64]| ImageSet::from_memory(vec![0; labels.len() * 3], labels.to_vec(), 1);
        let dataset = Dataset {
            classes: vec!["ant".to_owned(), "bumblebee".to_owned()],
            train: set(&[0, 0, 0, 1]),
            val: set(&[1, 0]),
            test: None,
        };
        insta::assert_snapshot!(table(&dataset).unwrap(), @r"
        class         train       val   weight
        ant               3         1    0.667
        bumblebee         1         1    2.000
        all               4         2
        ");
    }
}
