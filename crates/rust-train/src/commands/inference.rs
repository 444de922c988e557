//! What `eval`, `predict` and `export` begin with: weights, what is known of them, and the network that they belong to.
//!
//! ```text
//! RUN, --weights, --pretrained ─> which file (run/model_file) ─> fetched ─> its model card ─┬─> Known: network, images,
//!                                                       flags, which win, and are said ─────┘   classes, numerics
//! ```

use std::path::{Path, PathBuf};

use architectures::{Architecture, Tells, architecture};
use backbones::{Backbone, channels_of, fitting, network_of};
use clap::ValueEnum;
use dataset::{Normalization, PixelFormat};
use flags::{ImageArgs, ModelArgs, PrecisionKind};
use model_card::{CLASSIFICATION, ImageInput, ModelCard, PixelKind, SEGMENTATION};
use serde::Serialize;
use tch::{Device, Tensor};
use torch_ext::{MemoryFormat, Precision, set_memory_format};
use weights::StateDict;
use world::World;

use crate::config::bounds::MOST;
use crate::config::images::{axes, members_of_plan, on_nan};
use crate::config::plan::precision;
use crate::config::preprocessing::{Preprocessing, refuse_values};
use crate::config::recipe::PLAN_FILE;
use crate::config::weights as request;
use crate::distributed::hub::fetch_weights;
use crate::errors::{agree, to_failure, usage};
use crate::machine::device;
use crate::model::card;
use crate::model::found;
use crate::model::numerics::Numerics;
use crate::model::side_by_side::SideBySide;
use crate::run::model_file;

/// A model with its weights in place, and what must be known to use it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub backbone: Backbone,
    /// What is known of the weights, after the flags.
    pub card: ModelCard,
    /// What images were made of, if the card says it.
    pub format: Option<PixelFormat>,
    /// The names of the classes, or their numbers.
    pub classes: Vec<String>,
    pub preprocessing: Preprocessing,
    pub numerics: Numerics,
    /// The folder of the run that they are of.
    pub run: Option<PathBuf>,
}

impl Loaded {
    /// Gets the weights that `run` or the flags name, the card that they carry, and the network that they belong to, onto
    /// `device`. What the flags say otherwise than the card, and what had to be assumed without one, is said. Collective.
    pub(crate) fn new(world: &World, run: Option<&str>, args: &ModelArgs, device: Device) -> anyhow::Result<Self> {
        let named = args.model.as_deref().map(architecture).transpose();
        let named = agree(world, named.map_err(|error| usage(format!("--model: {error}"))))?;
        let source = run.or(args.weights.as_deref());
        let version = agree(world, request::version("--weights", source, named.as_ref()))?;
        // What torchvision publishes is of one network, and says nothing of it.
        let named = match &version {
            Some(version) => architecture(version.network).ok().map(|known| known.of_version(version)),
            None => named,
        };
        let request = request::of_flags(
            args.model.as_deref(),
            named.as_ref(),
            source,
            args.weights_sha256.as_deref(),
            args.pretrained,
            &args.store,
        );
        let none = "which weights? Name the folder of a run, a file with --weights, or --pretrained";
        let (mut request, store) = agree(world, request.and_then(|request| request.ok_or_else(|| usage(none))))?;
        let run = model_file::locate(world, &mut request)?;
        let path = fetch_weights(world, &store, &request)?;
        let wanted = found::wanted(args.weights_key.as_deref(), args.weights_prefix.as_deref());
        let found = agree(world, found::read(&path, &wanted))?;
        let card = card_of(world, &path, &found, run.as_deref())?;
        let known = Known::new(named, card, found, &path, args, args.pretrained || version.is_some());
        let mut known = agree(world, known)?;
        let said = std::mem::take(&mut known.said);
        let loaded = agree(world, known.load(&path, device))?;
        if world.rank() == 0 {
            said.iter().for_each(|line| log::warn!("{line}"));
        }
        Ok(Self { run, ..loaded })
    }
}

