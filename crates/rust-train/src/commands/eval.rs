//! The verb `eval`: how good a model is on a folder of images. The ranks share the images; each is seen once.

use std::ffi::OsString;
use std::path::Path;

use flags::EvalArgs;
use layout::Shard;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use world::World;

use crate::commands::inference::{Predictor, list, one_rank};
use crate::data::listing;
use crate::data::shown::text;
use crate::errors::{agree, agree_after, go_on, usage};
use crate::files::write_whole;
use crate::observe::stdout::print;
use crate::run::results;
use crate::task::classification::Counts;
use crate::task::{Scorer, Targets};
use crate::trainer::evaluate::tell as scores_in_words;

/// The images and their labels, in the order of the listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Images {
    classes: Vec<String>,
    /// Paths of any bytes, which JSON has no text for: a `PathBuf` would have to be UTF-8.
    files: Vec<(OsString, i64)>,
}

/// Evaluates as the flags say, and prints the scores. Collective.
pub(crate) fn run(args: &EvalArgs, world: &World) -> anyhow::Result<()> {
    if args.logits.is_some() {
        one_rank(world, "--logits")?;
    }
    let predictor = Predictor::new(world, &args.model, &args.inference)?;
    let images: Images = list(world, || scan(&args.data))?;
    agree(world, same_classes(&images, &predictor, args))?;
    let own = Shard::new(world.rank(), world.size()).of(0..images.files.len());
    let (first, all) = (own.start, own.len());
    let mut index = first;
    let mut counts = Counts::default();
    let mut lines = Vec::new();
    let evaluated = images.files[own].chunks(predictor.batch).try_for_each(|batch| -> anyhow::Result<()> {
        go_on("evaluating", index - first, all, "images")?;
        let files: Vec<_> = batch.iter().map(|(file, _)| file).collect();
        let labels: Vec<_> = batch.iter().map(|&(_, label)| label).collect();
        let logits = predictor.logits(&files)?;
        let targets = Targets::of(vec![Tensor::from_slice(&labels)]);
        counts.add(&[logits.shallow_clone()], &targets, index)?;
        index += batch.len();
        if args.logits.is_some() {
            lines.extend(rows(&logits, batch, &args.data)?);
        }
        Ok(())
    });
    agree_after(world, "evaluating", evaluated)?;
    counts.gather(world.control())?;
    if let Some(path) = &args.logits {
        write_whole(path, |file| Ok(std::fs::write(file, lines.concat())?))?;
    }
    let told = if world.rank() == 0 { tell(args, &images, &predictor, &counts) } else { Ok(()) };
    agree(world, told)
}

/// Prints the scores, and writes them down where that was asked for.
fn tell(args: &EvalArgs, images: &Images, predictor: &Predictor, counts: &Counts) -> anyhow::Result<()> {
    let path = |index: &usize| Path::new(&images.files[*index].0);
    let without_images = |indices: &[usize]| indices.iter().map(|index| (text(path(index)), None)).collect();
    let with_images = |indices: &[usize]| {
        let shown = |index| (text(path(index)), predictor.thumbnail(path(index)));
        indices.iter().map(shown).collect()
    };
    if let Some(folder) = &args.output {
        results::write_evaluation(folder, &counts.evaluation(None, &images.classes, &with_images))?;
    }
    let words = scores_in_words(counts)?;
    let json = || serde_json::to_string(&counts.evaluation(None, &images.classes, &without_images));
    print(&if args.json { json()? + "\n" } else { words + "\n" })?;
    Ok(())
}

/// The images of `data/val`.
fn scan(data: &Path) -> anyhow::Result<Images> {
    let listing = listing::scan(data, None)?;
    if listing.val.is_empty() {
        return Err(usage(format!("--data {}: has no images to evaluate on: DIR/val/<class>/*", data.display())));
    }
    let files =
        listing.val.iter().map(|sample| (listing.root.join(&sample.path).into(), sample.class as i64)).collect();
    Ok(Images { classes: listing.classes, files })
}

fn same_classes(images: &Images, predictor: &Predictor, args: &EvalArgs) -> anyhow::Result<()> {
    let (ours, theirs) = (predictor.classes.len(), images.classes.len());
    if ours != theirs {
        let data = args.data.display();
        return Err(usage(format!("--data {data}: has {theirs} classes, and the weights tell {ours} apart")));
    }
    if args.inference.classes.is_some() && predictor.classes != images.classes {
        return Err(usage("--classes: names other classes than the folders of --data, or in another order"));
    }
    Ok(())
}

/// A line for each image: file, label, logits.
fn rows(logits: &Tensor, batch: &[(OsString, i64)], data: &Path) -> anyhow::Result<Vec<String>> {
    let classes = logits.size()[1] as usize;
    let values = Vec::<f32>::try_from(logits.contiguous().view(-1))?;
    let rows = values.chunks(classes).zip(batch).map(|(values, (file, label))| {
        let file = Path::new(file);
        let file = file.strip_prefix(data).unwrap_or(file).display();
        let values: Vec<_> = values.iter().map(|value| format!("{value:.6}")).collect();
        format!("{file}\t{label}\t{}\n", values.join("\t"))
    });
    Ok(rows.collect())
}
