//! Flags become validated values before any work starts. What is refused here costs nothing.

use std::path::PathBuf;
use std::time::Duration;

use architectures::{Architecture, architecture};
use backbones::Matching;
use dataset::{Augmentation, ColorJitter, Mix, Policy, Sampling};
use layout::{BatchLayout, DeviceRequest};
use torch_ext::{DdpConfig, MemoryFormat, Precision};

use crate::cli::{
    AugmentationArgs, AutoAugment, Compression, DistributeBn, Freeze, PrecisionKind, RunArgs, TrainArgs, WeightsMatch,
};
use crate::failure::usage;
use crate::pictures::{Pictures, Source};
use crate::weights;

pub(crate) use crate::cli::{OnNan, OptimizerKind};

/// Everything that a run does, decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub pictures: Pictures,
    pub architecture: Architecture,
    /// The weights to start from, and where fetched files are kept.
    pub weights: Option<(fetch::Request, fetch::Store)>,
    /// How much of the network they must match.
    pub matching: Matching,
    /// What is not trained: everything but the head, for so many epochs (`usize::MAX`: all).
    pub frozen_epochs: usize,
    pub augmentation: Augmentation,
    pub sampling: Sampling,
    /// How often each picture comes in a row.
    pub repeats: usize,
    pub batch: BatchLayout,
    pub training: Training,
    pub ddp: DdpConfig,
    /// Steps between two comparisons of the ranks' parameters.
    pub compare_replicas: Option<usize>,
    pub device: DeviceRequest,
    pub loader_threads: Option<usize>,
    pub run: Run,
    pub output: Option<PathBuf>,
    pub trace: Option<PathBuf>,
    /// Every flag that decides about the result, as it was given: what a run that goes on must have again.
    pub fields: toml::Table,
}

/// How the run begins, goes on, and ends.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub resume: Option<Resume>,
    pub allow_changed_plan: bool,
    pub checkpoint_steps: Option<usize>,
    pub keep_checkpoints: usize,
    pub time_limit: Option<Duration>,
    pub on_nan: OnNan,
    pub watchdog: Option<Duration>,
}

/// What a run goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Whatever there is.
    Auto,
    /// This run, or this checkpoint of one.
    From(PathBuf),
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
        let pictures = Pictures::new(&cli.data, &architecture)?;
        Ok(Self {
            augmentation: augmentation(&cli.augmentation, &pictures)?,
            sampling: if cli.augmentation.balanced { Sampling::Balanced } else { Sampling::Shuffled },
            repeats: at_least_one("--repeats", cli.augmentation.repeats)?,
            pictures,
            architecture,
            weights: weights(cli, &architecture)?,
            matching: match cli.weights_match {
                None if cli.pretrained => Matching::Head,
                None | Some(WeightsMatch::Strict) => Matching::Strict,
                Some(WeightsMatch::Head) => Matching::Head,
                Some(WeightsMatch::Partial) => Matching::Partial,
            },
            frozen_epochs: cli.freeze.map_or(0, |Freeze::Backbone| cli.freeze_epochs.unwrap_or(usize::MAX)),
            batch,
            training: training(cli)?,
            ddp: ddp(cli)?,
            compare_replicas: Some(cli.compare_replicas).filter(|&steps| steps > 0),
            device,
            loader_threads: cli.loader_threads,
            run: run(&cli.run)?,
            output: cli.output.clone(),
            trace: cli.trace.clone(),
            fields: toml::Table::new(),
        })
    }

    /// A short name of what is trained on what.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.pictures.source.name(), self.architecture.name)
    }
}

fn run(cli: &RunArgs) -> anyhow::Result<Run> {
    let watchdog = Duration::try_from_secs_f64(cli.watchdog).ok();
    let watchdog = watchdog.ok_or_else(|| usage(format!("--watchdog {}: is no number of seconds", cli.watchdog)))?;
    if let Some(0) = cli.checkpoint_steps {
        return Err(usage("--checkpoint-steps: must be at least 1"));
    }
    Ok(Run {
        resume: cli
            .resume
            .clone()
            .map(|path| if path.as_os_str() == "auto" { Resume::Auto } else { Resume::From(path) }),
        allow_changed_plan: cli.allow_changed_plan,
        checkpoint_steps: cli.checkpoint_steps,
        keep_checkpoints: at_least_one("--keep-checkpoints", cli.keep_checkpoints)?,
        time_limit: cli.time_limit,
        on_nan: cli.on_nan,
        watchdog: (!watchdog.is_zero()).then_some(watchdog),
    })
}

