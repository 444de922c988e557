//! The flags about the global batch as a validated layout: in how many parts it is computed, and by whom.

use architectures::Architecture;
use flags::{Compression, PrecisionKind, TrainArgs};
use layout::{BatchLayout, nearest_multiples};

use crate::config::bounds::{MOST, at_least_one};
use crate::errors::usage;

/// How the global batch is shared by so many `ranks`.
pub(super) fn layout(cli: &TrainArgs, ranks: usize) -> anyhow::Result<BatchLayout> {
    if cli.batch.images > MOST || cli.accumulate > MOST {
        return Err(usage(format!("--batch {}, --accumulate {}: must be at most {MOST}", cli.batch, cli.accumulate)));
    }
    let parts = match cli.virtual_ranks {
        None => cli.accumulate,
        Some(parts) => virtual_ranks(cli, parts, ranks)?,
    };
    BatchLayout::of_global(cli.batch.images, ranks, parts).map_err(|error| usage(format!("--batch: {error}")))
}

/// How many parts of a step each of the `ranks` computes, of `parts` that all have together.
fn virtual_ranks(cli: &TrainArgs, parts: usize, ranks: usize) -> anyhow::Result<usize> {
    let refuse = |why: String| Err(usage(format!("--virtual-ranks {parts}: {why}")));
    if !parts.is_power_of_two() || parts > MOST {
        return refuse("must be a power of two".to_owned());
    }
    if !ranks.is_power_of_two() || ranks > parts {
        let fits = (1_usize << ranks.ilog2()).min(parts);
        return refuse(format!("{ranks} ranks cannot share them evenly along a binary tree; use {fits}"));
    }
    if !cli.batch.images.is_multiple_of(parts) {
        let near = nearest_multiples(cli.batch.images, parts);
        let near: Vec<_> = near.iter().map(ToString::to_string).collect();
        return refuse(format!(
            "--batch {} is no multiple of it; nearest that are: {}",
            cli.batch.images,
            near.join(", ")
        ));
    }
    let others = [
        (cli.accumulate != 1, "--accumulate: the parts are what each rank computes one after the other"),
        (cli.batch.fit_memory, "--batch auto: the parts must not depend on the memory"),
        (cli.sync_bn, "--sync-bn: BatchNorm sees the images of a part"),
        (
            cli.compress_gradients != Compression::None,
            "--compress-gradients: rounds at places that depend on the number of ranks",
        ),
        (
            cli.precision == PrecisionKind::Fp16,
            "--precision fp16, whose scale depends on what has overflowed; use bf16",
        ),
    ];
    match others.into_iter().find(|(is_given, _)| *is_given) {
        Some((_, why)) => refuse(format!("not with {why}")),
        None => Ok(parts / ranks),
    }
}

/// Refuses batches in which a BatchNorm would see one value a channel, which has no variance.
pub(super) fn least_micro_batch(
    architecture: &Architecture,
    sides: [Option<usize>; 2],
    batch: &BatchLayout,
    cli: &TrainArgs,
) -> anyhow::Result<usize> {
    let (is_synchronized, fit_memory) = (cli.sync_bn, cli.batch.fit_memory);
    let is_virtual = cli.virtual_ranks.is_some();
    let network =
        architecture.network_to_train(1, cli.aux_loss).with_image_side(sides[0].unwrap_or(architecture.image_size));
    for side in sides.into_iter().flatten() {
        let norm = network.single_value_norm(side, side).map_err(|error| usage(format!("--image-size: {error}")))?;
        let Some(norm) = norm else { continue };
        let together = if is_synchronized { batch.ranks() } else { 1 };
        let least = 2usize.div_ceil(together);
        // What is to be found out may be found to be larger.
        let micro = if fit_memory { batch.per_rank() } else { batch.micro() };
        if micro < least {
            let fewer = if is_virtual { "fewer --virtual-ranks" } else { "fewer ranks or a smaller --accumulate" };
            return Err(usage(format!(
                "--batch {}: leaves BatchNorm one value a channel in training, whose variance is NaN: {norm} of {} sees one \
                 pixel of each of {micro} images of {side}×{side} pixels; use a larger batch, {fewer}, or a larger --image-size",
                batch.global(),
                architecture.name
            )));
        }
        return Ok(least);
    }
    Ok(1)
}

/// How often each image comes in its batch, which it must fit into.
pub(super) fn repeats(count: usize, batch: &BatchLayout) -> anyhow::Result<usize> {
    if count > batch.global() {
        return Err(usage(format!("--repeats {count}: must be at most --batch, {}", batch.global())));
    }
    at_least_one("--repeats", count)
}
