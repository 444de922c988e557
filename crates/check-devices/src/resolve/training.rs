//! What is trained: from flags, from the script's own command line and recipe, from the job.

use std::str::FromStr;

use anyhow::{Context, ensure};
use architectures::PublishedVersion;
use clap::ValueEnum;
use flags::{BatchSize, Freeze, OptimizerKind, Recompute};

use crate::cli::JudgeArgs;
use crate::commands::{Trainer, TrainerKind};
use crate::job::Job;
use crate::memory;
use crate::origin::{Origin, Sourced};
use crate::site::Site;
use crate::subject::{PathUse, Recipe, Teacher, Training};

/// What flags and `trainer` say; `recipe` is what became of its recipe. Where the script starts the trainer, `is_started`,
/// what nothing says is its default.
///
/// # Errors
/// Flags that make no sense: wrong usage.
pub(super) fn training(
    args: &JudgeArgs,
    site: &Site,
    trainer: &Trainer<'_>,
    recipe: Option<Recipe>,
    is_started: bool,
) -> anyhow::Result<Training> {
    fn flag<T>(value: Option<T>) -> Option<Sourced<T>> {
        value.map(|value| Sourced::new(value, Origin::Flag))
    }
    let accelerator = args.training.accelerator.as_deref();
    let accelerator = accelerator.map(|name| memory::accelerator(name, site).context("--gpu")).transpose()?;
    // Its recipe, or a variable, may say what is not known here.
    let is_known = matches!(recipe, None | Some(Recipe::Read)) && !trainer.has_unknown_words();
    let has_defaults = is_started && trainer.kind == TrainerKind::RustTrain && is_known;
    let run = Run { trainer, has_defaults };
    let mut training = Training {
        micro_batch: flag(args.micro_batch),
        accumulation: run.number("accumulate")?,
        virtual_ranks: run.number("virtual-ranks")?,
        device: run.text("device"),
        ranks_per_device: run.number("ranks-per-device")?,
        model: run.model()?,
        image_size: run.number("image-size")?,
        classes: args.training.classes,
        channels: args.training.channels,
        optimizer: run.word("optimizer"),
        momentum: run.parsed("momentum"),
        precision: run.word("precision"),
        zero: trainer.has("zero"),
        ema: run.parsed("ema").is_some_and(|decay: Sourced<f64>| decay.value > 0.0)
            || run.parsed("swa").is_some_and(|last: Sourced<usize>| last.value > 0)
            || run
                .word("optimizer")
                .is_some_and(|optimizer: Sourced<OptimizerKind>| optimizer.value.evaluates_average()),
        recompute: run.word("recompute").is_some_and(|what: Sourced<Recompute>| what.value == Recompute::Blocks),
        auxiliary: trainer.has("aux-loss"),
        teacher: run.teacher(),
        is_frozen: run.word("freeze").is_some_and(|part: Sourced<Freeze>| part.value == Freeze::Backbone),
        accelerator: flag(accelerator),
        samples: flag(args.samples),
        learning_rate: run.learning_rate()?,
        loader_threads: run.number("loader-threads")?,
        checkpoint_seconds: flag(args.checkpoint_seconds),
        local_batch_norm: !trainer.has("sync-bn"),
        recipe,
        ..Training::default()
    };
    run.batch(&mut training)?;
    // What the batch is divided by counts as much as the batch.
    let of_batch = ["batch", "accumulate"].into_iter().filter(|name| *name != "batch" || training.batch.is_none());
    if is_started {
        training.unknown_batch = of_batch.filter_map(|name| trainer.why_unknown(name)).next();
    }
    if let Some(device) = &training.device {
        let request = device.value.parse();
        training.request = match device.origin {
            Origin::Flag => Some(request.context("--device")?),
            _ => request.ok(),
        };
    }
    let paths = [
        (PathUse::Data, "data"),
        (PathUse::Cache, "cache"),
        (PathUse::Output, "output"),
        (PathUse::Weights, "weights"),
        (PathUse::Weights, "teacher"),
    ];
    training.paths.extend(paths.iter().filter_map(|&(purpose, flag)| Some((purpose, run.text(flag)?))));
    run.name_published(&mut training);
    Ok(training)
}

/// The flags of a run, each from whoever says it.
struct Run<'t> {
    trainer: &'t Trainer<'t>,
    /// Whether what nothing says has the trainer's default.
    has_defaults: bool,
}

