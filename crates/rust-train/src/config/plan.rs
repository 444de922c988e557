//! Flags become validated values before any work starts. What is refused here costs nothing.

use std::path::PathBuf;
use std::time::Duration;

use architectures::{Architecture, PublishedVersion, architecture};
use backbones::Matching;
use dataset::{Augmentation, Crop, ImageSet, Mix, Normalization, Resample, Sampling};
use flags::{
    AugmentationArgs, Compression, Freeze, OptimizationArgs, OptimizerKind, PrecisionKind, ResampleKind, RunArgs,
    ScheduleKind, TrainArgs, WeightsMatch,
};
use layout::{BatchLayout, DeviceRequest};
use torch_ext::{DdpConfig, MemoryFormat, Precision};

use crate::config::batch;
use crate::config::bounds::{MOST, at_least, at_least_one, below_one};
use crate::config::distillation::Distillation;
use crate::config::features;
use crate::config::images::{Images, Source};
use crate::config::learning_rate::LearningRate;
use crate::config::network;
use crate::config::progressive_resize::ProgressiveResize;
use crate::config::recipe;
use crate::config::task;
use crate::config::weights;
use crate::errors::usage;

pub(crate) use flags::OnNan;

/// Everything that a run does, decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The flags, with a value for each one whose default follows from others. What is here under another name is of
    /// another type.
    pub flags: TrainArgs,
    pub images: Images,
    /// The network; `None` for a model of the caller's own.
    pub architecture: Option<Architecture>,
    /// The weights to start from, and where fetched files are kept.
    pub weights: Option<(fetch::Request, fetch::Store)>,
    /// How much of the network they must match.
    pub matching: Matching,
    /// What is not trained: everything but the head, for so many epochs (`usize::MAX`: all).
    pub frozen_epochs: usize,
    pub augmentation: Augmentation,
    /// How images grow, where they do.
    pub progressive_resize: Option<ProgressiveResize>,
    pub sampling: Sampling,
    /// How often each image comes in its batch.
    pub repeats: usize,
    pub batch: BatchLayout,
    /// The fewest images that may be computed together on one rank: two where BatchNorm has nothing else to take a
    /// variance of.
    pub least_micro_batch: usize,
    pub training: Training,
    /// What is learned from another model, if something is.
    pub distillation: Option<Distillation>,
    pub ddp: DdpConfig,
    /// Steps between two comparisons of the ranks' parameters.
    pub compare_replicas: Option<usize>,
    pub device: DeviceRequest,
    pub resume: Option<Resume>,
    pub watchdog: Option<Duration>,
}

/// What a program of the caller's own brings along.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own<'a> {
    /// A model, in the place of `--model`.
    pub network: Option<&'a OwnNetwork>,
    /// Images, in the place of `--data`: what they are called.
    pub data: Option<&'a str>,
    /// Another task than classification.
    pub task: Option<OwnTask>,
}

/// What is known of a task of the caller's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnTask {
    /// Whether it understands images that are mixed of two.
    pub takes_mixed_images: bool,
}

/// What is known of a model of the caller's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnNetwork {
    pub name: String,
    /// Height and width of the images that it is made for, in pixels.
    pub image_size: usize,
}

/// What a run goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Whatever there is.
    Auto,
    /// This run, or this checkpoint of one.
    From(PathBuf),
}

/// What of training is of another type than its flags, or follows from several.
#[derive(Clone, Debug)]
pub(crate) struct Training {
    pub learning_rate: LearningRate,
    pub nesterov: bool,
    /// Which average of the weights is evaluated and saved, if any.
    pub average: Option<Average>,
    pub precision: Precision,
    pub memory_format: MemoryFormat,
}

/// Which average of the weights is evaluated and saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Average {
    /// A moving one, with this decay.
    Moving(f64),
    /// The mean of the ends of this epoch, counted from 0, and those after it; before, what the weights are.
    Epochs { first: usize },
    /// That which the optimizer steps along.
    OfOptimizer,
}

