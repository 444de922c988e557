//! The verb `eval`: how good a model is on a set of images. The ranks share the images; each is seen once.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use anyhow::Context;
use backbones::Backbone;
use dataset::{Batch, Loader, LoaderConfig, Numbers, PixelFormat};
use flags::{EvalArgs, SplitKind, TaskKind};
use layout::Shard;
use tch::Tensor;
use world::World;

use crate::commands::inference::{Loaded, device_of, evaluator, one_rank, refuse_batch};
use crate::data::evaluated::Evaluated;
use crate::data::normalize::Normalize;
use crate::data::shown::show;
use crate::errors::{agree, agree_after, go_on, usage};
use crate::files::write_whole;
use crate::machine::{cores, device};
use crate::observe::stdout::print;
use crate::run::results;
use crate::task::{self, Scorer, kind_of_card};
use crate::trainer::evaluate::{evaluate, tell as scores_in_words};

/// Evaluates as the flags say, and prints the scores. Collective.
pub(crate) fn run(args: &EvalArgs, world: &World) -> anyhow::Result<()> {
    let table = match (&args.logits, &args.features) {
        (Some(path), _) => Some(("--logits", path)),
        (None, Some(path)) => Some(("--features", path)),
        (None, None) => None,
    };
    if let Some((flag, _)) = table {
        one_rank(world, flag)?;
    }
    agree(world, refuse_batch(args.inference.batch))?;
    let device = device_of(world, &args.inference.device)?;
    let threads = cores::per_rank(world)?;
    let loaded = Loaded::new(world, args.run.as_deref(), &args.model, device)?;
    if let (Some((flag, _)), TaskKind::Segment) = (table, kind_of_card(&loaded.card)) {
        agree(world, Err(usage(format!("{flag}: is for rows of numbers; predict --output DIR writes masks"))))?;
    }
    let images = Evaluated {
        data: args.data.as_deref(),
        val_split: args.val_split,
        is_test: args.split == SplitKind::Test,
        run: loaded.run.as_deref(),
        card: &loaded.card,
        classes: &loaded.classes,
        decoding: loaded.preprocessing.decoding,
        members: &args.members,
        table: &args.table,
        masks: &args.masks,
    };
    let images = images.images(world, threads)?;
    agree(world, refuse_other_images(&loaded, images.format()))?;
    if world.rank() == 0 {
        warn_of_other_numbers(&loaded, images.numbers());
    }

    let ranks = world.size();
    let preprocessing = &loaded.preprocessing;
    let config = LoaderConfig {
        resize: preprocessing.resize,
        fit: preprocessing.decoding.fit,
        normalization: preprocessing.normalization.clone(),
        resample: preprocessing.decoding.resample,
        threads,
        allocate: device::batch_memory(device),
        ..LoaderConfig::new(args.inference.batch * ranks, preprocessing.size)
    };
    let loader = Loader::new(Arc::new(images), Shard::new(world.rank(), ranks), config);
    let task = agree(world, task::of_card(&loaded.card, loaded.classes.len()))?;
    let total = loader.evaluated().len();
    let evaluator_of =
        |network: &Backbone, mirrors| agree(world, evaluator(network, loaded.numerics, threads, mirrors));
    let logits = evaluator_of(&loaded.backbone, args.inference.test_flip)?;
    let features = args.features.as_ref().map(|_| evaluator_of(&loaded.backbone.without_head(), false)).transpose()?;
    let forward = |images: &Tensor| {
        let mut outputs = logits(images)?;
        outputs.extend(features.as_ref().map_or(Ok(Vec::new()), |features| features(images))?);
        Ok(outputs)
    };
    let normalize = Normalize::new(device, loaded.numerics.memory_format);
    let evaluate_into = |out: &mut dyn Write| {
        evaluate(&forward, &*task, &loader, &normalize, &mut |seen| {
            let Some((index, batch, outputs)) = seen else { return Ok(true) };
            go_on("evaluating", index - loader.evaluated().start, total, "images")?;
            if let (Some(_), Some(last)) = (table, outputs.last()) {
                out.write_all(rows(&loader, index, batch, last)?.concat().as_bytes())?;
            }
            Ok(true)
        })
    };
    let evaluated = match table {
        None => evaluate_into(&mut std::io::sink()),
        Some((_, path)) => {
            let mut evaluated = Ok(None);
            let written = write_whole(path, |file| {
                let mut out = BufWriter::new(File::create(file)?);
                evaluated = evaluate_into(&mut out);
                anyhow::ensure!(evaluated.is_ok(), "not all of it was evaluated"); // `evaluated` says why
                Ok(out.flush()?)
            });
            evaluated.and_then(|scorer| written.map(|()| scorer))
        }
    };
    let scorer = agree_after(world, "evaluating", evaluated)?;
    let mut scorer = scorer.context("an evaluation that nothing stops comes to its end")?;
    scorer.gather(world.control())?;
    let told = if world.rank() == 0 { tell(args, &*scorer, &loaded.classes, &loader) } else { Ok(()) };
    agree(world, told)
}

/// Refuses images that the network cannot see, or that are not what it was trained on.
fn refuse_other_images(loaded: &Loaded, format: PixelFormat) -> anyhow::Result<()> {
    let (own, theirs) = (loaded.backbone.network().channels(), format.channels());
    if own != theirs {
        return Err(usage(format!("--data: has images of {theirs} channels, and the weights are of {own}")));
    }
    if loaded.format.is_some_and(|known| known != format) {
        return Err(usage(match format {
            PixelFormat::Rgb8 => "--data: has images of 8-bit RGB, and the weights are of arrays of other numbers",
            PixelFormat::Planes { .. } => "--data: has arrays of numbers, and the weights are of images of 8-bit RGB",
        }));
    }
    Ok(())
}

/// Says if numbers are of another type, or packed otherwise, than those that were trained on.
fn warn_of_other_numbers(loaded: &Loaded, numbers: Option<Numbers>) {
    if let (Some(known), Some(found)) = (loaded.preprocessing.decoding.numbers, numbers)
        && (known.type_name(), known.scale, known.offset) != (found.type_name(), found.scale, found.offset)
    {
        log::warn!("the images have {found}, and the network was trained on {known}: are they in the same unit?");
    }
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

/// A line for each image of a batch whose first is number `first`: file, label (or all of them), what the model gives.
fn rows(loader: &Loader, first: usize, batch: &Batch, given: &Tensor) -> anyhow::Result<Vec<String>> {
    let columns = given.size()[1] as usize;
    let values = Vec::<f32>::try_from(given.to_device(tch::Device::Cpu).contiguous().view(-1))?;
    let names = loader.images().names(&(first..first + batch.len()).collect::<Vec<_>>());
    let width = batch.targets.len() / batch.len();
    let labels = (0..batch.len()).map(|index| match &batch.targets[index * width..(index + 1) * width] {
        [] => batch.labels[index].to_string(),
        targets => targets.iter().map(f64::to_string).collect::<Vec<_>>().join(","),
    });
    let rows = values.chunks(columns).zip(labels).zip(names).map(|((values, label), file)| {
        let values: Vec<_> = values.iter().map(ToString::to_string).collect();
        format!("{}\t{label}\t{}\n", file.display(), values.join("\t"))
    });
    Ok(rows.collect())
}
