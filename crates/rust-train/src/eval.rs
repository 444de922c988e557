//! The verb `eval`: how good a model is on a folder of pictures. The ranks share the pictures; each is seen once.

use std::path::{Path, PathBuf};

use dataset::Listing;
use layout::Shard;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use world::{Reduction as Across, World};

use crate::cli::EvalArgs;
use crate::evaluate::{Scores, sums_of};
use crate::failure::{agree, usage};
use crate::files::write_whole;
use crate::inference::{Predictor, list, one_rank};
use crate::output::print;

/// The pictures and their labels, in the order of the listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pictures {
    classes: Vec<String>,
    files: Vec<(PathBuf, i64)>,
}

/// Evaluates as the flags say, and prints the scores. Collective.
pub(crate) fn run(args: &EvalArgs, world: &World) -> anyhow::Result<()> {
    if args.logits.is_some() {
        one_rank(world, "--logits")?;
    }
    let predictor = Predictor::new(world, &args.model, &args.inference)?;
    let pictures: Pictures = list(world, || scan(&args.data))?;
    agree(world, same_classes(&pictures, &predictor, args))?;
    let own = Shard::new(world.rank(), world.size()).of(0..pictures.files.len());
    let mut sums = [0.0; 4]; // loss, top-1, top-5, pictures
    let mut lines = Vec::new();
    let evaluated = pictures.files[own].chunks(predictor.batch).try_for_each(|batch| -> anyhow::Result<()> {
        let files: Vec<_> = batch.iter().map(|(file, _)| file).collect();
        let labels: Vec<_> = batch.iter().map(|&(_, label)| label).collect();
        let logits = predictor.logits(&files)?;
        for (sum, value) in sums.iter_mut().zip(sums_of(&logits, &Tensor::from_slice(&labels))) {
            *sum += value;
        }
        if args.logits.is_some() {
            lines.extend(rows(&logits, batch, &args.data)?);
        }
        Ok(())
    });
    agree(world, evaluated)?;
    world.control().all_reduce(&mut sums, Across::Sum)?;
    if let Some(path) = &args.logits {
        write_whole(path, |file| Ok(std::fs::write(file, lines.concat())?))?;
    }
    let scores = Scores::of_sums(sums);
    if world.rank() == 0 {
        let [_, right, ..] = sums;
        let Scores { loss, top1, top5, samples } = scores;
        let (top1, top5) = (top1 * 100.0, top5 * 100.0);
        let text = format!("{right} of {samples} right: top-1 {top1:.2} %, top-5 {top5:.2} %, loss {loss:.4}\n");
        print(&if args.json { serde_json::to_string(&scores)? + "\n" } else { text })?;
    }
    Ok(())
}

/// The pictures of `data/val`.
fn scan(data: &Path) -> anyhow::Result<Pictures> {
    let listing = Listing::scan(data, None)?;
    let files = listing.val.iter().map(|sample| (listing.root.join(&sample.path), sample.class as i64)).collect();
    Ok(Pictures { classes: listing.classes, files })
}

fn same_classes(pictures: &Pictures, predictor: &Predictor, args: &EvalArgs) -> anyhow::Result<()> {
    let (ours, theirs) = (predictor.classes.len(), pictures.classes.len());
    if ours != theirs {
        let data = args.data.display();
        return Err(usage(format!("--data {data}: has {theirs} classes, and the weights tell {ours} apart")));
    }
    if args.inference.classes.is_some() && predictor.classes != pictures.classes {
        return Err(usage("--classes: names other classes than the folders of --data, or in another order"));
    }
    Ok(())
}

/// A line for each picture: file, label, logits.
fn rows(logits: &Tensor, batch: &[(PathBuf, i64)], data: &Path) -> anyhow::Result<Vec<String>> {
    let classes = logits.size()[1] as usize;
    let values = Vec::<f32>::try_from(logits.contiguous().view(-1))?;
    let rows = values.chunks(classes).zip(batch).map(|(values, (file, label))| {
        let file = file.strip_prefix(data).unwrap_or(file).display();
        let values: Vec<_> = values.iter().map(|value| format!("{value:.6}")).collect();
        format!("{file}\t{label}\t{}\n", values.join("\t"))
    });
    Ok(rows.collect())
}