/// The card of the weights that were `found` in the file `path`; where they have none, what the plan of the `run` says that
/// they are of. Collective: rank 0 looks.
fn card_of(world: &World, path: &Path, found: &StateDict, run: Option<&Path>) -> anyhow::Result<Option<ModelCard>> {
    let bytes = world.from_rank_zero("reading the model card", || {
        let card = card::of_file(path, found.metadata()).map_err(|error| to_failure(&error))?;
        let card = card.or_else(|| {
            let run = run?;
            let card = card::of_run(run)?;
            log::info!("{} has no model card; what {} says is taken", path.display(), run.join(PLAN_FILE).display());
            Some(card)
        });
        Ok(card.map(|card| card.to_json()).unwrap_or_default().into_bytes())
    })?;
    let text = String::from_utf8(bytes)?;
    if text.is_empty() { Ok(None) } else { Ok(Some(ModelCard::parse(&text)?)) }
}

/// What is known of weights before their network is built.
struct Known {
    architecture: Architecture,
    card: ModelCard,
    format: Option<PixelFormat>,
    preprocessing: Preprocessing,
    found: StateDict,
    /// What the flags say otherwise than the card, or what had to be assumed.
    said: Vec<String>,
}

impl Known {
    fn new(
        named: Option<Architecture>,
        card: Option<ModelCard>,
        found: StateDict,
        path: &Path,
        args: &ModelArgs,
        is_published: bool,
    ) -> anyhow::Result<Self> {
        let shown = path.display();
        let (architecture, assumed_network) = network(named, card.as_ref(), &found, path)?;
        let (found, prefix) = found::rooted(&architecture, found, path)?;
        if args.images.normalize.is_some() {
            return Err(usage(
                "--normalize: is for training; weights are evaluated as their model card says, or by --mean and --std",
            ));
        }
        let mut published = Preprocessing::published(&architecture);
        let channels = channels_of(&architecture, &found);
        if channels != published.normalization.mean.len() {
            published.normalization = Normalization { mean: vec![0.0; channels], std: vec![1.0; channels] };
        }
        let base = card.as_ref().map_or(published, |card| {
            let mut base = Preprocessing::of_card(&card.images);
            // What files hold is read as the run read it.
            let members = members_of_plan(&card.plan);
            (base.decoding.on_nan, base.decoding.axes) = (on_nan(&members), axes(&members));
            base
        });
        if args.images.exif_orientation == Some(true) && base.decoding.numbers.is_some() {
            return Err(usage("--exif-orientation: is for images that are read as RGB, and the weights are of others"));
        }
        let preprocessing = base.with(&args.images)?;
        let format = card.as_ref().map(|card| match card.images.pixels {
            PixelKind::Rgb8 => PixelFormat::Rgb8,
            PixelKind::Planes => PixelFormat::Planes { channels: card.images.channels },
        });
        refuse_values(&args.images, format == Some(PixelFormat::Rgb8))?;
        let size = preprocessing.size;
        network_of(&architecture, &found, 1)
            .shapes(size, size)
            .map_err(|error| usage(format!("--image-size: {error}")))?;
        let named_classes = args.classes.as_deref().map(dataset::read_classes).transpose()?;
        let mut said: Vec<String> = prefix.into_iter().collect();
        let card = match card {
            Some(mut card) => {
                let contradicted =
                    contradictions(&card, &architecture, &base, &preprocessing, named_classes.as_deref());
                if !contradicted.is_empty() {
                    card.scores = None; // they are of what the card says
                }
                said.extend(contradicted);
                architecture.name.clone_into(&mut card.network);
                card.images =
                    ImageInput { pixels: card.images.pixels, channels: card.images.channels, ..preprocessing.card() };
                card.classes = named_classes.unwrap_or(card.classes);
                card
            }
            None => {
                if !is_published {
                    let names = named_classes.is_some();
                    let assumed = assumptions(assumed_network, &preprocessing, &args.images, names);
                    if !assumed.is_empty() {
                        said.push(format!("{shown} has no model card; assumed: {}", assumed.join(", ")));
                    }
                }
                let classes = named_classes.unwrap_or_default();
                let pixels = if channels == 3 { PixelKind::Rgb8 } else { PixelKind::Planes };
                let images = ImageInput { pixels, channels, ..preprocessing.card() };
                let task = if architecture.tells == Tells::Masks { SEGMENTATION } else { CLASSIFICATION };
                ModelCard::new(task, architecture.name, classes, images)
            }
        };
        Ok(Self { architecture, card, format, preprocessing, found, said })
    }

