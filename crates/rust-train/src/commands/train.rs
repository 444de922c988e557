//! The training run, top to bottom: everything is put in its place, then [`Trainer`] trains.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use dataset::{LastBatch, Loader, LoaderConfig};
use flags::TrainArgs;
use layout::Shard;
use tch::Device;
use torch_ext::set_tf32;
use world::{Signals, World};

use crate::config::plan::Plan;
use crate::config::recipe;
use crate::data;
use crate::data::listing::Listed;
use crate::data::normalize::Normalize;
use crate::distributed::process_group;
use crate::distributed::synchronization::Agreement;
use crate::distributed::time_limit::TimeLimit;
use crate::errors::{Ending, agree, usage};
use crate::files;
use crate::machine::cores;
use crate::machine::device;
use crate::machine::seed;
use crate::model;
use crate::model::{Model, OwnModel, Setting};
use crate::observe::announce;
use crate::observe::progress::left_words;
use crate::observe::timeline::Timeline;
use crate::observe::watchdog::Watchdog;
use crate::optim::schedule::Schedule;
use crate::run::checkpoint::{DatasetSize, Position, Writer};
use crate::run::results;
use crate::run::resume;
use crate::task::loss::Criterion;
use crate::trainer::step::Stepper;
use crate::trainer::{Course, Trainer};

/// Trains as the flags say, the model that they name or the caller's `own`. Every rank calls it; every rank gets the same
/// result or the job ends.
pub(crate) fn run(cli: &TrainArgs, world: &World, own: Option<&OwnModel>) -> anyhow::Result<Ending> {
    let start = Instant::now();
    let signals = agree(world, Signals::install().context("installing signal handlers"))?;
    let plan = agree(world, Plan::new(cli, world.size(), own.map(|own| &own.network)))?;
    let limit = agree(world, TimeLimit::new(start, plan.run.time_limit))?;
    if let Some(path) = &plan.trace {
        agree(world, if world.rank() == 0 { files::refuse_unwritable("--trace", path) } else { Ok(()) })?;
    }
    let beginning = resume::begin(world, &plan)?;
    let output = beginning.output;
    let _held = beginning.folder;
    if let Some(checkpoint) = &beginning.checkpoint {
        agree(world, resume::compare(world, &plan, &checkpoint.state.plan))?;
    }
    let (device, cores) = set_up(world, &plan)?;

    let image_size = plan.images.image_size;
    let build = |listed: Listed| {
        model::build::build(world, &plan, own, &Setting { classes: listed.classes, image_size, device })
    };
    let (dataset, mut model) = data::prepare(world, &plan.images, cores, plan.batch.global(), build)?;
    let timeline = Timeline::start(world, device, plan.trace.is_some())?;
    let group = process_group::connect(world, device, &timeline)?;
    if plan.training.sync_bn && !model.synchronize_batch_norm(&group) {
        return agree(world, Err(usage("--sync-bn: this model cannot synchronize its BatchNorm")));
    }
    let course = Course::new(&plan, dataset.train.len());
    let position = beginning.checkpoint.as_ref().map(|checkpoint| checkpoint.state.position.clone());
    let is_frozen = course.is_frozen(&position.unwrap_or_default());
    if is_frozen && !model.set_backbone_frozen(true) {
        return agree(world, Err(usage("--freeze backbone: this model does not know what its head is")));
    }
    if plan.training.backbone_lr_scale != 1.0 && model.head().is_empty() {
        return agree(world, Err(usage("--backbone-lr-scale: this model does not know what its head is")));
    }
    let stepper = Stepper::new(&plan, &*model, device, &group, &timeline).map_err(anyhow::Error::from);
    let stepper = agree(world, stepper)?;
    agree(world, if world.rank() == 0 { recipe::save(&plan.flags, &output) } else { Ok(()) })?;
    if world.rank() == 0 {
        describe(world, &plan, &*model, &dataset, &output);
    }

    let config = loader_config(&plan, cores, device);
    let shard = Shard::new(world.rank(), world.size());
    let loader = |images| Loader::new(Arc::new(images), shard, config.clone());
    // Rank 0's clock counts.
    let limit = if world.rank() == 0 { limit } else { TimeLimit::NONE };
    if let Some(left) = limit.left(Instant::now()) {
        log::info!("saves and ends in time for the end of the job: {}", left_words(left.as_secs_f64()));
    }
    let criterion = Criterion::new(&plan.training, dataset.train.labels(), dataset.classes.len(), device);
    let sizes = DatasetSize { train: dataset.train.len(), val: dataset.val.len(), classes: dataset.classes };
    let mut trainer = Trainer {
        world,
        plan: &plan,
        device,
        schedule: schedule(&plan, &course),
        course,
        is_frozen,
        stepper,
        agreement: Agreement::new(world, signals, limit),
        train: loader(dataset.train),
        val: loader(dataset.val),
        sizes,
        normalize: Normalize::new(device),
        criterion,
        output: &output,
        results: None,
        writer: (world.rank() == 0).then(|| Writer::new(&output, plan.run.keep_checkpoints)),
        position: Position::default(),
        losses: Vec::new(),
        evaluated: (0, 0),
        evaluation_time: Duration::ZERO,
        start,
    };
    trainer.fit_memory()?;
    if let Some(checkpoint) = beginning.checkpoint {
        trainer.restore(checkpoint)?;
    }
    if plan.eval_only {
        trainer.evaluate_alone()?;
        process_group::disconnect(&group);
        return Ok(Ending::Complete);
    }
    let sitting = results::sitting(world, device, cores, plan.batch.global(), trainer.position.step)?;
    trainer.open_results(beginning.goes_on, sitting)?;
    let watchdog = plan.run.watchdog.map(|patience| Watchdog::start(timeline.activity(), patience));
    let ending = trainer.fit()?;
    trainer.close_results(ending);
    process_group::disconnect(&group);
    drop(watchdog);
    log::debug!("optimizer state: {:.1} MB on this rank", trainer.stepper.optimizer_bytes() as f64 / 1e6);
    if let Some(path) = &plan.trace {
        timeline.write(world, path)?;
    }
    Ok(ending)
}