fn weights(cli: &TrainArgs, architecture: &Architecture) -> anyhow::Result<Option<(fetch::Request, fetch::Store)>> {
    weights::of_flags(architecture, cli.weights.as_deref(), cli.weights_sha256.as_deref(), cli.pretrained, &cli.store)
}

fn augmentation(cli: &AugmentationArgs, pictures: &Pictures) -> anyhow::Result<Augmentation> {
    let within = |flag: &str, value: f64, most: f64| {
        if (0.0..=most).contains(&value) {
            Ok(value)
        } else {
            Err(usage(format!("{flag} {value}: must be a number between 0 and {most}")))
        }
    };
    let jitter = within("--color-jitter", cli.color_jitter, 10.0)?;
    if cli.magnitude > 30 {
        return Err(usage(format!("--magnitude {}: must be between 0 and 30", cli.magnitude)));
    }
    Ok(Augmentation {
        crop: pictures.crop,
        // A mirrored digit is another character.
        flip: !cli.no_flip && pictures.source != Source::Digits,
        jitter: (jitter > 0.0).then(|| ColorJitter::of(jitter)),
        policy: match cli.auto_augment {
            AutoAugment::None => None,
            AutoAugment::Rand => Some(Policy::RandAugment { operations: 2, magnitude: cli.magnitude }),
            AutoAugment::Trivial => Some(Policy::TrivialAugmentWide),
        },
        erase: within("--random-erasing", cli.random_erasing, 1.0)?,
        mix: Mix { mixup: within("--mixup", cli.mixup, 100.0)?, cutmix: within("--cutmix", cli.cutmix, 100.0)? },
    })
}

fn at_least_one(flag: &str, value: usize) -> anyhow::Result<usize> {
    if value == 0 {
        return Err(usage(format!("{flag}: must be at least 1")));
    }
    Ok(value)
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
    at_least_one("--epochs", cli.epochs)?;
    at_least_one("--loader-threads", cli.loader_threads.unwrap_or(1))?;
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
    use dataset::Crop;

    fn plan(flags: &str, ranks: usize) -> anyhow::Result<Plan> {
        let arguments = std::iter::once("rust-train").chain(flags.split_whitespace());
        Plan::new(&Cli::try_parse_from(arguments).unwrap().train, ranks)
    }

    #[test]
    fn sizes_follow_from_model_and_data() {
        let digits = plan("", 2).unwrap();
        let sizes = |plan: &Plan| (plan.pictures.image_size, plan.pictures.resize);
        assert_eq!((sizes(&digits), digits.augmentation.flip), ((8, 8), false));
        assert_eq!(digits.augmentation.crop, Crop::Padded { padding: 1 });
        let cifar = plan("--data d", 1).unwrap();
        assert_eq!(sizes(&cifar), (32, 32));
        let padded = Augmentation { crop: Crop::Padded { padding: 4 }, flip: true, ..Augmentation::NONE };
        assert_eq!(cifar.augmentation, padded);
        let photos = plan("--data d --model resnet50 --no-flip", 1).unwrap();
        assert_eq!(sizes(&photos), (224, 256));
        assert_eq!(photos.augmentation, Augmentation { crop: Crop::Resized, ..Augmentation::NONE });
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
            ("--color-jitter 11", 1, "--color-jitter 11: must be a number between 0 and 10"),
            ("--random-erasing 1.5", 1, "--random-erasing 1.5: must be a number between 0 and 1"),
            ("--auto-augment rand --magnitude 31", 1, "--magnitude 31: must be between 0 and 30"),
            ("--mixup nan", 1, "--mixup NaN: must be a number between 0 and 100"),
            ("--repeats 0", 1, "--repeats: must be at least 1"),
            ("--data d --cache-format none --cache c", 1, "--cache: there is none with --cache-format none"),
            ("--data d --cache-format none --on-bad-image skip", 1, "--on-bad-image skip: needs a cache"),
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
