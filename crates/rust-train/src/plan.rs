//! Flags become validated values before any work starts. What is refused here costs nothing.

use std::path::PathBuf;

use architectures::{Architecture, architecture};
use backbones::Matching;
use dataset::{Augmentation, Crop};
use layout::{BatchLayout, DeviceRequest};
use torch_ext::{DdpConfig, MemoryFormat, Precision};
use world::Scope;

use crate::cli::{CacheScope, Compression, DistributeBn, Freeze, PrecisionKind, TrainArgs, WeightsMatch};
use crate::failure::usage;
use crate::weights;

pub(crate) use crate::cli::OptimizerKind;

/// Pictures up to this side are cropped with padding; larger ones get a random part, scaled.
const LARGEST_PADDED_SIZE: usize = 64;

/// Everything that a run does, decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub data: Data,
    pub classes: Option<PathBuf>,
    pub architecture: Architecture,
    /// The weights to start from, and where fetched files are kept.
    pub weights: Option<(fetch::Request, fetch::Store)>,
    /// How much of the network they must match.
    pub matching: Matching,
    /// What is not trained: everything but the head, for so many epochs (`usize::MAX`: all).
    pub frozen_epochs: usize,
    /// Side of the pictures that the network sees, in pixels.
    pub image_size: usize,
    pub augmentation: Augmentation,
    pub batch: BatchLayout,
    pub training: Training,
    pub ddp: DdpConfig,
    /// Steps between two comparisons of the ranks' parameters.
    pub compare_replicas: Option<usize>,
    pub device: DeviceRequest,
    pub loader_threads: Option<usize>,
    pub output: Option<PathBuf>,
    pub trace: Option<PathBuf>,
}

/// Where the pictures come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Digits,
    /// A folder of pictures. Without a scope the job finds out whether its nodes share the cache's folder.
    Folder {
        root: PathBuf,
        cache: Option<PathBuf>,
        cache_scope: Option<Scope>,
    },
}

/// The numbers of the recipe.
#[derive(Clone, Debug)]
pub(crate) struct Training {
    pub epochs: usize,
    pub max_steps: Option<usize>,
    pub lr: f64,
    pub warmup_epochs: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub optimizer: OptimizerKind,
    pub weight_decay: f64,
    pub decay_vectors: bool,
    pub clip_norm: Option<f64>,
    pub precision: Precision,
    pub sync_bn: bool,
    pub distribute_bn: DistributeBn,
    pub memory_format: MemoryFormat,
    pub zero: bool,
    pub tf32: bool,
    pub seed: u64,
    pub deterministic: bool,
}

impl Plan {
    /// Validates the flags for a job of `ranks`.
    pub(crate) fn new(cli: &TrainArgs, ranks: usize) -> anyhow::Result<Self> {
        let architecture = architecture(&cli.model).map_err(|error| usage(format!("--model: {error}")))?;
        let device = cli.device.parse().map_err(|error| usage(format!("--device: {error}")))?;
        let batch = BatchLayout::of_global(cli.batch, ranks, cli.accumulate)
            .map_err(|error| usage(format!("--batch: {error}")))?;
        let data = match &cli.data {
            None => Data::Digits,
            Some(root) => Data::Folder {
                root: root.clone(),
                cache: cli.cache.clone(),
                cache_scope: match cli.cache_scope {
                    CacheScope::Auto => None,
                    CacheScope::World => Some(Scope::World),
                    CacheScope::Node => Some(Scope::Node),
                },
            },
        };
        let image_size = match (cli.image_size, &data) {
            (Some(size), Data::Digits) if size != dataset::digits::SIDE => {
                return Err(usage(format!(
                    "--image-size {size}: the digits are {0}×{0} pixels",
                    dataset::digits::SIDE
                )));
            }
            (_, Data::Digits) => dataset::digits::SIDE,
            (size, Data::Folder { .. }) => size.unwrap_or(architecture.image_size),
        };
        let network = architecture.network(1);
        network.shapes(image_size, image_size).map_err(|error| usage(format!("--image-size: {error}")))?;
        Ok(Self {
            augmentation: augmentation(cli, &data, image_size)?,
            data,
            classes: cli.classes.clone(),
            architecture,
            weights: weights(cli, &architecture)?,
            matching: match cli.weights_match {
                None if cli.pretrained => Matching::Head,
                None | Some(WeightsMatch::Strict) => Matching::Strict,
                Some(WeightsMatch::Head) => Matching::Head,
                Some(WeightsMatch::Partial) => Matching::Partial,
            },
            frozen_epochs: cli.freeze.map_or(0, |Freeze::Backbone| cli.freeze_epochs.unwrap_or(usize::MAX)),
            image_size,
            batch,
            training: training(cli)?,
            ddp: ddp(cli)?,
            compare_replicas: Some(cli.compare_replicas).filter(|&steps| steps > 0),
            device,
            loader_threads: cli.loader_threads,
            output: cli.output.clone(),
            trace: cli.trace.clone(),
        })
    }

