//! What images are normalized by: what the flags say, or mean and standard deviation of the training images, which all ranks
//! compute together, to the same bits whatever their number.

use anyhow::Context;
use dataset::{Dataset, Normalization, Percentiles, PixelFormat};
use flags::{ChannelValues, ImageArgs, NormalizeKind};
use layout::Shard;
use world::{Reduction, World};

use crate::config::preprocessing::{normalization, refuse_values};
use crate::errors::{agree, usage};

/// What the training images of `dataset` are normalized by; every rank may use so many `cores` to find it out;
/// 8-bit RGB by `usual`, where nothing else is asked for. Collective.
pub(crate) fn normalization_of(
    world: &World,
    args: &ImageArgs,
    usual: &Normalization,
    dataset: &Dataset,
    cores: usize,
) -> anyhow::Result<Normalization> {
    let format = dataset.train.format();
    agree(world, refuse(args, format))?;
    let is_given = |values: &Option<ChannelValues>| matches!(values, Some(ChannelValues::Of(_)));
    let of_dataset = match args.normalize {
        _ if is_given(&args.mean) && is_given(&args.std) => false,
        None => format != PixelFormat::Rgb8,
        Some(kind) => kind != NormalizeKind::Imagenet,
    };
    let base = if of_dataset {
        let (found, of) = match args.normalize {
            Some(NormalizeKind::Percentile) => (percentiles(world, dataset, cores)?, "1st and 99th percentile, as"),
            _ => (moments(world, dataset, cores)?, "own"),
        };
        if world.rank() == 0 {
            let shown = |values: &[f64]| values.iter().map(|value| format!("{value:.5}")).collect::<Vec<_>>().join(",");
            log::info!(
                "images are normalized by the training images' {of} mean {} and std {}",
                shown(&found.mean),
                shown(&found.std)
            );
        }
        found
    } else {
        match format {
            PixelFormat::Rgb8 if args.normalize.is_none() => usual.clone(),
            PixelFormat::Rgb8 => Normalization::imagenet(),
            PixelFormat::Planes { channels: 3 } if args.normalize.is_some() => Normalization::imagenet(),
            PixelFormat::Planes { channels } => Normalization { mean: vec![0.0; channels], std: vec![1.0; channels] },
        }
    };
    agree(world, normalization(args, base))
}

fn refuse(args: &ImageArgs, format: PixelFormat) -> anyhow::Result<()> {
    refuse_values(args, format == PixelFormat::Rgb8)?;
    if args.normalize == Some(NormalizeKind::Imagenet) && format.channels() != 3 {
        return Err(usage(format!(
            "--normalize imagenet: is for images of 3 channels, and these have {}; leave it out",
            format.channels()
        )));
    }
    Ok(())
}

/// The percentiles of each channel of the training images, found by all ranks together.
fn percentiles(world: &World, dataset: &Dataset, cores: usize) -> anyhow::Result<Normalization> {
    let images = &dataset.train;
    let own = Shard::new(world.rank(), world.size()).of(0..images.blocks());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cores).build().context("starting threads")?;
    let mut found = Percentiles::new(images.format().channels());
    while !found.is_complete() {
        let counted = pool.install(|| found.count(images, own.clone()));
        let mut counts = agree(world, counted.map_err(Into::into))?;
        world.control().all_reduce(&mut counts, Reduction::Sum)?;
        agree(world, found.narrow(&counts).map_err(Into::into))?;
    }
    let (mut normalization, flat) = (found.normalization(), found.flat());
    if !flat.is_empty() {
        let all = moments(world, dataset, cores)?;
        for &channel in &flat {
            (normalization.mean[channel], normalization.std[channel]) = (all.mean[channel], all.std[channel]);
        }
        if world.rank() == 0 {
            log::warn!(
                "--normalize percentile: nearly all numbers of channels {flat:?} are equal; their mean and std are taken"
            );
        }
    }
    Ok(normalization)
}

/// Mean and standard deviation of each channel of the training images, added up by all ranks together.
fn moments(world: &World, dataset: &Dataset, cores: usize) -> anyhow::Result<Normalization> {
    let (images, blocks) = (&dataset.train, dataset.train.blocks());
    let own = Shard::new(world.rank(), world.size()).of(0..blocks);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cores).build().context("starting threads")?;
    let sums = agree(world, pool.install(|| images.moments(own.clone())).map_err(Into::into))?;
    // Each block is one rank's, and zeros on all others: a sum that rounds nothing. It is as large on every rank.
    let width = images.moments_of_a_block();
    let mut all = vec![0.0; blocks * width];
    all[own.start * width..own.end * width].copy_from_slice(&sums);
    world.control().all_reduce(&mut all, Reduction::Sum)?;
    agree(world, images.normalization(&all).map_err(Into::into))
}