impl Plan {
    /// Validates the flags for a job of `ranks`, which trains what the flags say or what is the caller's `own`.
    pub(crate) fn new(cli: &TrainArgs, ranks: usize, own: Own<'_>) -> anyhow::Result<Self> {
        if let Some(task) = own.task {
            task::refuse_classification(cli, task)?;
        }
        let architecture = match own.network {
            None => Some(architecture(&cli.model).map_err(|error| usage(format!("--model: {error}")))?),
            Some(_) => None,
        };
        if let Some(architecture) = &architecture {
            task::refuse_network(cli, architecture)?;
        }
        let version = weights::version("--weights", cli.weights.as_deref(), architecture.as_ref())?;
        let architecture = match &version {
            Some(version) => architecture.map(|known| known.of_version(version)),
            None => architecture,
        };
        let device = cli.device.parse().map_err(|error| usage(format!("--device: {error}")))?;
        let batch = batch::layout(cli, ranks)?;
        let source = Source::new(&cli.data, own.data)?;
        let images = match (&architecture, own.network) {
            (Some(architecture), _) => Images::new(&cli.data, cli.task.task, source, architecture)?,
            (None, own) => Images::of_size(&cli.data, cli.task.task, source, own.map_or(0, |own| own.image_size))?,
        };
        if !matches!(images.source, Source::File(_))
            && let Some(refused) = cli.augmentation.refused(true)
        {
            return Err(usage(refused));
        }
        let progressive_resize =
            ProgressiveResize::new(&cli.augmentation, cli.epochs, images.image_size, architecture.as_ref())?;
        let frozen_epochs = match (cli.freeze, cli.freeze_epochs) {
            _ if cli.linear_probe => usize::MAX,
            (Freeze::None, None | Some(0)) => 0,
            (Freeze::None, Some(epochs)) => {
                return Err(usage(format!("--freeze-epochs {epochs}: nothing is frozen without --freeze backbone")));
            }
            (Freeze::Backbone, epochs) => epochs.unwrap_or(usize::MAX),
        };
        let weights_match = cli.weights_match.or(keeps_backbone(cli, version.as_ref()).then_some(WeightsMatch::Head));
        let matching = match weights_match {
            None | Some(WeightsMatch::Strict) => Matching::Strict,
            Some(WeightsMatch::Head) => Matching::Head,
            Some(WeightsMatch::Partial) => Matching::Partial,
        };
        network::refuse_flags(cli, architecture.as_ref())?;
        features::refuse_flags(cli, own.task.is_some())?;
        let training = training(cli)?;
        let least_micro_batch = match (&architecture, frozen_epochs) {
            (Some(architecture), ..usize::MAX) => {
                let sides = [Some(images.image_size), progressive_resize.map(|resize| resize.first)];
                batch::least_micro_batch(architecture, sides, &batch, cli)?
            }
            _ => 1, // unknown, or BatchNorm computes as in evaluation
        };
        let named = || architecture.map_or_else(|| cli.model.clone(), |known| known.name.to_owned()); // not by timm
        let model = own.network.map_or_else(named, |own| own.name.clone());
        let mut flags = resolved(cli, &model, &images, &training, progressive_resize.as_ref());
        flags.weights_match = weights_match;
        recipe::mathematics(&flags)?; // whoever needs it gets it
        eval_only(cli)?;
        task::refuse_flags(cli, own.task.is_some())?;
        Ok(Self {
            augmentation: augmentation(&cli.augmentation, &images)?,
            progressive_resize,
            sampling: if cli.augmentation.balanced { Sampling::Balanced } else { Sampling::Shuffled },
            repeats: batch::repeats(cli.augmentation.repeats, &batch)?,
            images,
            weights: weights(cli, architecture.as_ref())?,
            architecture,
            matching,
            frozen_epochs,
            batch,
            least_micro_batch,
            training,
            distillation: Distillation::new(cli, own.task.is_some())?,
            ddp: ddp(cli)?,
            compare_replicas: Some(cli.compare_replicas).filter(|&steps| steps > 0),
            device,
            resume: resume(&cli.run),
            watchdog: watchdog(&cli.run)?,
            flags,
        })
    }

    /// Every flag that decides about the result: what a run that goes on must have again.
    pub(crate) fn mathematics(&self) -> toml::Table {
        recipe::mathematics(&self.flags).expect("a plan has flags that TOML can hold")
    }

