//! The verb `cache`: builds it ahead of a run, or looks at it.

use std::fmt::Write;
use std::path::Path;

use architectures::architecture;
use dataset::cache;
use dataset::{Dataset, ImageSet, Listing, Spec, class_counts, class_weights};
use flags::CacheArgs;
use world::World;

use crate::config::images::{Images, Source};
use crate::data::cache::open_or_build;
use crate::data::listing::{Found, indexed, list};
use crate::data::place::cache_path;
use crate::errors::{agree, name_interruption, to_failure, usage};
use crate::machine::cores;
use crate::observe::progress::Progress;

/// The verb `cache`: builds it, or looks at it. Collective.
pub(crate) fn run(args: &CacheArgs, world: &World) -> anyhow::Result<()> {
    let plan = || -> anyhow::Result<_> {
        let architecture = architecture(&args.model).map_err(|error| usage(format!("--model: {error}")))?;
        let images = Images::new(&args.data, args.task, Source::new(&args.data, None)?, &architecture)?;
        let contents = images.contents.ok_or_else(|| usage("--cache-format none: there is no cache of that kind"))?;
        let Source::Folder(root) = images.source.clone() else {
            return Err(usage("--data: name a folder of images; the digits and files of arrays need no cache"));
        };
        Ok((images, contents, root))
    };
    let (images, contents, root) = agree(world, plan())?;
    if !(args.verify || args.explain || args.summary) {
        let (dataset, path) = open_or_build(world, &images, contents, &root, cores::per_rank(world)?, |_| Ok(()))?;
        if world.rank() == 0 {
            log::info!("{} holds {}", path.display(), sizes(&dataset));
        }
        return Ok(());
    }
    let archives = indexed(world, &images, &root, cores::per_rank(world)?)?;
    world.from_rank_zero("looking at the dataset cache", || {
        let look = || {
            let Found { listing, decoding, masks } = list(&images, &root, archives.indexed())?;
            let spec = Spec { contents, decoding, masks };
            let path = cache_path(&root, &images, &spec, || Ok::<_, anyhow::Error>(spec.fingerprint(&listing)))?;
            match (args.verify, args.explain) {
                (true, _) => verify(world, &path),
                (_, true) => explain(&path, &spec, &listing),
                (false, false) => summarize(&path, &spec, &listing),
            }
        };
        look().map(|()| Vec::new()).map_err(|error| to_failure(&error))
    })?;
    Ok(())
}

fn verify(world: &World, path: &Path) -> anyhow::Result<()> {
    let progress = Progress::new(world, "verifying", "images", 0);
    let verified = cache::verify(path, &|done| progress.watch(done as u64, || "images".to_owned()));
    progress.finish();
    let verified = name_interruption("verifying the dataset cache", verified)?;
    for line in &verified.damaged {
        println!("{line}");
    }
    if !verified.damaged.is_empty() {
        anyhow::bail!("{}: damaged; delete it, and the next run rebuilds it", path.display());
    }
    println!("{}: {} images, all as they were written", path.display(), verified.images);
    Ok(())
}

fn explain(path: &Path, spec: &Spec, listing: &Listing) -> anyhow::Result<()> {
    let reasons = cache::explain(path, listing, spec);
    for reason in &reasons {
        println!("{reason}");
    }
    if !reasons.is_empty() {
        anyhow::bail!("{}: not current; the next run rebuilds it", path.display());
    }
    println!("{}: current", path.display());
    Ok(())
}

fn summarize(path: &Path, spec: &Spec, listing: &Listing) -> anyhow::Result<()> {
    let (dataset, skipped) = match cache::open(path, &spec.fingerprint(listing), spec.decoding)? {
        cache::Found::Current(dataset) => (*dataset, cache::skipped(path)?),
        cache::Found::Nothing | cache::Found::Stale(_) => {
            println!("There is no current cache at {}: what follows is what lies in the folder.\n", path.display());
            (Dataset::of_files(listing, spec.decoding), Vec::new())
        }
    };
    print!("{}", table(&dataset)?);
    for (path, reason) in skipped {
        println!("skipped: {path}: {reason}");
    }
    Ok(())
}

/// Images of each class in each split, and the weight that makes up for a class's size in training.
fn table(dataset: &Dataset) -> Result<String, std::fmt::Error> {
    if dataset.train.has_masks() {
        return Ok(format!("{}, which have masks\n", sizes(dataset))); // an image is of several classes
    }
    let count = |set: &ImageSet| class_counts(set.labels(), dataset.classes.len());
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
    format!("{train} training and {val} validation{test} images of {} classes", dataset.classes.len())
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
