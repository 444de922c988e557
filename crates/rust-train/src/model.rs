//! The model of a run: built, its weights in place, its gradients connected.

use backbones::{Backbone, WeightsError};
use tch::{Device, Kind, Tensor};
use torch_ext::{ProcessGroup, to_device};
use world::World;

use crate::cli::DistributeBn;
use crate::download;
use crate::failure::{agree, usage};
use crate::plan::Plan;
use crate::trainable::Model;

/// Mean and standard deviation of ImageNet's pixels, red, green and blue, in 0–1.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Builds the model and loads its weights, if some are named. Collective.
pub(crate) fn build(world: &World, plan: &Plan, classes: usize, device: Device) -> anyhow::Result<Backbone> {
    let backbone = Backbone::new(plan.architecture.network(classes), device);
    if let Some((request, store)) = &plan.weights {
        let path = download::fetch_once(world, store, request)?;
        let loaded = backbone.load(&path, plan.matching);
        let differences = agree(world, loaded.map_err(|error| usage(refused(&error))))?;
        if world.rank() == 0 {
            log::info!("weights from {}", path.display());
            if !differences.is_empty() {
                log::info!("drawn anew, because the weights do not fit:\n{differences}");
            }
        }
    }
    Ok(backbone)
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

/// What a batch is to be recognized as.
#[derive(Debug)]
pub(crate) struct Targets {
    labels: Tensor,
    /// The labels of the pictures that were mixed in, and the share of the first ones.
    mixed: Option<(Tensor, f64)>,
}

impl Targets {
    /// Mean cross-entropy of `logits`, those of the pictures from number `start` on.
    pub(crate) fn loss(&self, logits: &Tensor, start: i64) -> Tensor {
        let part = |labels: &Tensor| labels.narrow(0, start, logits.size()[0]);
        let loss = logits.cross_entropy_for_logits(&part(&self.labels));
        match &self.mixed {
            None => loss,
            Some((labels, share)) => loss * *share + logits.cross_entropy_for_logits(&part(labels)) * (1.0 - share),
        }
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
    #[test]
    fn a_mixed_batch_has_two_losses() {
        let logits = Tensor::from_slice(&[2.0f32, 0.0, -1.0, 0.5, 1.0, 0.0]).view([2, 3]);
        let targets = |labels: &[i64], mixed: Option<(&[i64], f64)>| Targets {
            labels: Tensor::from_slice(labels),
            mixed: mixed.map(|(labels, share)| (Tensor::from_slice(labels), share)),
        };
        let loss = |targets: Targets| targets.loss(&logits, 0).double_value(&[]);
        let (first, second) = (loss(targets(&[0, 1], None)), loss(targets(&[1, 2], None)));
        let mixed = loss(targets(&[0, 1], Some((&[1, 2], 0.3))));
        assert!((mixed - (0.3 * first + 0.7 * second)).abs() < 1e-6);
    }
}
