//! The verb `eval`: how good a model is on a set of images. The ranks share the images; each is seen once.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use dataset::{Batch, Dataset, ImageSet, Listing, Loader, LoaderConfig, Split, digits};
use flags::{Cli, EvalArgs};
use layout::Shard;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use world::World;

use crate::commands::inference::{Loaded, device_of, evaluator, one_rank, refuse_batch};
use crate::config::recipe;
use crate::data::normalize::Normalize;
use crate::data::shown::show;
use crate::errors::{agree, agree_after, go_on, name_interruption, to_failure, usage};
use crate::files::write_whole;
use crate::machine::{cores, device};
use crate::observe::stdout::print;
use crate::run::results;
use crate::task::Scorer;
use crate::task::classification::Classification;
use crate::trainer::evaluate::{evaluate, tell as scores_in_words};

/// Images that are named in the log because they cannot be decoded.
const NAMED: usize = 10;

/// Evaluates as the flags say, and prints the scores. Collective.
pub(crate) fn run(args: &EvalArgs, world: &World) -> anyhow::Result<()> {
    if args.logits.is_some() {
        one_rank(world, "--logits")?;
    }
    agree(world, refuse_batch(args.inference.batch))?;
    let device = device_of(world, &args.inference.device)?;
    let threads = cores::per_rank(world)?;
    tch::set_num_threads(threads as i32);
    let loaded = Loaded::new(world, args.run.as_deref(), &args.model, device)?;
    let images = validation_images(world, args, &loaded, threads)?;

    let ranks = world.size();
    let preprocessing = &loaded.preprocessing;
    let config = LoaderConfig {
        resize: preprocessing.resize,
        normalization: preprocessing.normalization,
        resample: preprocessing.decoding.resample,
        threads,
        allocate: device::batch_memory(device),
        ..LoaderConfig::new(args.inference.batch * ranks, preprocessing.size)
    };
    let loader = Loader::new(Arc::new(images), Shard::new(world.rank(), ranks), config);
    let usual = Cli::of(["rust-train"]).context("the flags without any")?.train.optimization;
    let task = Classification::new(&usual, &[], loaded.classes.len(), device);
    let total = loader.evaluated().len();
    let mut lines = Vec::new();
    let forward = evaluator(&loaded.backbone, loaded.numerics);
    let evaluated = evaluate(&forward, &task, &loader, &Normalize::new(device), &mut |seen| {
        let Some((index, batch, outputs)) = seen else { return Ok(true) };
        go_on("evaluating", index - loader.evaluated().start, total, "images")?;
        if args.logits.is_some() {
            lines.extend(rows(&loader, index, batch, &outputs[0])?);
        }
        Ok(true)
    });
    let scorer = agree_after(world, "evaluating", evaluated)?;
    let mut scorer = scorer.context("an evaluation that nothing stops comes to its end")?;
    scorer.gather(world.control())?;
    if let Some(path) = &args.logits {
        write_whole(path, |file| Ok(std::fs::write(file, lines.concat())?))?;
    }
    let told = if world.rank() == 0 { tell(args, &*scorer, &loaded.classes, &loader) } else { Ok(()) };
    agree(world, told)
}

/// Prints the scores, and writes them down where that was asked for.
fn tell(args: &EvalArgs, scorer: &dyn Scorer, classes: &[String], loader: &Loader) -> anyhow::Result<()> {
    let words = scores_in_words(scorer)?;
    if let Some(folder) = &args.output {
        results::write_evaluation(folder, &scorer.evaluation(None, classes, &|worst| show(loader, worst)))?;
    }
    let without_images = |indices: &[usize]| show(loader, indices).into_iter().map(|(path, _)| (path, None)).collect();
    let json = || serde_json::to_string(&scorer.evaluation(None, classes, &without_images));
    print(&if args.json { json()? + "\n" } else { words + "\n" })?;
    Ok(())
}

/// Where the images are, as rank 0 finds it.
#[derive(Debug, Serialize, Deserialize)]
enum Place {
    Digits,
    // Paths of any bytes, which JSON has no text for: a `PathBuf` would have to be UTF-8.
    File(OsString),
    Folder(OsString),
}

