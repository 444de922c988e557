//! Which numbers of masks stand for which classes: what the flags say, or what the training masks hold.

use anyhow::Context;
use dataset::{Dataset, ImageSet, MaskValues, OnBadImage, read_classes};
use world::World;

use crate::config::images::{Images, MaskInput};
use crate::data::listing::count_files;
use crate::errors::{agree, name_interruption, to_failure};

/// What follows for masks of so many named `classes`; if need be, from those of `train`, which are looked through.
pub(crate) fn values_of(
    masks: &MaskInput,
    classes: Option<usize>,
    train: &ImageSet,
    on_bad: OnBadImage,
) -> anyhow::Result<MaskValues> {
    let look = || {
        log::info!("looking through {} masks for their numbers; --mask-values says them at once", train.len());
        train.mask_numbers(on_bad, &count_files)
    };
    let values = name_interruption("looking through the masks", masks.rule.values(classes, look))?;
    log::info!("the masks have {} classes, with the numbers {}", values.values().len(), values.to_words());
    Ok(values)
}

/// The data of somebody's file with what its masks mean, found out by rank 0. Collective.
pub(super) fn in_file(world: &World, images: &Images, dataset: Dataset) -> anyhow::Result<Dataset> {
    let Some(masks) = &images.masks else { return Ok(dataset) };
    let given = agree(world, images.classes.as_deref().map(read_classes).transpose().map_err(Into::into))?;
    let names = given.or_else(|| Some(dataset.classes.clone()).filter(|names| !names.is_empty()));
    let words = world.from_rank_zero("looking through the masks", || {
        let values = values_of(masks, names.as_ref().map(Vec::len), &dataset.train, OnBadImage::Fail);
        values.map(|values| values.to_words().into_bytes()).map_err(|error| to_failure(&error))
    })?;
    let values = MaskValues::of_words(&String::from_utf8(words)?).context("the masks' numbers arrived damaged")?;
    let names = names.unwrap_or_else(|| values.names());
    Ok(dataset.with_mask_values(&values, names))
}