    fn load(self, path: &Path, device: Device) -> anyhow::Result<Loaded> {
        let Self { architecture, card, format, preprocessing, found, .. } = self;
        let backbone = Backbone::of_state_dict(&architecture, found.clone(), path, device);
        let backbone = backbone.map_err(|error| {
            let names: Vec<_> = fitting(&found).iter().map(|known| known.name).collect();
            let hint =
                if names.is_empty() { String::new() } else { format!("\nthey fit --model {}", names.join(", ")) };
            usage(format!("--weights: {error:#}{hint}"))
        })?;
        let count = backbone.network().classes();
        let classes = match card.classes.len() {
            0 => (0..count).map(|class| class.to_string()).collect(),
            names if names == count => card.classes.clone(),
            names => {
                return Err(usage(format!("--classes: {names} names, and the weights tell {count} classes apart")));
            }
        };
        let numerics = numerics(&card, device);
        let tensors: Vec<_> = backbone.state().into_iter().map(|(_, tensor)| tensor).collect();
        set_memory_format(&tensors, numerics.memory_format)?;
        Ok(Loaded { backbone, card, format, classes, preprocessing, numerics, run: None })
    }
}

/// The network that the weights belong to, and how that was found out if nobody says it.
fn network(
    named: Option<Architecture>,
    card: Option<&ModelCard>,
    found: &StateDict,
    path: &Path,
) -> anyhow::Result<(Architecture, Option<&'static str>)> {
    let shown = path.display();
    if let Some(card) = card.filter(|card| card.is_of_own_program()) {
        return Err(usage(format!(
            "{shown}: was trained by a program of its own for the task '{}'; evaluate it there, with --eval-only",
            card.task
        )));
    }
    if let Some(named) = named {
        return Ok((named, None));
    }
    if let Some(card) = card {
        let known = architecture(&card.network);
        return known.map(|known| (known, None)).map_err(|_| {
            usage(format!(
                "{shown}: is of {}, a network that this program does not know; a program of its own has trained it",
                card.network
            ))
        });
    }
    match fitting(found)[..] {
        [one] => Ok((*one, Some(one.name))),
        [] => Err(usage(format!(
            "--model: {shown} has no model card, and fits none of the networks that this program knows; if it is of one of \
             them, name it: what does not fit is shown then"
        ))),
        ref several => {
            let names: Vec<_> = several.iter().map(|known| known.name).collect();
            Err(usage(format!("--model: {shown} has no model card, and fits several networks: {}", names.join(", "))))
        }
    }
}

/// What the flags say otherwise than the card, a line each.
fn contradictions(
    card: &ModelCard,
    architecture: &Architecture,
    base: &Preprocessing,
    now: &Preprocessing,
    classes: Option<&[String]>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut differ = |flag: &str, said: String, known: String| {
        if said != known {
            lines.push(format!("{flag} {said}: the model card says {known}; the flag wins"));
        }
    };
    let size = |size: usize| format!("{size}");
    differ("--model", architecture.name.to_owned(), card.network.clone());
    differ("--image-size", size(now.size), size(base.size));
    if now.size == base.size {
        differ("--resize", size(now.resize), size(base.resize));
    }
    let resample = |preprocessing: &Preprocessing| preprocessing.decoding.resample.name().to_owned();
    differ("--resample", resample(now), resample(base));
    let exif = |preprocessing: &Preprocessing| preprocessing.decoding.exif_orientation.to_string();
    differ("--exif-orientation", exif(now), exif(base));
    let channels = |values: &[f64]| flags::ChannelValues::Of(values.to_vec()).to_string();
    differ("--mean", channels(&now.normalization.mean), channels(&base.normalization.mean));
    differ("--std", channels(&now.normalization.std), channels(&base.normalization.std));
    if let Some(names) = classes.filter(|names| !card.classes.is_empty() && *names != card.classes) {
        differ("--classes", format!("of {} names", names.len()), "other names, or another order".to_owned());
    }
    lines
}

/// What had to be assumed of weights without a card.
fn assumptions(network: Option<&str>, preprocessing: &Preprocessing, args: &ImageArgs, has_names: bool) -> Vec<String> {
    let network = network.map(|name| format!("{name}, the only network that they fit"));
    let is_all_given = (args.image_size.is_some() || args.crop.is_some())
        && args.resize.is_some()
        && args.resample.is_some()
        && args.exif_orientation.is_some()
        && args.mean.is_some()
        && args.std.is_some();
    let images = (!is_all_given).then(|| preprocessing.words());
    let classes = (!has_names).then(|| "classes by their numbers".to_owned());
    network.into_iter().chain(images).chain(classes).collect()
}