    /// The same with what is known when the data are: what their images are made of, and what these are normalized by.
    ///
    /// # Errors
    /// Flags that such images do not know.
    pub(crate) fn of_images(&self, images: &ImageSet, normalization: Normalization) -> anyhow::Result<Self> {
        let numbers = images.numbers();
        if let Some(refused) = self.flags.augmentation.refused(numbers.is_none()) {
            return Err(usage(refused));
        }
        let mut plan = self.clone();
        plan.images.evaluation.decoding.numbers = numbers;
        plan.images.evaluation.normalization = normalization;
        if let Some(masks) = &mut plan.images.masks {
            masks.values = images.mask_values().cloned();
        }
        plan.augmentation = augmentation(&plan.flags.augmentation, &plan.images)?;
        Ok(plan)
    }

    /// A short name of what is trained on what.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.images.source.name(), self.flags.model)
    }
}

fn eval_only(cli: &TrainArgs) -> anyhow::Result<()> {
    if cli.eval_only && cli.weights.is_none() && !cli.pretrained && cli.run.resume.is_none() {
        return Err(usage("--eval-only: of which model? Name it with --weights, --pretrained or --resume"));
    }
    Ok(())
}

fn resume(cli: &RunArgs) -> Option<Resume> {
    let path = cli.resume.clone()?;
    Some(if path.as_os_str() == "auto" { Resume::Auto } else { Resume::From(path) })
}

/// Whether weights are taken for what they have learned of images, whatever they tell apart: the head may be another.
fn keeps_backbone(cli: &TrainArgs, version: Option<&PublishedVersion>) -> bool {
    // A run that goes on is what it was, whatever is asked of it.
    let is_looked_at = cli.knn.is_some() && cli.run.resume.is_none();
    cli.pretrained || version.is_some() || cli.linear_probe || is_looked_at
}

/// How long a step may take; `None` for ever.
fn watchdog(cli: &RunArgs) -> anyhow::Result<Option<Duration>> {
    let watchdog = Duration::try_from_secs_f64(cli.watchdog).ok();
    let watchdog = watchdog.ok_or_else(|| usage(format!("--watchdog {}: is not a number of seconds", cli.watchdog)))?;
    if let Some(0) = cli.checkpoint_steps {
        return Err(usage("--checkpoint-steps: must be at least 1"));
    }
    at_least_one("--keep-checkpoints", cli.keep_checkpoints)?;
    at_least_one("--patience", cli.patience.unwrap_or(1))?;
    Ok((!watchdog.is_zero()).then_some(watchdog))
}

fn weights(
    cli: &TrainArgs,
    architecture: Option<&Architecture>,
) -> anyhow::Result<Option<(fetch::Request, fetch::Store)>> {
    let (model, file) = (Some(cli.model.as_str()), cli.weights.as_deref());
    weights::of_flags(model, architecture, file, cli.weights_sha256.as_deref(), cli.pretrained, &cli.store)
}

fn augmentation(cli: &AugmentationArgs, images: &Images) -> anyhow::Result<Augmentation> {
    let may_mirror = images.source != Source::Digits; // a mirrored digit is another character
    let within = |flag, value| flags::within(flag, value, 100.0).map_err(usage);
    Ok(Augmentation {
        crop: images.augmented_crop,
        changes: cli.changes(may_mirror, mean_colour(images)).map_err(usage)?,
        plane_changes: cli.plane_changes(may_mirror).map_err(usage)?,
        mix: Mix { mixup: within("--mixup", cli.mixup)?, cutmix: within("--cutmix", cli.cutmix)? },
    })
}

/// What normalization makes zero, where images have colours.
fn mean_colour(images: &Images) -> [f64; 3] {
    images.evaluation.normalization.mean.as_slice().try_into().unwrap_or_default()
}

fn ddp(cli: &TrainArgs) -> anyhow::Result<DdpConfig> {
    if !(1..=4096).contains(&cli.bucket_mb) {
        return Err(usage(format!("--bucket-mb {}: must be between 1 and 4096", cli.bucket_mb)));
    }
    let compression = match cli.compress_gradients {
        Compression::None => None,
        Compression::Bf16 => Some(tch::Kind::BFloat16),
        Compression::Fp16 => Some(tch::Kind::Half),
    };
    Ok(DdpConfig { bucket_bytes: cli.bucket_mb << 20, compression, ..DdpConfig::default() })
}

