//! The model of a run: built, its weights in place, its gradients connected.

use std::path::Path;

use anyhow::{Context, anyhow};
use architectures::Architecture;
use backbones::{Backbone, Matching, WeightsError};
use world::World;

use crate::config::plan::Plan;
use crate::errors::{agree, usage};
use crate::model::tensors::restore;
use crate::model::{BuildContext, Model, OwnModel};

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
    let model = match (&plan.architecture, own) {
        (Some(architecture), _) => of_catalogue(architecture, context, weights, plan.matching, world.rank() == 0),
        (None, Some(own)) => build_own(own, context, weights),
        (None, None) => Err(anyhow!("there is no model")),
    };
    agree(world, model)
}

fn of_catalogue(
    architecture: &Architecture,
    context: &BuildContext,
    weights: Option<&Path>,
    matching: Matching,
    speaks: bool,
) -> anyhow::Result<Box<dyn Model>> {
    let backbone = Backbone::new(architecture.network(context.outputs), context.device);
    if let Some(path) = weights {
        let differences = backbone.load(path, matching).map_err(|error| usage(refused(&error)))?;
        if speaks && !differences.is_empty() {
            log::info!("reinitialized, because the weights do not fit:\n{differences}");
        }
    }
    Ok(Box::new(backbone))
}

fn build_own(own: &OwnModel, context: &BuildContext, weights: Option<&Path>) -> anyhow::Result<Box<dyn Model>> {
    let model = (own.build)(context).with_context(|| format!("building {}", own.network.name))?;
    if let Some(path) = weights {
        let found = weights::read(path).map_err(|error| usage(format!("--weights: {error}")))?;
        let restored = restore(&model.state(), &found.into_entries());
        restored.map_err(|error| usage(format!("--weights {}: {error:#}", path.display())))?;
    }
    Ok(model)
}

/// What is wrong with weights, and what to do if it is only the head.
fn refused(error: &WeightsError) -> String {
    let hint = match error {
        WeightsError::Misfit { is_head_alone: true, .. } => "\nfor another number of classes: --weights-match head",
        _ => "",
    };
    format!("--weights: {error:#}{hint}")
}
