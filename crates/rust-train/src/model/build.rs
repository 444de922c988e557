//! The model of a run: built, its weights in place, its gradients connected.

use std::path::Path;

use anyhow::{Context, anyhow};
use architectures::Architecture;
use backbones::{Backbone, WeightsError, fitting};
use flags::ChannelValues;
use model_card::ModelCard;
use weights::Wanted;
use world::World;

use crate::config::plan::Plan;
use crate::errors::{agree, usage};
use crate::model::tensors::restore;
use crate::model::{BuildContext, Model, OwnModel};
use crate::model::{card, found};

/// Builds the model of the plan, or the caller's `own`, and loads the file `weights`, if there is one. Collective.
pub(crate) fn build(
    world: &World,
    plan: &Plan,
    own: Option<&OwnModel>,
    weights: Option<&Path>,
    context: &BuildContext,
) -> anyhow::Result<Box<dyn Model>> {
    if let (Some(path), 0) = (weights, world.rank()) {
        log::info!("weights from {}", path.display());
    }
    let wanted = found::wanted(plan.flags.weights_key.as_deref(), plan.flags.weights_prefix.as_deref());
    let weights = weights.map(|path| (path, &wanted));
    let model = match (&plan.architecture, own) {
        (Some(architecture), _) => of_catalogue(architecture, plan, context, weights, world.rank() == 0),
        (None, Some(own)) => build_own(own, context, weights),
        (None, None) => Err(anyhow!("there is no model")),
    };
    agree(world, model)
}

/// Says where the weights were trained on images that were normalized otherwise than the plan's, which are known by now.
pub(crate) fn warn_of_other_normalization(plan: &Plan, path: &Path) {
    let Some(card) = read_card(path) else { return };
    let (known, now) = (card.images, plan.images.evaluation.card());
    if (&known.mean, &known.std) != (&now.mean, &now.std) {
        log::warn!(
            "the weights are of images normalized with mean {} and std {}; this run uses {} and {}",
            ChannelValues::Of(known.mean),
            ChannelValues::Of(known.std),
            ChannelValues::Of(now.mean),
            ChannelValues::Of(now.std),
        );
    }
}

/// The card of the weights in the file `path`, if they have one that can be read.
fn read_card(path: &Path) -> Option<ModelCard> {
    card::of_file(path, weights::read(path).ok()?.metadata()).ok()?
}

/// The networks that the weights in the file `path` can be of.
fn networks_of(path: &Path) -> Vec<String> {
    if let Some(card) = read_card(path) {
        return Some(card.network).filter(|name| architectures::architecture(name).is_ok()).into_iter().collect();
    }
    let fitting = weights::read(path).map(|found| fitting(&found)).unwrap_or_default();
    fitting.iter().map(|known| known.name.to_owned()).collect()
}

fn of_catalogue(
    architecture: &Architecture,
    plan: &Plan,
    context: &BuildContext,
    weights: Option<(&Path, &Wanted)>,
    speaks: bool,
) -> anyhow::Result<Box<dyn Model>> {
    let network = architecture.network_to_train(context.outputs, plan.flags.aux_loss);
    let network = network.with_channels(context.channels).with_image_side(context.image_size);
    let network = match plan.flags.drop_path {
        Some(probability) => network.with_drop_path(probability).context("there are no residual branches")?,
        None => network,
    };
    let backbone = Backbone::new(network, context.device);
    if let Some((path, wanted)) = weights {
        let (found, said) = found::rooted(architecture, found::read(path, wanted)?, path)?;
        if let (true, Some(said)) = (speaks, said) {
            log::info!("{said}");
        }
        let differences = backbone.load_found(found, path, plan.matching);
        let differences = differences.map_err(|error| usage(refused(&error, architecture, path)))?;
        for adapted in differences.adapted().iter().filter(|_| speaks) {
            log::info!("{adapted}");
        }
        if speaks && !differences.is_empty() {
            log::info!("reinitialized, because the weights do not fit:\n{differences}");
        }
    }
    Ok(Box::new(backbone))
}

fn build_own(
    own: &OwnModel,
    context: &BuildContext,
    weights: Option<(&Path, &Wanted)>,
) -> anyhow::Result<Box<dyn Model>> {
    let model = (own.build)(context).with_context(|| format!("building {}", own.network.name))?;
    if let Some((path, wanted)) = weights {
        let found = found::read(path, wanted)?;
        let restored = restore(&model.state(), &found.into_entries());
        restored.map_err(|error| usage(format!("--weights {}: {error:#}", path.display())))?;
    }
    Ok(model)
}

/// What is wrong with weights, and what to do if it is only the head, or if they are of another network.
fn refused(error: &WeightsError, architecture: &Architecture, path: &Path) -> String {
    let hint = match error {
        WeightsError::Misfit { is_head_alone: true, .. } => {
            "\nfor another number of classes: --weights-match head".to_owned()
        }
        WeightsError::Misfit { .. } => match networks_of(path).as_slice() {
            [] => String::new(),
            names if names.iter().any(|name| name == architecture.name) => String::new(),
            names => format!("\nthe weights are of {0}: --model {0}", names.join(" or ")),
        },
        WeightsError::File(_) => String::new(),
    };
    format!("--weights: {error:#}{hint}")
}