fn training(cli: &TrainArgs) -> anyhow::Result<Training> {
    let args = &cli.optimization;
    below_one("--momentum", args.momentum)?;
    let nesterov = nesterov(args)?;
    at_least("--weight-decay", args.weight_decay, 0.0)?;
    at_least("--backbone-lr-scale", args.backbone_lr_scale, 0.0)?;
    if let Some(decay) = args.layer_decay.filter(|decay| !(*decay > 0.0 && *decay <= 1.0)) {
        return Err(usage(format!("--layer-decay {decay}: must be above 0 and at most 1")));
    }
    at_least("--timeout", cli.timeout, 0.1)?;
    if let Some(norm) = args.clip_grad_norm
        && !(norm.is_finite() && norm > 0.0)
    {
        return Err(usage(format!("--clip-grad-norm {norm}: must be a number above 0")));
    }
    at_least_one("--epochs", cli.epochs)?;
    at_least_one("--max-steps", cli.max_steps.unwrap_or(1))?;
    if cli.epochs > MOST {
        return Err(usage(format!("--epochs {}: must be at most {MOST}", cli.epochs)));
    }
    at_least_one("--loader-threads", cli.loader_threads.unwrap_or(1))?;
    at_least_one("--ranks-per-device", cli.ranks_per_device)?;
    below_one("--label-smoothing", args.label_smoothing)?;
    Ok(Training {
        learning_rate: LearningRate::new(args, cli.epochs, cli.batch.images)?,
        nesterov,
        average: average(args, cli.epochs)?,
        precision: precision(cli.precision),
        memory_format: if cli.channels_last { MemoryFormat::ChannelsLast } else { MemoryFormat::Contiguous },
    })
}

fn average(args: &OptimizationArgs, epochs: usize) -> anyhow::Result<Option<Average>> {
    if args.optimizer == OptimizerKind::AdamWScheduleFree {
        return average_of_optimizer(args).map(Some);
    }
    let decay = args.ema.map(|decay| below_one("--ema", decay)).transpose()?.filter(|&decay| decay > 0.0);
    match (decay, args.swa.filter(|&last| last > 0)) {
        (Some(_), Some(last)) => {
            Err(usage(format!("--swa {last}: is another average than --ema's; leave one of them out")))
        }
        (_, Some(last)) if last > epochs => Err(usage(format!("--swa {last}: must be at most --epochs {epochs}"))),
        (_, Some(last)) => Ok(Some(Average::Epochs { first: epochs - last })),
        (decay, None) => Ok(decay.map(Average::Moving)),
    }
}

/// The average of schedule-free AdamW, which must be the only one, and needs a rate that stays up.
fn average_of_optimizer(args: &OptimizationArgs) -> anyhow::Result<Average> {
    let refuse = |what: &str| Err(usage(format!("--optimizer adamw-schedule-free: {what}")));
    match args {
        _ if args.schedule != ScheduleKind::Constant => {
            refuse("averages steps in the place of a schedule; add --schedule constant")
        }
        OptimizationArgs { ema: Some(_), .. } => refuse("evaluates an average of its own; leave --ema out"),
        OptimizationArgs { swa: Some(_), .. } => refuse("evaluates an average of its own; leave --swa out"),
        _ => Ok(Average::OfOptimizer),
    }
}

/// The precision that a flag names.
pub(crate) fn precision(kind: PrecisionKind) -> Precision {
    match kind {
        PrecisionKind::Fp32 => Precision::Single,
        PrecisionKind::Bf16 => Precision::BFloat16,
        PrecisionKind::Fp16 => Precision::Half,
    }
}

/// Whether momentum looks ahead: by default where the optimizer knows that and there is momentum. Where it was asked for
/// and cannot be had, this says so.
fn nesterov(args: &OptimizationArgs) -> anyhow::Result<bool> {
    let why_not = match args.optimizer {
        OptimizerKind::Sgd if args.momentum > 0.0 => return Ok(args.nesterov.unwrap_or(true)),
        OptimizerKind::Sgd => "without momentum there is nothing to look ahead along",
        OptimizerKind::Lars => "LARS has no such form",
        _ => "only SGD has this form of momentum",
    };
    match args.nesterov {
        Some(true) => Err(usage(format!("--nesterov true: {why_not}; leave it out"))),
        _ => Ok(false),
    }
}

