//! The data of a run: the digits, somebody's file of arrays, or a folder of images with a cache or without.

pub(crate) mod archives;
pub(crate) mod cache;
pub(crate) mod evaluated;
pub(crate) mod listing;
pub(crate) mod masks;
pub(crate) mod normalize;
pub(crate) mod place;
pub(crate) mod shown;
pub(crate) mod stage;
pub(crate) mod statistics;
pub(crate) mod survey;

use std::path::Path;

use anyhow::Context;
use dataset::{Dataset, digits, read_classes};
use world::{Failure, World};

use cache::open_or_build;
use listing::{Found, Listed, indexed, list};

use crate::config::images::{Images, Source};
use crate::errors::{agree, to_failure, usage};

/// Gets the data in place on every rank, which may use so many `cores` for it; at least `least` training images. `own` gives
/// those that the program brings along. As soon as
/// they are listed every rank calls `check`, which is collective too: what it refuses costs no cache. Collective.
pub(crate) fn prepare<T>(
    world: &World,
    images: &Images,
    own: Option<&dyn Fn() -> anyhow::Result<Dataset>>,
    cores: usize,
    least: usize,
    check: impl FnOnce(Listed) -> anyhow::Result<T>,
) -> anyhow::Result<(Dataset, T)> {
    let check = |listed: Listed| {
        agree(world, refuse_too_small(listed.train, least))?;
        check(listed)
    };
    let (dataset, checked) = match (&images.source, images.contents) {
        (Source::Digits, _) => {
            let dataset = named(world, digits::load(), Path::new("digits"), images.classes.as_deref())?;
            let checked = check(Listed::of(&dataset))?;
            (dataset, checked)
        }
        (Source::Own(name), _) => {
            let read = own.context("the program has images")?;
            let dataset = agree(world, read().with_context(|| format!("the images of {name}")))?;
            let checked = check(Listed::of(&dataset))?;
            (dataset, checked)
        }
        (Source::File(path), _) => {
            let dataset = agree(world, Dataset::of_file(path, &images.file).map_err(Into::into))?;
            let dataset = match &images.masks {
                Some(_) => masks::in_file(world, images, dataset)?,
                None => named(world, dataset, path, images.classes.as_deref())?,
            };
            let checked = check(Listed::of(&dataset))?;
            (dataset, checked)
        }
        (Source::Folder(root), None) => {
            let dataset = uncached(world, images, root, cores)?;
            let checked = check(Listed::of(&dataset))?;
            (dataset, checked)
        }
        (Source::Folder(root), Some(contents)) => {
            let mut checked = None;
            let check = |listed| check(listed).map(|value| checked = Some(value));
            let (dataset, _) = open_or_build(world, images, contents, root, cores, check)?;
            (dataset, checked.context("the data were listed")?)
        }
    };
    agree(world, refuse_too_small(dataset.train.len(), least))?; // some may have been skipped
    Ok((dataset, checked))
}

fn refuse_too_small(count: usize, least: usize) -> anyhow::Result<()> {
    if count < least {
        return Err(usage(format!("--batch {least}: there are only {count} training images, less than one batch")));
    }
    Ok(())
}

/// The data of the file `path` with the names of the `classes` file, if there is one. Collective: rank 0 reads it.
fn named(world: &World, mut dataset: Dataset, path: &Path, classes: Option<&Path>) -> anyhow::Result<Dataset> {
    let Some(file) = classes else { return Ok(dataset) };
    let bytes = world.from_rank_zero("reading the classes file", || {
        let names = read_classes(file).map_err(|error| to_failure(&error.into()))?;
        let (given, own) = (names.len(), dataset.classes.len());
        let (file, path) = (file.display(), path.display());
        if dataset.has_names() && names != dataset.classes {
            return Err(Failure::usage(format!(
                "--classes {file}: {path} has other names of its own; leave --classes out"
            )));
        }
        // Of the last classes there may be no image.
        let may_be_more = dataset.train.target_width() == 0 && given > own;
        if given != own && !may_be_more {
            return Err(Failure::usage(format!("--classes {file}: {given} names, and {path} has {own} classes")));
        }
        serde_json::to_vec(&names).map_err(Failure::new)
    })?;
    dataset.classes = serde_json::from_slice(&bytes)?;
    Ok(dataset)
}

/// Image files without a cache. One rank lists the folder: a thousand that each list a million files would bring a
/// shared file system down.
fn uncached(world: &World, images: &Images, root: &Path, cores: usize) -> anyhow::Result<Dataset> {
    let archives = indexed(world, images, root, cores)?;
    let bytes = world.from_rank_zero("listing the images", || {
        let found = list(images, root, archives.indexed()).map_err(|error| to_failure(&error))?;
        Ok(found.to_bytes())
    })?;
    let found = Found::from_bytes(root, images, &bytes).context("the listing arrived damaged")?;
    let Found { listing, decoding, masks } = found;
    let dataset = Dataset::of_files(&listing, decoding);
    Ok(match masks {
        Some(values) => dataset.with_mask_values(&values, listing.classes),
        None => dataset,
    })
}