/// Chooses what this rank computes with, its device and how many cores, says so, and tells libtorch. Collective.
pub(crate) fn set_up(world: &World, plan: &Plan) -> anyhow::Result<(Device, usize)> {
    let device = agree(world, device::select(&plan.device, world))?;
    let cores = cores::per_rank(world)?;
    announce::announce(world, device, cores)?;
    if let (Some(asked), 0) = (plan.loader_threads, world.rank()) {
        cores::warn_of_threads("--loader-threads", asked, cores);
    }
    tch::set_num_threads(cores as i32);
    seed::init(plan.training.seed, plan.training.deterministic);
    set_tf32(plan.training.tf32)?;
    Ok((device, cores))
}

/// How the batches of a run are made by a rank that may use so many `cores`.
pub(crate) fn loader_config(plan: &Plan, cores: usize, device: Device) -> LoaderConfig {
    LoaderConfig {
        global_batch: plan.batch.global(),
        side: plan.images.image_size,
        resize: plan.images.resize,
        resample: plan.images.decoding.resample,
        augmentation: plan.augmentation,
        sampling: plan.sampling,
        repeats: plan.repeats,
        last_batch: LastBatch::Drop,
        seed: plan.training.seed,
        threads: cores::loader_threads(plan.loader_threads, cores),
        allocate: device::batch_memory(device),
    }
}

fn schedule(plan: &Plan, course: &Course) -> Schedule {
    plan.training.learning_rate.in_steps(course.steps_per_epoch, course.total_steps())
}

fn describe(world: &World, plan: &Plan, model: &dyn Model, dataset: &dataset::Dataset, output: &Path) {
    let size = plan.images.image_size;
    let parameters: usize = model.parameters().iter().map(|(_, tensor)| tensor.numel()).sum();
    let cost = plan.architecture.and_then(|known| known.network(dataset.classes.len()).cost(size, size).ok());
    let macs = cost.map_or(String::new(), |cost| format!(", {:.3} GMACs an image", cost.macs as f64 / 1e9));
    log::info!("{} at {size}×{size} pixels, {:.2} M parameters{macs}", plan.model, parameters as f64 / 1e6);
    log::info!(
        "{} training and {} validation images of {} classes; {} ranks × {} images = a batch of {}",
        dataset.train.len(),
        dataset.val.len(),
        dataset.classes.len(),
        world.size(),
        plan.batch.per_rank(),
        plan.batch.global(),
    );
    if dataset.val.is_empty() {
        log::warn!(
            "the data have no validation images (neither DIR/val nor DIR/val.tsv): no epoch is scored, and there is no \
             best.safetensors"
        );
    }
    log::info!("{}; every flag is in {}", recipe::summary(&plan.flags), output.join(recipe::PLAN_FILE).display());
}