/// The flags with a value for each one whose default follows from others.
fn resolved(
    cli: &TrainArgs,
    model: &str,
    images: &Images,
    training: &Training,
    progressive_resize: Option<&ProgressiveResize>,
) -> TrainArgs {
    let mut flags = cli.clone();
    flags.model = model.to_owned();
    flags.data.images.image_size = Some(images.image_size);
    flags.data.images.resample = Some(match images.evaluation.decoding.resample {
        Resample::Bilinear => ResampleKind::Bilinear,
        Resample::Bicubic => ResampleKind::Bicubic,
    });
    flags.data.images.exif_orientation = Some(images.evaluation.decoding.exif_orientation);
    flags.data.crop_padding = match images.augmented_crop {
        Crop::Padded { padding } => Some(padding),
        _ => None,
    };
    flags.optimization.warmup = Some(training.learning_rate.warmup_epochs);
    if cli.optimization.optimizer == OptimizerKind::Sgd && cli.optimization.momentum > 0.0 {
        flags.optimization.nesterov = Some(training.nesterov);
    }
    flags.augmentation.progressive_epochs = progressive_resize.map(|resize| resize.epochs);
    if cli.linear_probe {
        flags.epochs = 1;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    use flags::Cli;

    fn plan(flags: &str, ranks: usize) -> anyhow::Result<Plan> {
        let arguments = std::iter::once("rust-train").chain(flags.split_whitespace());
        Plan::new(&Cli::of(arguments).unwrap().train, ranks, Own::default())
    }

    #[test]
    fn sizes_follow_from_model_and_data() {
        let digits = plan("", 2).unwrap();
        let sizes = |plan: &Plan| (plan.images.image_size, plan.images.evaluation.resize);
        assert_eq!((sizes(&digits), digits.augmentation.changes.len()), ((8, 8), 0));
        assert_eq!(digits.augmentation.crop, Crop::Padded { padding: 1 });
        let cifar = plan("--data d", 1).unwrap();
        assert_eq!(sizes(&cifar), (32, 32));
        assert_eq!(cifar.augmentation.crop, Crop::Padded { padding: 4 });
        assert_eq!(format!("{:?}", cifar.augmentation.changes), "[HorizontalFlip]");
        let photos = plan("--data d --model resnet50 --no-flip", 1).unwrap();
        assert_eq!(sizes(&photos), (224, 256));
        assert_eq!((photos.augmentation.crop, photos.augmentation.changes.len()), (Crop::Resized { least: 0.08 }, 0));
    }

    #[test]
    fn the_learning_rate_follows_the_batch() {
        let peak = |flags: &str| plan(flags, 1).unwrap().training.learning_rate.peak;
        assert_eq!(peak("--lr 0.5 --batch 1024"), 0.5);
        assert_eq!(peak("--lr 0.5 --batch 1024 --lr-scaling linear"), 2.0);
        assert_eq!(peak("--lr 0.5 --batch 64 --lr-scaling linear --lr-reference-batch 128"), 0.25);
        assert_eq!(peak("--lr 0.001 --batch 1024 --lr-scaling sqrt"), 0.002);
    }

    #[test]
    fn published_weights_have_names_and_bring_the_size_of_their_images() {
        let told = |flags: &str| {
            let plan = plan(&format!("--data d {flags}"), 1).unwrap();
            let (request, _) = plan.weights.clone().unwrap();
            let file = request.source.to_string().rsplit('/').next().unwrap_or_default().to_owned();
            (file, plan.images.image_size, plan.matching)
        };
        let of = |file: &str, size| (file.to_owned(), size, Matching::Head);
        assert_eq!(told("--model resnet50 --pretrained"), of("resnet50-11ad3fa6.pth", 224));
        assert_eq!(told("--model resnet50 --weights IMAGENET1K_V1"), of("resnet50-0676ba61.pth", 224));
        let swag = "--model vit_b_16 --weights ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1";
        assert_eq!(told(swag), of("vit_b_16_swag-9ac1b537.pth", 384));
    }

    #[test]
    fn defaults_that_follow_from_others_are_in_the_flags() {
        let flags =
            plan("--data d --model resnet50 --pretrained --progressive-resize 128 --epochs 10", 1).unwrap().flags;
        assert_eq!((flags.data.images.image_size, flags.data.crop_padding), (Some(224), None));
        assert_eq!((flags.optimization.warmup, flags.weights_match), (Some(2.5), Some(WeightsMatch::Head)));
        assert_eq!(flags.augmentation.progressive_epochs, Some(8));
        let digits = plan("--schedule one-cycle", 1).unwrap().flags;
        assert_eq!((digits.data.images.image_size, digits.data.crop_padding), (Some(8), Some(1)));
        assert_eq!(digits.optimization.warmup, Some(6.0));
    }

    #[test]
    fn published_weights_are_found_by_the_networks_name() {
        let published = plan("--data d --model shufflenet_v2_x0_5 --pretrained --freeze backbone", 1).unwrap();
        let (request, _) = published.weights.unwrap();
        assert_eq!(request.source.to_string(), "https://download.pytorch.org/models/shufflenetv2_x0.5-f707e7126e.pth");
        assert_eq!((published.matching, published.frozen_epochs), (Matching::Head, usize::MAX));
        let own = plan("--data d --weights w.pth --freeze backbone --freeze-epochs 3", 1).unwrap();
        assert_eq!((own.matching, own.frozen_epochs), (Matching::Strict, 3));
        let partial = plan("--data d --weights w.pth --weights-match partial", 1).unwrap();
        assert_eq!((partial.matching, partial.frozen_epochs), (Matching::Partial, 0));
    }

    #[test]
    fn bad_flags_are_refused_in_one_line() {
        let cases = [
            ("--batch 64", 3, "--batch: a global batch of 64 cannot be shared evenly by 3 ranks"),
            ("--model resnet19", 1, "--model: no model is called 'resnet19'; did you mean resnet18? rust-train models"),
            ("--device gpu", 1, "--device: invalid device 'gpu' in 'gpu'"),
            ("--data d --image-size 2 --model lenet", 1, "--image-size: lenet cannot take images of 2×2 pixels"),
            ("--image-size 16", 1, "--image-size 16: the digits are 8×8 pixels"),
            ("--crop-padding 8", 1, "--crop-padding 8: must be less than the images' 8 pixels"),
            ("--epochs 0", 1, "--epochs: must be at least 1"),
            ("--epochs 18446744073709551615", 1, "--epochs 18446744073709551615: must be at most 4294967295"),
            ("--max-steps 0", 1, "--max-steps: must be at least 1"),
            ("--lr nan", 1, "--lr NaN: must be a number above 0"),
            ("--lr -0.1", 1, "--lr -0.1: must be a number above 0"),
            ("--lr 0", 1, "--lr 0: must be a number above 0; --eval-only scores a model and trains nothing"),
            ("--momentum 1.5", 1, "--momentum 1.5: must be a number of at least 0 and below 1"),
            ("--weight-decay -1e-4", 1, "--weight-decay -0.0001: must be a number of at least 0"),
            ("--clip-grad-norm -1", 1, "--clip-grad-norm -1: must be a number above 0"),
            ("--optimizer lars --nesterov true", 1, "--nesterov true: LARS has no such form; leave it out"),
            (
                "--optimizer adamw --nesterov true",
                1,
                "--nesterov true: only SGD has this form of momentum; leave it out",
            ),
            (
                "--momentum 0 --nesterov true",
                1,
                "--nesterov true: without momentum there is nothing to look ahead along",
            ),
            (
                "--data d --model resnet18 --image-size 32 --batch 4 --accumulate 4",
                1,
                "--batch 4: leaves BatchNorm one value a channel in training, whose variance is NaN: layer4.0.bn1 of resnet18 \
                 sees one pixel of each of 1 images of 32×32 pixels",
            ),
            (
                "--data d --model resnet18 --image-size 32 --batch auto:1",
                1,
                "--batch 1: leaves BatchNorm one value a channel",
            ),
            (
                "--data d --model resnet18 --progressive-resize 32 --image-size 224 --batch 2",
                2,
                "--batch 2: leaves BatchNorm one value a channel",
            ),
            ("--warmup -1", 1, "--warmup -1: must be a number of at least 0"),
            ("--min-lr 0.2", 1, "--min-lr 0.2: is more than the highest rate, 0.1"),
            ("--lr-step 0", 1, "--lr-step: must be at least 1"),
            ("--lr-reference-batch 0", 1, "--lr-reference-batch: must be at least 1"),
            ("--schedule multistep", 1, "--schedule multistep: needs its epochs, as in --lr-milestones 100,150"),
            ("--schedule one-cycle --warmup 21", 1, "--warmup 21: one-cycle has to come down again within 20 epochs"),
            ("--min-momentum 0.8", 1, "--min-momentum: only --schedule one-cycle changes the momentum"),
            (
                "--schedule one-cycle --min-momentum 0.95",
                1,
                "--min-momentum 0.95: must be above 0 and at most --momentum 0.9",
            ),
            ("--schedule polynomial --lr-power -1", 1, "--lr-power -1: must be a number of at least 0"),
            ("--schedule plateau --lr-gamma 1", 1, "--lr-gamma 1: must be below 1 for --schedule plateau"),
            ("--schedule warm-restarts --lr-restart 0", 1, "--lr-restart: must be at least 1"),
            ("--schedule warm-restarts --lr-restart-factor 0", 1, "--lr-restart-factor: must be at least 1"),
            ("--weight-decay-end nan", 1, "--weight-decay-end NaN: must be a number of at least 0"),
            (
                "--weight-decay 0 --weight-decay-end 0.1",
                1,
                "--weight-decay-end: there is no weight decay to begin with",
            ),
            (
                "--optimizer adafactor --schedule one-cycle --min-momentum 0.8",
                1,
                "--min-momentum: Adafactor has no momentum",
            ),
            ("--label-smoothing 1", 1, "--label-smoothing 1: must be a number of at least 0 and below 1"),
            ("--freeze-epochs 3", 1, "--freeze-epochs 3: nothing is frozen without --freeze backbone"),
            ("--progressive-epochs 3", 1, "--progressive-epochs 3: nothing grows without --progressive-resize"),
            ("--ema 0.9 --swa 3", 1, "--swa 3: is another average than --ema's"),
            ("--epochs 3 --swa 4", 1, "--swa 4: must be at most --epochs 3"),
            ("--ema nan", 1, "--ema NaN: must be a number of at least 0 and below 1"),
            ("--backbone-lr-scale -1", 1, "--backbone-lr-scale -1: must be a number of at least 0"),
            (
                "--data d --progressive-resize 64",
                1,
                "--progressive-resize 64: must be smaller than the images' 32 pixels",
            ),
            (
                "--data d --progressive-resize 16 --progressive-epochs 21",
                1,
                "--progressive-epochs 21: must be between 1 and 20",
            ),
            ("--timeout 0", 1, "--timeout 0: must be a number of at least 0.1"),
            ("--weights s3://bucket/w", 1, "--weights: invalid source 's3://bucket/w': unknown scheme"),
            (
                "--model resnet50 --weights IMAGENET1K_V3",
                1,
                "--weights IMAGENET1K_V3: torchvision's weights of resnet50 are IMAGENET1K_V1, IMAGENET1K_V2",
            ),
            (
                "--model resnet50 --weights ResNet18_Weights.DEFAULT",
                1,
                "--weights ResNet18_Weights.DEFAULT: is of resnet18; write --model resnet18",
            ),
            ("--pretrained --model lenet", 1, "--pretrained: no published weights of lenet are known"),
            ("--weights w --weights-sha256 xyz", 1, "--weights: invalid SHA-256 'xyz'"),
            ("--weights w --stall-timeout -1", 1, "--stall-timeout -1: must be a number of at least 0.1"),
            ("--batch 64 --accumulate 5", 2, "--batch: a global batch of 64 cannot be shared evenly"),
            ("--virtual-ranks 3", 1, "--virtual-ranks 3: must be a power of two"),
            ("--virtual-ranks 0", 1, "--virtual-ranks 0: must be a power of two"),
            ("--virtual-ranks 8", 3, "--virtual-ranks 8: 3 ranks cannot share them evenly along a binary tree; use 2"),
            ("--virtual-ranks 2", 4, "--virtual-ranks 2: 4 ranks cannot share them evenly along a binary tree; use 2"),
            (
                "--virtual-ranks 8 --batch 60",
                1,
                "--virtual-ranks 8: --batch 60 is no multiple of it; nearest that are: 56, 64",
            ),
            ("--virtual-ranks 8 --accumulate 2", 1, "--virtual-ranks 8: not with --accumulate: the parts are"),
            ("--virtual-ranks 8 --batch auto", 1, "--virtual-ranks 8: not with --batch auto: the parts"),
            ("--virtual-ranks 8 --sync-bn", 2, "--virtual-ranks 8: not with --sync-bn: BatchNorm sees"),
            ("--virtual-ranks 8 --compress-gradients bf16", 2, "--virtual-ranks 8: not with --compress-gradients:"),
            ("--bce-threshold 0.2", 1, "--bce-threshold 0.2: is for --loss bce"),
            ("--loss bce --bce-threshold 1", 1, "--bce-threshold 1: must be a number of at least 0 and below 1"),
            ("--loss bce --class-weights balanced", 1, "--class-weights balanced: --loss bce of one class an image"),
            ("--loss dice", 1, "--loss dice: --task classify does not know it; it has ce, bce"),
            ("--layer-decay 0", 1, "--layer-decay 0: must be above 0 and at most 1"),
            ("--layer-decay 0.5 --model lenet", 1, "--layer-decay 0.5: lenet has no residual blocks to count"),
            (
                "--optimizer adamw-schedule-free --model lenet",
                1,
                "--optimizer adamw-schedule-free: averages steps in the place of a schedule; add --schedule constant",
            ),
            (
                "--optimizer adamw-schedule-free --model lenet --schedule constant --ema 0.9",
                1,
                "--optimizer adamw-schedule-free: evaluates an average of its own; leave --ema out",
            ),
            (
                "--optimizer adamw-schedule-free --schedule constant",
                1,
                "--optimizer adamw-schedule-free: cifar_resnet20 has BatchNorm",
            ),
            ("--aux-loss --model resnet18", 1, "--aux-loss: resnet18 has no auxiliary heads"),
            (
                "--aux-loss --model googlenet --recompute blocks --data d",
                1,
                "--recompute blocks: not with --aux-loss: its heads look into the middle",
            ),
            ("--aux-loss --model inception_v3 --data d --image-size 140", 1, "--image-size: "),
            (
                "--linear-probe --model squeezenet1_1 --data d --pretrained",
                1,
                "--linear-probe: the head of squeezenet1_1 is no linear layer of its features",
            ),
            ("--drop-path 1", 1, "--drop-path 1: must be a number of at least 0 and below 1"),
            ("--drop-path 0.1 --model lenet", 1, "--drop-path 0.1: lenet has no residual branches"),
            ("--recompute blocks --sync-bn", 2, "--recompute blocks: not with --sync-bn: ranks would have to meet"),
            (
                "--data d --task segment --model unet --recompute blocks",
                1,
                "--recompute blocks: unet has none: what its",
            ),
            ("--bucket-mb 0", 1, "--bucket-mb 0: must be between 1 and 4096"),
            ("--clip-grad-norm 0", 1, "--clip-grad-norm 0: must be a number above 0"),
            ("--color-jitter 11", 1, "--color-jitter 11: must be a number between 0 and 10"),
            ("--random-erasing 1.5", 1, "--random-erasing 1.5: must be a number between 0 and 1"),
            ("--auto-augment rand --magnitude 31", 1, "--magnitude 31: must be between 0 and 30"),
            ("--mixup nan", 1, "--mixup NaN: must be a number between 0 and 100"),
            ("--repeats 0", 1, "--repeats: must be at least 1"),
            ("--batch 16 --repeats 17", 1, "--repeats 17: must be at most --batch, 16"),
            ("--data d --cache-format none --cache c", 1, "--cache: there is none with --cache-format none"),
            ("--data d --cache-format none --on-bad-image skip", 1, "--on-bad-image skip: needs a cache"),
            ("--loader-threads 0", 1, "--loader-threads: must be at least 1"),
            ("--eval-only", 1, "--eval-only: of which model?"),
            ("--data d --task segment", 1, "--model cifar_resnet20: does not tell the class of each pixel; for --task"),
            ("--data d --model unet", 1, "--model unet: tells the class of each pixel; it is for --task segment"),
            ("--task segment --model unet", 1, "--task segment: needs --data, with images and masks"),
            ("--data d --task segment --model unet --resize 300", 1, "--resize: with masks all of an image is scaled"),
            (
                "--data d --task segment --model unet --loss bce",
                1,
                "--loss bce: --task segment does not know it; it has ce,",
            ),
            ("--data d --task segment --model unet --cutmix 1", 1, "--cutmix: --task segment does not know it"),
            ("--data d --mask-values 0,1", 1, "--mask-values: is for --task segment"),
            ("--data d --model resnet18 --crop-scale 0", 1, "--crop-scale 0: must be above 0 and at most 1"),
        ];
        for (flags, ranks, words) in cases {
            let error = plan(flags, ranks).unwrap_err();
            assert!(error.is::<crate::errors::Usage>(), "{flags}");
            let text = error.to_string();
            assert!(text.starts_with(words) && !text.contains('\n'), "{flags}: {text}");
        }
    }
}
