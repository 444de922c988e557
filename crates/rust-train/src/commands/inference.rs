//! Images to logits, for `eval` and `predict`: a model with its weights in place, folded for inference.

use std::path::Path;

use architectures::{Architecture, architecture};
use backbones::Backbone;
use dataset::{Decoder, Decoding};
use flags::{InferenceArgs, ModelArgs};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};
use world::World;

use crate::config::plan::MOST;
use crate::config::weights;
use crate::data::normalize::Normalize;
use crate::distributed::download::fetch_once;
use crate::errors::{agree, to_failure, usage};
use crate::machine::device;

/// A model that is ready to look at images.
#[derive(Debug)]
pub(crate) struct Predictor {
    backbone: Backbone,
    normalize: Normalize,
    /// The names of the classes, or their numbers.
    pub classes: Vec<String>,
    /// To which side images are scaled, and which side the network sees.
    resize: usize,
    side: usize,
    pub batch: usize,
}

impl Predictor {
    /// Gets weights and device as the flags say. The number of classes is that of the weights. Collective.
    pub(crate) fn new(world: &World, model: &ModelArgs, inference: &InferenceArgs) -> anyhow::Result<Self> {
        let plan = agree(world, Plan::new(model, inference))?;
        let device = agree(world, device::select(&plan.device, world))?;
        let path = fetch_once(world, &plan.weights.1, &plan.weights.0)?;
        let backbone = agree(world, load(&plan.architecture, &path, device))?;
        let classes = agree(world, class_names(inference.classes.as_deref(), backbone.network().classes()))?;
        Ok(Self {
            backbone: backbone.folded(),
            normalize: Normalize::new(device),
            classes,
            resize: plan.resize,
            side: plan.side,
            batch: inference.batch,
        })
    }

    /// The image in `file` as the network sees it, small; `None` where it cannot be read.
    pub(crate) fn thumbnail(&self, file: &Path) -> Option<String> {
        let mut pixels = vec![0; self.side * self.side * 3];
        Decoder::new(Decoding::default()).center_crop_file(file, self.resize, self.side, &mut pixels).ok()?;
        report::thumbnail(&pixels, self.side)
    }

    /// The logits of the images in `files`, files×classes, in single precision on the CPU.
    pub(crate) fn logits(&self, files: &[impl AsRef<Path> + Sync]) -> anyhow::Result<Tensor> {
        let (resize, side) = (self.resize, self.side);
        let size = side * side * 3;
        let mut pixels = vec![0; files.len() * size];
        let decoder = || Decoder::new(Decoding::default());
        pixels.par_chunks_mut(size).zip(files).try_for_each_init(decoder, |decoder, (out, file)| {
            let path = file.as_ref();
            let decoded = decoder.center_crop_file(path, resize, side, out);
            decoded.map_err(|reason| usage(format!("{}: {reason}", path.display())))
        })?;
        let labels = vec![0; files.len()];
        let batch = dataset::Batch { pixels: pixels.into(), labels, mixed: None, side: self.side };
        let images = self.normalize.images(&batch)?;
        Ok(tch::no_grad(|| self.backbone.forward(&images, false).to_kind(Kind::Float).to_device(Device::Cpu)))
    }
}

/// The flags, validated.
#[derive(Debug)]
struct Plan {
    architecture: Architecture,
    weights: (fetch::Request, fetch::Store),
    side: usize,
    resize: usize,
    device: layout::DeviceRequest,
}

impl Plan {
    fn new(model: &ModelArgs, inference: &InferenceArgs) -> anyhow::Result<Self> {
        let architecture = architecture(&model.model).map_err(|error| usage(format!("--model: {error}")))?;
        let weights = weights::of_model(&architecture, model)?
            .ok_or_else(|| usage("--weights or --pretrained: a network without weights knows nothing"))?;
        let side = model.image_size.unwrap_or(architecture.image_size);
        architecture.network(1).shapes(side, side).map_err(|error| usage(format!("--image-size: {error}")))?;
        let published = architecture.published.filter(|_| model.pretrained && model.image_size.is_none());
        let resize = inference.resize.unwrap_or(published.map_or(side, |published| published.resize));
        if resize < side {
            return Err(usage(format!("--resize {resize}: must be at least the {side} pixels that the network sees")));
        }
        if !(1..=MOST).contains(&inference.batch) {
            return Err(usage(format!("--batch {}: must be between 1 and {MOST}", inference.batch)));
        }
        let device = inference.device.parse().map_err(|error| usage(format!("--device: {error}")))?;
        Ok(Self { architecture, weights, side, resize, device })
    }
}

/// The network with the weights in `path`, and as many classes as they have.
pub(crate) fn load(architecture: &Architecture, path: &Path, device: Device) -> anyhow::Result<Backbone> {
    Backbone::of_weights(architecture, path, device).map_err(|error| usage(format!("--weights: {error:#}")))
}

fn class_names(file: Option<&Path>, count: usize) -> anyhow::Result<Vec<String>> {
    let Some(file) = file else { return Ok((0..count).map(|class| class.to_string()).collect()) };
    let names = dataset::read_classes(file)?;
    if names.len() == count {
        Ok(names)
    } else {
        let (named, file) = (names.len(), file.display());
        Err(usage(format!("--classes {file}: names {named} classes, and the weights tell {count} apart")))
    }
}

/// Refuses a job of several ranks for what one rank does. Collective.
pub(crate) fn one_rank(world: &World, what: &str) -> anyhow::Result<()> {
    let alone = if world.size() == 1 { Ok(()) } else { Err(usage(format!("{what}: is for a run of one rank"))) };
    agree(world, alone)
}

/// What `list` gives on rank 0, on every rank: a folder is listed once. Collective.
pub(crate) fn list<T: serde::Serialize + serde::de::DeserializeOwned>(
    world: &World,
    list: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let bytes = world.from_rank_zero("listing the images", || {
        let list = list().map_err(|error| to_failure(&error))?;
        serde_json::to_vec(&list).map_err(world::Failure::new)
    })?;
    Ok(serde_json::from_slice(&bytes)?)
}