    /// Side of the decoded pictures in the cache, in pixels: larger than what the network sees where random parts are
    /// scaled (256 for 224).
    pub(crate) fn cache_side(&self) -> usize {
        match self.augmentation.crop {
            Crop::Resized => self.image_size * 8 / 7,
            Crop::Center | Crop::Padded { .. } => self.image_size,
        }
    }

    /// A short name of what is trained on what.
    pub(crate) fn name(&self) -> String {
        let data = match &self.data {
            Data::Digits => "digits".into(),
            Data::Folder { root, .. } => root
                .canonicalize()
                .ok()
                .and_then(|root| root.file_name().map(|name| name.to_string_lossy().into_owned()))
                .unwrap_or_else(|| "data".to_owned()),
        };
        format!("{data}-{}", self.architecture.name)
    }
}

fn weights(cli: &TrainArgs, architecture: &Architecture) -> anyhow::Result<Option<(fetch::Request, fetch::Store)>> {
    weights::of_flags(architecture, cli.weights.as_deref(), cli.weights_sha256.as_deref(), cli.pretrained, &cli.store)
}

fn augmentation(cli: &TrainArgs, data: &Data, image_size: usize) -> anyhow::Result<Augmentation> {
    let crop = match cli.crop_padding {
        Some(padding) if padding >= image_size => {
            return Err(usage(format!(
                "--crop-padding {padding}: must be less than the pictures' {image_size} pixels"
            )));
        }
        Some(padding) => Crop::Padded { padding },
        None if image_size <= LARGEST_PADDED_SIZE => Crop::Padded { padding: image_size / 8 },
        None => Crop::Resized,
    };
    // A mirrored digit is another character.
    Ok(Augmentation { crop, flip: !cli.no_flip && *data != Data::Digits })
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
    let at_least = |flag: &str, value: f64, least: f64| {
        if value.is_finite() && value >= least {
            Ok(())
        } else {
            Err(usage(format!("{flag} {value}: must be a number of at least {least}")))
        }
    };
    at_least("--lr", cli.lr, 0.0)?;
    let warmup_epochs = cli.warmup.unwrap_or_else(|| (cli.epochs as f64 / 4.0).min(5.0));
    at_least("--warmup", warmup_epochs, 0.0)?;
    at_least("--momentum", cli.momentum, 0.0)?;
    at_least("--weight-decay", cli.weight_decay, 0.0)?;
    at_least("--timeout", cli.timeout, 0.1)?;
    if let Some(norm) = cli.clip_norm
        && !(norm.is_finite() && norm > 0.0)
    {
        return Err(usage(format!("--clip-norm {norm}: must be a number above 0")));
    }
    if cli.epochs == 0 {
        return Err(usage("--epochs: must be at least 1"));
    }
    if cli.loader_threads == Some(0) {
        return Err(usage("--loader-threads: must be at least 1"));
    }
    Ok(Training {
        epochs: cli.epochs,
        max_steps: cli.max_steps,
        lr: cli.lr,
        warmup_epochs,
        momentum: cli.momentum,
        nesterov: cli.nesterov && cli.momentum > 0.0, // without momentum there is nothing to look ahead along
        optimizer: cli.optimizer,
        weight_decay: cli.weight_decay,
        decay_vectors: !cli.no_decay_on_vectors,
        clip_norm: cli.clip_norm,
        precision: match cli.precision {
            PrecisionKind::Single => Precision::Single,
            PrecisionKind::Bf16 => Precision::BFloat16,
            PrecisionKind::Fp16 => Precision::Half,
        },
        sync_bn: cli.sync_bn,
        distribute_bn: cli.distribute_bn,
        memory_format: if cli.channels_last { MemoryFormat::ChannelsLast } else { MemoryFormat::Contiguous },
        zero: cli.zero,
        tf32: cli.tf32,
        seed: cli.seed,
        deterministic: cli.deterministic,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn plan(flags: &str, ranks: usize) -> anyhow::Result<Plan> {
        let arguments = std::iter::once("rust-train").chain(flags.split_whitespace());
        Plan::new(&Cli::try_parse_from(arguments).unwrap().train, ranks)
    }

    #[test]
    fn sizes_follow_from_model_and_data() {
        let digits = plan("", 2).unwrap();
        assert_eq!((digits.image_size, digits.cache_side(), digits.augmentation.flip), (8, 8, false));
        assert_eq!(digits.augmentation.crop, Crop::Padded { padding: 1 });
        let cifar = plan("--data d", 1).unwrap();
        assert_eq!((cifar.image_size, cifar.cache_side()), (32, 32));
        assert_eq!(cifar.augmentation, Augmentation { crop: Crop::Padded { padding: 4 }, flip: true });
        let photos = plan("--data d --model resnet50 --no-flip", 1).unwrap();
        assert_eq!((photos.image_size, photos.cache_side()), (224, 256));
        assert_eq!(photos.augmentation, Augmentation { crop: Crop::Resized, flip: false });
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
            ("--model resnet19", 1, "--model: no model is called 'resnet19'; there are: resnet18"),
            ("--device gpu", 1, "--device: 'gpu' in device 'gpu' is no device"),
            ("--data d --image-size 2 --model lenet", 1, "--image-size: lenet cannot take pictures of 2×2 pixels"),
            ("--image-size 16", 1, "--image-size 16: the digits are 8×8 pixels"),
            ("--crop-padding 8", 1, "--crop-padding 8: must be less than the pictures' 8 pixels"),
            ("--epochs 0", 1, "--epochs: must be at least 1"),
            ("--lr nan", 1, "--lr NaN: must be a number of at least 0"),
            ("--warmup -1", 1, "--warmup -1: must be a number of at least 0"),
            ("--timeout 0", 1, "--timeout 0: must be a number of at least 0.1"),
            ("--weights s3://bucket/w", 1, "--weights: 's3://bucket/w' is no source: unknown scheme"),
            ("--pretrained --model lenet", 1, "--pretrained: nobody publishes weights of lenet at a known address"),
            ("--weights w --weights-sha256 xyz", 1, "--weights: 'xyz' is no SHA-256"),
            ("--weights w --stall-timeout -1", 1, "--stall-timeout -1: must be a number of at least 0.1"),
            ("--batch 64 --accumulate 5", 2, "--batch: a global batch of 64 cannot be shared evenly"),
            ("--bucket-mb 0", 1, "--bucket-mb 0: must be between 1 and 4096"),
            ("--clip-norm 0", 1, "--clip-norm 0: must be a number above 0"),
            ("--loader-threads 0", 1, "--loader-threads: must be at least 1"),
        ];
        for (flags, ranks, words) in cases {
            let error = plan(flags, ranks).unwrap_err();
            assert!(error.is::<crate::failure::Usage>(), "{flags}");
            let text = error.to_string();
            assert!(text.starts_with(words) && !text.contains('\n'), "{flags}: {text}");
        }
    }
}
