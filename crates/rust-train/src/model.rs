//! The model of a run: built, its weights in place, its gradients connected.

use std::path::Path;

use anyhow::{Context, anyhow};
use architectures::Architecture;
use backbones::{Backbone, Matching, WeightsError};
use tch::{Device, Kind, Tensor};
use torch_ext::{ProcessGroup, to_device};
use world::World;

use crate::cli::DistributeBn;
use crate::failure::{agree, usage};
use crate::loss::Targets;
use crate::plan::Plan;
use crate::trainable::{Model, OwnModel, Setting};
use crate::{checkpoint, download};

/// Mean and standard deviation of ImageNet's pixels, red, green and blue, in 0–1.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Builds the model of the plan, or the caller's `own`, and loads its weights, if some are named. Collective.
pub(crate) fn build(
    world: &World,
    plan: &Plan,
    own: Option<&OwnModel>,
    setting: &Setting,
) -> anyhow::Result<Box<dyn Model>> {
    let path = match &plan.weights {
        Some((request, store)) => Some(download::fetch_once(world, store, request)?),
        None => None,
    };
    if let (Some(path), 0) = (&path, world.rank()) {
        log::info!("weights from {}", path.display());
    }
    let model = match (&plan.architecture, own) {
        (Some(architecture), _) => {
            of_catalogue(architecture, setting, path.as_deref(), plan.matching, world.rank() == 0)
        }
        (None, Some(own)) => build_own(own, setting, path.as_deref()),
        (None, None) => Err(anyhow!("there is no model")),
    };
    agree(world, model)
}

fn of_catalogue(
    architecture: &Architecture,
    setting: &Setting,
    weights: Option<&Path>,
    matching: Matching,
    speaks: bool,
) -> anyhow::Result<Box<dyn Model>> {
    let backbone = Backbone::new(architecture.network(setting.classes), setting.device);
    if let Some(path) = weights {
        let differences = backbone.load(path, matching).map_err(|error| usage(refused(&error)))?;
        if speaks && !differences.is_empty() {
            log::info!("drawn anew, because the weights do not fit:\n{differences}");
        }
    }
    Ok(Box::new(backbone))
}

fn build_own(own: &OwnModel, setting: &Setting, weights: Option<&Path>) -> anyhow::Result<Box<dyn Model>> {
    let model = (own.build)(setting).with_context(|| format!("building {}", own.name))?;
    if let Some(path) = weights {
        let found = weights::read(path).map_err(|error| usage(format!("--weights: {error}")))?;
        let restored = checkpoint::restore(&model.state(), &found.into_entries());
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

/// Makes the running statistics of BatchNorm the same on all ranks, so that every rank evaluates, and rank 0 saves, the
/// same model. Collective.
pub(crate) fn distribute_buffers(model: &dyn Model, group: &ProcessGroup, how: DistributeBn) -> torch_ext::Result<()> {
    let buffers: Vec<_> = model.buffers().into_iter().map(|(_, tensor)| tensor).collect();
    match how {
        DistributeBn::Average => group.average(&buffers),
        DistributeBn::Broadcast => group.broadcast(&buffers, 0),
    }
}

/// Bytes N×side×side×3 to normalized pictures N×3×side×side on a device.
#[derive(Debug)]
pub(crate) struct Normalize {
    scale: Tensor,
    shift: Tensor,
    device: Device,
}

impl Normalize {
    pub(crate) fn new(device: Device) -> Self {
        let scale: Vec<_> = STD.iter().map(|std| (1.0 / (255.0 * std)) as f32).collect();
        let shift: Vec<_> = MEAN.iter().zip(STD).map(|(mean, std)| (-mean / std) as f32).collect();
        let channels = |values: &[f32]| Tensor::from_slice(values).view([1, 3, 1, 1]).to_device(device);
        Self { scale: channels(&scale), shift: channels(&shift), device }
    }

    pub(crate) fn pictures(&self, batch: &dataset::Batch) -> torch_ext::Result<Tensor> {
        let side = batch.side as i64;
        let bytes = to_device(&batch.pixels, &[batch.len() as i64, side, side, 3], self.device)?;
        let pictures = bytes.permute([0, 3, 1, 2]).to_kind(Kind::Float);
        Ok((pictures * &self.scale + &self.shift).contiguous())
    }

    pub(crate) fn labels(&self, labels: &[i64]) -> Tensor {
        Tensor::from_slice(labels).to_device(self.device)
    }

    pub(crate) fn targets(&self, batch: &dataset::Batch) -> Targets {
        let mixed = batch.mixed.as_ref().map(|mixed| (self.labels(&mixed.labels), mixed.share));
        Targets { labels: self.labels(&batch.labels), mixed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_normalized_channels() {
        let batch = dataset::Batch { pixels: [0, 127, 255].repeat(4).into(), labels: vec![3], mixed: None, side: 2 };
        let pictures = Normalize::new(Device::Cpu).pictures(&batch).unwrap();
        assert_eq!(pictures.size(), [1, 3, 2, 2]);
        for (channel, value) in [0.0, 127.0, 255.0].into_iter().enumerate() {
            let expected = (value / 255.0 - MEAN[channel]) / STD[channel];
            let got = pictures.double_value(&[0, channel as i64, 1, 1]);
            assert!((got - expected).abs() < 1e-5, "channel {channel}: {got}");
        }
    }
}