impl Run<'_> {
    fn text(&self, name: &str) -> Option<Sourced<String>> {
        self.trainer.text(name)
    }

    /// The same, or what `rust-train` takes where nothing is said.
    fn text_or_default(&self, name: &str) -> Option<Sourced<String>> {
        if self.has_defaults && self.trainer.lacks(name) {
            return Some(Sourced::new(flags::default_of(name)?, Origin::Derived("rust-train's default")));
        }
        self.text(name)
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Option<Sourced<T>> {
        let text = self.text_or_default(name)?;
        Some(Sourced::new(text.value.parse().ok()?, text.origin))
    }

    /// A word that is one of a few.
    fn word<T: ValueEnum>(&self, name: &str) -> Option<Sourced<T>> {
        let text = self.text_or_default(name)?;
        Some(Sourced::new(T::from_str(&text.value, true).ok()?, text.origin))
    }

    /// A number above 0. What the script says and makes no sense, its program refuses.
    fn number(&self, name: &str) -> anyhow::Result<Option<Sourced<usize>>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number: Option<usize> = text.value.parse().ok();
        ensure!(number != Some(0) || text.origin != Origin::Flag, "--{name}: must be at least 1");
        Ok(number.map(|number| Sourced::new(number, text.origin)))
    }

    /// A network that is known here; a model of somebody's own is not.
    fn model(&self) -> anyhow::Result<Option<Sourced<String>>> {
        let Some(model) = self.text_or_default("model") else { return Ok(None) };
        match architectures::architecture(&model.value) {
            Err(error) if model.origin == Origin::Flag => Err(error).context("--model"),
            known => Ok(known.ok().map(|_| model)),
        }
    }

    /// torchvision's files of weights, by its names for them or as `--pretrained`: where they are, and the images that they were tested with.
    fn name_published(&self, training: &mut Training) {
        let known = training.model.as_ref().and_then(|model| architectures::architecture(&model.value).ok());
        for (_, path) in training.paths.iter_mut().filter(|(purpose, _)| *purpose == PathUse::Weights) {
            let Some(Ok(version)) = PublishedVersion::named(&path.value, known.as_ref()) else { continue };
            path.value = version.published.url();
            if Some(version.network) == known.map(|known| known.name) {
                let size = Sourced::new(version.image_size, Origin::Derived("the weights' images"));
                training.image_size.get_or_insert(size);
            }
        }
        let of_name = |name: &Option<Sourced<String>>| {
            let name = name.as_ref()?;
            let published = architectures::architecture(&name.value).ok()?.published?;
            Some(Sourced::new(published.url(), name.origin.clone()))
        };
        let pretrained = of_name(&training.model).filter(|_| self.trainer.has("pretrained"));
        let teacher = of_name(&self.text("teacher-model")).filter(|_| self.text("teacher").is_none());
        training.paths.extend(pretrained.into_iter().chain(teacher).map(|url| (PathUse::Weights, url)));
    }

    /// A model to learn from, whose network is known here or not.
    fn teacher(&self) -> Option<Teacher> {
        let name = self.text("teacher-model");
        if name.is_none() && self.text("teacher").is_none() {
            return None;
        }
        Some(Teacher { network: name.map(|name| name.value).filter(|name| architectures::architecture(name).is_ok()) })
    }

    fn learning_rate(&self) -> anyhow::Result<Option<Sourced<f64>>> {
        let Some(text) = self.text("lr") else { return Ok(None) };
        let rate: Option<f64> = text.value.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
        ensure!(rate.is_some() || text.origin != Origin::Flag, "--lr: must be positive");
        Ok(rate.map(|rate| Sourced::new(rate, text.origin)))
    }

    fn batch(&self, training: &mut Training) -> anyhow::Result<()> {
        // Which micro-batch it is says how large the batch is.
        let text = if training.micro_batch.is_some() { self.text("batch") } else { self.text_or_default("batch") };
        let Some(Sourced { value: text, origin }) = text else { return Ok(()) };
        if text == "-1" {
            training.auto_batch = Some(origin);
            return Ok(());
        }
        let Ok(BatchSize { images, fit_memory }) = text.parse() else { return Ok(()) };
        ensure!(images > 0 || origin != Origin::Flag, "--batch: must be at least 1");
        if images > 0 {
            (training.batch, training.fit_memory) = (Some(Sourced::new(images, origin)), fit_memory);
        }
        Ok(())
    }
}

/// The accelerator, by the site file's word on the partition, else by the type of GPU that the job asks for.
pub(super) fn accelerator_of_job(job: &Job, site: &Site) -> Option<Sourced<memory::Accelerator>> {
    let of_partition = || {
        let name = job.text("partition")?.value;
        let partition = site.partition.iter().find(|partition| partition.name == name)?;
        let accelerator = memory::accelerator(partition.accelerator.as_deref()?, site).ok()?;
        Some(Sourced::new(accelerator, Origin::Site))
    };
    let of_request = || {
        let accelerator = memory::accelerator(job.gpu_kind()?, site).ok()?;
        Some(Sourced::new(accelerator, job.gpu_request()?.origin.clone()))
    };
    of_partition().or_else(of_request)
}