/// How the run computed, so that the same scores come out.
fn numerics(card: &ModelCard, device: Device) -> Numerics {
    let of_plan = |name: &str| card.plan.get(name);
    let kind = of_plan("precision").and_then(|value| PrecisionKind::from_str(value.as_str()?, true).ok());
    let is_channels_last = of_plan("channels-last").and_then(serde_json::Value::as_bool).unwrap_or(false);
    Numerics {
        device,
        precision: kind.map_or(Precision::Single, precision),
        memory_format: if is_channels_last { MemoryFormat::ChannelsLast } else { MemoryFormat::Contiguous },
    }
}

/// What gives the outputs of normalized images.
type Evaluator = Box<dyn Fn(&Tensor) -> anyhow::Result<Vec<Tensor>>>;

/// Gives the logits of normalized images, in single precision; with `mirrors` their mean over each image and its mirror image. On the
/// CPU with so many `threads`, to the same bits whatever their number.
pub(crate) fn evaluator(
    backbone: &Backbone,
    numerics: Numerics,
    threads: usize,
    mirrors: bool,
) -> anyhow::Result<Evaluator> {
    let forward = plain_evaluator(backbone, numerics, threads)?;
    Ok(if mirrors { Box::new(move |images| with_mirror_images(&forward, images)) } else { forward })
}

/// The mean of the outputs for `images`, N×C×H×W, and for their mirror images; outputs of pixels are mirrored back.
fn with_mirror_images(forward: &Evaluator, images: &Tensor) -> anyhow::Result<Vec<Tensor>> {
    let (straight, mirrored) = (forward(images)?, forward(&images.flip([3]))?);
    let mean = |(straight, mirrored): (Tensor, Tensor)| {
        let mirrored = if mirrored.dim() == 4 { mirrored.flip([3]) } else { mirrored };
        (straight + mirrored) / 2.0
    };
    Ok(straight.into_iter().zip(mirrored).map(mean).collect())
}

fn plain_evaluator(backbone: &Backbone, numerics: Numerics, threads: usize) -> anyhow::Result<Evaluator> {
    let folded = backbone.folded();
    if numerics.device == Device::Cpu {
        let side_by_side = SideBySide::new(&folded, numerics, threads)?;
        return Ok(Box::new(move |images| Ok(vec![side_by_side.forward(images)?])));
    }
    Ok(Box::new(move |images| Ok(numerics.compute(images, |images| vec![folded.forward(images, false)])?)))
}

/// The device of this rank. Collective.
pub(crate) fn device_of(world: &World, flag: &str) -> anyhow::Result<Device> {
    let request = agree(world, flag.parse().map_err(|error| usage(format!("--device: {error}"))))?;
    agree(world, device::select(&request, 1, world))
}

pub(crate) fn refuse_batch(batch: usize) -> anyhow::Result<()> {
    if (1..=MOST).contains(&batch) {
        return Ok(());
    }
    Err(usage(format!("--batch {batch}: must be between 1 and {MOST}")))
}

/// Refuses a job of several ranks for what one rank does. Collective.
pub(crate) fn one_rank(world: &World, what: &str) -> anyhow::Result<()> {
    let alone = if world.size() == 1 { Ok(()) } else { Err(usage(format!("{what}: is for a run of one rank"))) };
    agree(world, alone)
}

/// What `list` gives on rank 0, on every rank: a folder is listed once. Collective.
pub(crate) fn list<T: Serialize + serde::de::DeserializeOwned>(
    world: &World,
    list: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let bytes = world.from_rank_zero("listing the images", || {
        let list = list().map_err(|error| to_failure(&error))?;
        serde_json::to_vec(&list).map_err(world::Failure::new)
    })?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn mirror_images_count_as_much_and_masks_are_mirrored_back() {
        // The left column of each image, and its pixels.
        let forward: Evaluator = Box::new(|images| Ok(vec![images.select(3, 0).flatten(1, -1), images * 1.0]));
        let images = Tensor::arange(2 * 3 * 2 * 4, (Kind::Float, Device::Cpu)).view([2, 3, 2, 4]);
        let outputs = with_mirror_images(&forward, &images).unwrap();
        let ends = (images.select(3, 0) + images.select(3, 3)).flatten(1, -1) / 2.0;
        assert!(outputs[0] == ends && outputs[1] == images);
    }
}