/// The validation images that `--data` names, or those of the run itself, labelled by the classes of the model. Collective:
/// rank 0 looks and lists.
fn validation_images(world: &World, args: &EvalArgs, loaded: &Loaded, threads: usize) -> anyhow::Result<ImageSet> {
    let bytes = world.from_rank_zero("looking for the images", || {
        let find = || -> anyhow::Result<Place> {
            let data = match (&args.data, &loaded.run) {
                (Some(data), _) => Some(data.clone()),
                (None, Some(run)) => recipe::data_of(run)?,
                (None, None) => return Err(usage("--data: names the images to evaluate on; only a run knows its own")),
            };
            Ok(match data {
                None => Place::Digits,
                Some(path) if path.is_file() => Place::File(path.into()),
                Some(path) => Place::Folder(path.into()),
            })
        };
        let place = find().map_err(|error| to_failure(&error))?;
        serde_json::to_vec(&place).map_err(world::Failure::new)
    })?;
    let decoding = loaded.preprocessing.decoding;
    let (images, classes) = match serde_json::from_slice(&bytes)? {
        Place::Digits => of_dataset(digits::load()),
        Place::File(path) => of_dataset(agree(world, Dataset::of_file(Path::new(&path)).map_err(Into::into))?),
        Place::Folder(root) => {
            let root = PathBuf::from(root);
            let bytes = world.from_rank_zero("listing the images", || {
                list(&root, loaded).map(|listing| listing.to_bytes()).map_err(|error| to_failure(&error))
            })?;
            let listing = Listing::from_bytes(&root, &bytes).context("the listing arrived damaged")?;
            (ImageSet::of_files(&listing, Split::Val, decoding), listing.classes)
        }
    };
    agree(world, same_classes(&classes, loaded))?;
    let skips = loaded.card.plan.get("on-bad-image").and_then(serde_json::Value::as_str) == Some("skip");
    let images = if skips { without_undecodable(world, images, threads)? } else { images };
    if images.is_empty() {
        agree(world, Err(usage("--data: has no images to evaluate on")))?;
    }
    Ok(images)
}

fn of_dataset(dataset: Dataset) -> (ImageSet, Vec<String>) {
    (dataset.val, dataset.classes)
}

/// Lists `root/val`; needs no `root/train`. Classes whose names the model knows may be missing.
fn list(root: &Path, loaded: &Loaded) -> anyhow::Result<Listing> {
    let names = Some(loaded.card.classes.as_slice()).filter(|names| !names.is_empty());
    let watch = |done| world::report(done as u64, 0, "files");
    name_interruption("listing the images", Listing::scan_split(root, Split::Val, names, &watch))
}

fn same_classes(found: &[String], loaded: &Loaded) -> anyhow::Result<()> {
    let (ours, theirs) = (loaded.classes.len(), found.len());
    if ours != theirs {
        return Err(usage(format!("--data: has {theirs} classes, and the weights tell {ours} apart")));
    }
    if !loaded.card.classes.is_empty() && found != loaded.card.classes {
        return Err(usage("--data: its classes have other names than the model's, or another order"));
    }
    Ok(())
}

/// The images without those that cannot be decoded: the run left them out, too. Collective.
fn without_undecodable(world: &World, images: ImageSet, threads: usize) -> anyhow::Result<ImageSet> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("starting threads")?;
    let own = Shard::new(world.rank(), world.size()).of(0..images.len());
    let bad = agree(world, pool.install(|| images.undecodable(own)).map_err(Into::into))?;
    let mut all: HashMap<usize, String> = HashMap::new();
    for text in world.control().all_gather_text(&serde_json::to_string(&bad)?)? {
        all.extend(serde_json::from_str::<Vec<(usize, String)>>(&text)?);
    }
    let mut indices: Vec<_> = all.keys().copied().collect();
    indices.sort_unstable();
    if world.rank() == 0 && !indices.is_empty() {
        log::warn!("{} images cannot be decoded and are left out, as in the run:", indices.len());
        for (index, path) in indices.iter().zip(images.names(&indices)).take(NAMED) {
            log::warn!("  {}: {}", path.display(), all[index]);
        }
    }
    Ok(images.without(&indices))
}

/// A line for each image of a batch whose first is number `first`: file, label, logits.
fn rows(loader: &Loader, first: usize, batch: &Batch, logits: &Tensor) -> anyhow::Result<Vec<String>> {
    let classes = logits.size()[1] as usize;
    let values = Vec::<f32>::try_from(logits.to_device(tch::Device::Cpu).contiguous().view(-1))?;
    let names = loader.images().names(&(first..first + batch.len()).collect::<Vec<_>>());
    let rows = values.chunks(classes).zip(&batch.labels).zip(names).map(|((values, label), file)| {
        let values: Vec<_> = values.iter().map(|value| format!("{value:.6}")).collect();
        format!("{}\t{label}\t{}\n", file.display(), values.join("\t"))
    });
    Ok(rows.collect())
}
