//! Flags that ask something of the network: what it has not is refused.

use architectures::{Architecture, Network, Op};
use flags::{Freeze, OptimizerKind, Recompute, TrainArgs};

use super::bounds::below_one;
use crate::errors::usage;

/// Refuses flags that ask for what the network, or one of the caller's own, cannot be asked for.
pub(super) fn refuse_flags(cli: &TrainArgs, architecture: Option<&Architecture>) -> anyhow::Result<()> {
    let known = architecture.map(|known| (known.name, known.network(1)));
    let known = known.as_ref().map(|(name, network)| (*name, network));
    aux_loss(cli, architecture)?;
    linear_probe(cli, known)?;
    recompute(cli, known)?;
    drop_path(cli, known)?;
    layer_decay(cli, known)?;
    schedule_free(cli, known)
}

/// Refuses auxiliary heads that there are not, or that would not be trained.
fn aux_loss(cli: &TrainArgs, architecture: Option<&Architecture>) -> anyhow::Result<()> {
    if !cli.aux_loss {
        return Ok(());
    }
    if cli.recompute != Recompute::None {
        return Err(usage(
            "--recompute blocks: not with --aux-loss: its heads look into the middle of what would be forgotten",
        ));
    }
    if cli.freeze == Freeze::Backbone && cli.freeze_epochs.is_none() {
        return Err(usage(
            "--aux-loss: with --freeze backbone nothing of it reaches what is trained; add --freeze-epochs, or leave it out",
        ));
    }
    if cli.linear_probe {
        return Err(usage("--aux-loss: a linear probe does not know it; leave it out"));
    }
    match architecture {
        Some(known) if known.network_with_auxiliary(1).is_some() => Ok(()),
        Some(known) => Err(usage(format!("--aux-loss: {} has no auxiliary heads", known.name))),
        None => Err(usage("--aux-loss: this program has a model of its own; leave it out")),
    }
}

/// Refuses to fit a head that is no linear layer.
fn linear_probe(cli: &TrainArgs, known: Option<(&str, &Network)>) -> anyhow::Result<()> {
    match known {
        Some((name, network))
            if cli.linear_probe && !matches!(network.nodes()[network.head().index()].op, Op::Linear { .. }) =>
        {
            Err(usage(format!("--linear-probe: the head of {name} is no linear layer of its features")))
        }
        _ => Ok(()),
    }
}

/// Refuses to recompute what there is not, or what cannot be.
fn recompute(cli: &TrainArgs, known: Option<(&str, &Network)>) -> anyhow::Result<()> {
    if cli.recompute == Recompute::None {
        return Ok(());
    }
    if cli.sync_bn {
        return Err(usage(
            "--recompute blocks: not with --sync-bn: ranks would have to meet once more on the way back",
        ));
    }
    match known {
        Some((name, network)) if network.blocks().is_empty() => Err(usage(format!(
            "--recompute blocks: {name} has none: what its first half computes is taken by the second; use a larger --accumulate"
        ))),
        _ => Ok(()),
    }
}

/// Refuses to drop branches that there are not.
fn drop_path(cli: &TrainArgs, known: Option<(&str, &Network)>) -> anyhow::Result<()> {
    let Some(probability) = cli.drop_path else { return Ok(()) };
    below_one("--drop-path", probability)?;
    match known {
        Some((_, network)) if network.clone().with_drop_path(probability).is_some() => Ok(()),
        Some((name, _)) => Err(usage(format!("--drop-path {probability}: {name} has no residual branches"))),
        None => Err(usage(format!("--drop-path {probability}: this program has a model of its own; leave it out"))),
    }
}

/// Refuses to tell layers apart where there are none.
fn layer_decay(cli: &TrainArgs, known: Option<(&str, &Network)>) -> anyhow::Result<()> {
    match (cli.optimization.layer_decay, known) {
        (Some(decay), Some((name, network))) if network.depths().iter().all(|&depth| depth == 0) => {
            Err(usage(format!("--layer-decay {decay}: {name} has no residual blocks to count")))
        }
        _ => Ok(()),
    }
}

/// Refuses to evaluate weights with BatchNorm's statistics of others.
fn schedule_free(cli: &TrainArgs, known: Option<(&str, &Network)>) -> anyhow::Result<()> {
    match known {
        Some((name, network))
            if cli.optimization.optimizer == OptimizerKind::AdamWScheduleFree && network.has_batch_norm() =>
        {
            Err(usage(format!(
                "--optimizer adamw-schedule-free: {name} has BatchNorm, whose statistics would be those of other weights than are \
                 evaluated; it is for networks with LayerNorm, or none"
            )))
        }
        _ => Ok(()),
    }
}
