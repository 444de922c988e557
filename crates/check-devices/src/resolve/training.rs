//! What is trained: from flags, from the script's own command line, from the job.

use anyhow::Context;
use clap::ValueEnum;

use crate::cli::{JudgeArgs, TrainingArgs};
use crate::commands::{Trainer, TrainerKind};
use crate::job::Job;
use crate::memory;
use crate::origin::{Origin, Sourced};
use crate::site::Site;
use crate::subject::{PathUse, Recipe, Training};

/// What the flags say.
///
/// # Errors
/// A model or an accelerator that nobody knows.
pub(super) fn training_of_flags(args: &JudgeArgs, site: &Site) -> anyhow::Result<Training> {
    fn flag<T>(value: Option<T>) -> Option<Sourced<T>> {
        value.map(|value| Sourced::new(value, Origin::Flag))
    }
    let TrainingArgs { model, image_size, classes, optimizer, precision, accelerator } = &args.training;
    if let Some(model) = model {
        architectures::architecture(model).context("--model")?;
    }
    let accelerator =
        accelerator.as_deref().map(|name| memory::accelerator(name, site).context("--gpu")).transpose()?;
    Ok(Training {
        batch: flag(args.batch.and_then(|batch| usize::try_from(batch).ok())),
        auto_batch: (args.batch == Some(-1)).then_some(Origin::Flag),
        micro_batch: flag(args.micro_batch),
        accumulation: flag(args.accumulation),
        model: flag(model.clone()),
        image_size: flag(*image_size),
        classes: *classes,
        optimizer: flag(*optimizer),
        precision: flag(*precision),
        accelerator: flag(accelerator),
        samples: flag(args.samples),
        learning_rate: flag(args.lr),
        loader_threads: flag(args.loader_threads),
        checkpoint_seconds: flag(args.checkpoint_seconds),
        local_batch_norm: true,
        ..Training::default()
    })
}

/// What the script's own command line says, where no flag does.
pub(super) fn complete_from_trainer(training: &mut Training, trainer: &Trainer<'_>) {
    let batch_flags: &[&str] = match trainer.kind {
        TrainerKind::RustTrain => &["batch"],
        TrainerKind::Yolo => &["batch-size", "batch"],
    };
    let text = |names: &[&str]| trainer.text(names);
    let natural = |names: &[&str]| {
        let number = trainer.number(names)?;
        Some(Sourced::new(usize::try_from(number.value).ok()?, number.origin))
    };
    if training.batch.is_none() && training.auto_batch.is_none() {
        match trainer.number(batch_flags) {
            Some(Sourced { value: -1, origin }) => training.auto_batch = Some(origin),
            _ => training.batch = natural(batch_flags).or_else(|| in_fitting_parts(trainer)),
        }
    }
    if training.device.is_none() {
        training.device = text(&["device"]);
        training.request = training.device.as_ref().and_then(|device| device.value.parse().ok());
    }
    training.local_batch_norm = !trainer.has("sync-bn");
    if trainer.kind == TrainerKind::Yolo {
        return; // its models are not ours
    }
    let is_default = trainer.lacks(batch_flags) && matches!(training.recipe, None | Some(Recipe::Read));
    if training.batch.is_none() && training.auto_batch.is_none() && is_default {
        training.batch = Some(Sourced::new(64, Origin::Derived("rust-train's default")));
    }
    if training.model.is_none() {
        training.model = text(&["model"]).filter(|model| architectures::architecture(&model.value).is_ok());
    }
    training.image_size = training.image_size.take().or_else(|| natural(&["image-size"]));
    training.loader_threads = training.loader_threads.take().or_else(|| natural(&["loader-threads"]));
    training.accumulation = training.accumulation.take().or_else(|| natural(&["accumulate"]));
    training.optimizer = training.optimizer.take().or_else(|| word(text(&["optimizer"])?));
    training.precision = training.precision.take().or_else(|| word(text(&["precision"])?));
    training.learning_rate = training.learning_rate.take().or_else(|| {
        let rate = text(&["lr"])?;
        let value = rate.value.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0)?;
        Some(Sourced::new(value, rate.origin))
    });
    let paths = [
        (PathUse::Data, "data"),
        (PathUse::Cache, "cache"),
        (PathUse::Output, "output"),
        (PathUse::Weights, "weights"),
    ];
    training.paths.extend(paths.iter().filter_map(|&(purpose, flag)| Some((purpose, text(&[flag])?))));
}

/// The global batch of `--batch auto:256`, which is computed in parts that fit in the memory.
fn in_fitting_parts(trainer: &Trainer<'_>) -> Option<Sourced<usize>> {
    let text = trainer.text(&["batch"])?;
    let images = match text.value.as_str() {
        "auto" => 64,
        text => text.strip_prefix("auto:")?.parse().ok()?,
    };
    Some(Sourced::new(images, text.origin))
}

/// A word that is one of a few.
fn word<T: ValueEnum>(text: Sourced<String>) -> Option<Sourced<T>> {
    Some(Sourced::new(T::from_str(&text.value, true).ok()?, text.origin))
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
