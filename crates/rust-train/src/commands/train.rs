//! The training run, top to bottom: everything is put in its place, then [`Trainer`] trains.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use dataset::{Dataset, ImageSet, Size};
use flags::{ScheduleKind, TaskKind, TrainArgs};
use world::{Signals, World};

use crate::commands::teacher::LoadedTeacher;
use crate::config::plan::Plan;
use crate::config::recipe;
use crate::data;
use crate::data::listing::Listed;
use crate::data::stage;
use crate::data::statistics::normalization_of;
use crate::distributed::hub::fetch_weights;
use crate::distributed::process_group;
use crate::distributed::synchronization::Agreement;
use crate::distributed::time_limit::TimeLimit;
use crate::errors::{RunOutcome, agree, usage};
use crate::files;
use crate::machine::fingerprint::{self, Fingerprint};
use crate::model::objective::Objective;
use crate::model::{self, BuildContext, Model};
use crate::observe::progress::left_words;
use crate::observe::timeline::Timeline;
use crate::observe::watchdog::Watchdog;
use crate::program::Program;
use crate::run::{model_file, resume};
use crate::task::{self, refuse_names};
use crate::trainer::job::Job;
use crate::trainer::{Parts, StepPlan, Trainer};

/// Trains as the flags say, with the parts that `program` brings along. Every rank calls it; every rank gets the same
/// result or the job ends.
pub(crate) fn run(cli: &TrainArgs, world: &World, program: &Program) -> anyhow::Result<RunOutcome> {
    let start = Instant::now();
    let signals = agree(world, Signals::install().context("installing signal handlers"))?;
    let plan = agree(world, Plan::new(cli, world.size(), program.own()))?;
    let limit = agree(world, TimeLimit::new(start, plan.flags.run.time_limit))?;
    if let Some(path) = &plan.flags.trace {
        agree(world, if world.rank() == 0 { files::refuse_unwritable("--trace", path) } else { Ok(()) })?;
    }
    let resume_point = resume::begin(world, &plan)?;
    let output = resume_point.output;
    let _held = resume_point.folder;
    if let Some(checkpoint) = &resume_point.checkpoint {
        agree(world, resume::compare(world, &plan, &checkpoint.state.plan))?;
    }
    let job = Job::set_up(world, &plan)?;

    let mut begun_with = None;
    let (dataset, (mut model, teacher)) = prepare(&job, program, |context, listed| {
        let weights = weights(world, &plan)?;
        begun_with.clone_from(&weights);
        let model = model::build::build(world, &plan, program.model.as_ref(), weights.as_deref(), context)?;
        agree(world, refuse_without_features(&plan, &*model))?;
        Ok((model, LoadedTeacher::load(&job, listed)?))
    })?;
    let staging = plan.flags.data.stage.as_deref().map(|folder| stage::begin(world, &dataset, folder)).transpose()?;
    let normalization =
        normalization_of(world, &plan.flags.data.images, &plan.images.usual_normalization, &dataset, job.cores)?;
    let plan = agree(world, plan.of_images(&dataset.train, normalization))?;
    let job = Job { plan: &plan, ..job };
    if let (Some(path), 0) = (&begun_with, world.rank()) {
        model::build::warn_of_other_normalization(&plan, path);
    }
    if plan.flags.run.patience.is_some() && dataset.val.is_empty() {
        agree(world, Err(usage("--patience: the data have no validation images to tell by which epoch is better")))?;
    }
    if plan.flags.optimization.schedule == ScheduleKind::Plateau && dataset.val.is_empty() {
        agree(world, Err(usage("--schedule plateau: the data have no validation images whose loss it could follow")))?;
    }
    let of_flags = task::of_flags(&plan.flags, &dataset, job.device);
    let task = program.task.as_deref().unwrap_or(&*of_flags);
    let teacher_digest = teacher.as_ref().map(|teacher| teacher.digest.clone());
    let teacher = agree(world, teacher.map(|teacher| teacher.of_images(&plan)).transpose())?;
    let task = &Objective::new(task, &plan, teacher);
    agree(world, refuse_names(task))?;
    let timeline = Timeline::start(world, job.device, plan.flags.trace.is_some())?;
    let group = process_group::connect(world, job.device, &job.plan.flags, &timeline)?;
    let step_plan = StepPlan::new(&plan, dataset.train.len());
    let position = resume_point.checkpoint.as_ref().map(|checkpoint| checkpoint.state.position.clone());
    let is_frozen = step_plan.is_frozen(&position.unwrap_or_default());
    let step = job.train_step(&mut *model, &group, &timeline, is_frozen)?;
    agree(world, if world.rank() == 0 { recipe::save(&plan.flags, &output) } else { Ok(()) })?;
    if world.rank() == 0 {
        describe(world, &plan, step.model, &dataset, &output);
    }
    // Rank 0's clock counts.
    let limit = if world.rank() == 0 { limit } else { TimeLimit::NONE };
    if let Some(left) = limit.left(Instant::now()) {
        log::info!("saves and ends in time for the end of the job: {}", left_words(left.as_secs_f64()));
    }

    let agreement = Agreement::new(world, signals, limit);
    let parts = Parts { task, step, agreement, hooks: &program.hooks, teacher: teacher_digest };
    let fingerprint = fingerprint::of_ranks(world, job.device)?;
    if world.rank() == 0 {
        tell_what_repeats(world, &plan, &fingerprint);
    }
    let mut trainer = Trainer::new(job, fingerprint, start, parts, is_frozen, dataset, &output);
    trainer.fit_memory()?;
    if let Some(checkpoint) = resume_point.checkpoint {
        trainer.restore(checkpoint)?;
    }
    if plan.flags.eval_only {
        trainer.evaluate_alone()?;
        drop(trainer);
        process_group::disconnect(&group);
        return Ok(RunOutcome::Complete);
    }
    trainer.open_results(resume_point.goes_on)?;
    let watchdog = plan.watchdog.map(|timeout| Watchdog::start(timeline.activity(), timeout));
    let outcome = trainer.fit(&*program.drive)?;
    trainer.close_results(outcome);
    drop(staging);
    // With it go recorded steps: NCCL waits for those that use it.
    drop(trainer);
    process_group::disconnect(&group);
    drop(watchdog);
    if let Some(path) = &plan.flags.trace {
        timeline.write(world, path)?;
    }
    Ok(outcome)
}

/// Gets the data in place, and calls `check` as soon as it is known what a model for them is like. Collective.
pub(crate) fn prepare<T>(
    job: &Job<'_>,
    program: &Program,
    check: impl FnOnce(&BuildContext, &Listed) -> anyhow::Result<T>,
) -> anyhow::Result<(Dataset, T)> {
    let own = program.images.as_ref().map(|(_, read)| move || Ok(read()?.into_dataset()));
    let own = own.as_ref().map(|read| read as &dyn Fn() -> anyhow::Result<Dataset>);
    let (images, least) = (&job.plan.images, job.plan.batch.global());
    data::prepare(job.world, images, own, job.cores, least, |listed: Listed| {
        let outputs = program.outputs(listed.classes.len());
        let context =
            BuildContext { outputs, channels: listed.channels, image_size: images.image_size, device: job.device };
        check(&context, &listed)
    })
}

/// Refuses to look at features of a model that does not know which they are.
fn refuse_without_features(plan: &Plan, model: &dyn Model) -> anyhow::Result<()> {
    let flag = match plan.flags.knn {
        Some(_) => "--knn",
        None if plan.flags.linear_probe => "--linear-probe",
        None => return Ok(()),
    };
    match model.without_head() {
        None => Err(usage(format!("{flag}: this model does not know what its features are"))),
        Some(headless) if plan.flags.linear_probe && headless.head.is_none() => {
            Err(usage(format!("{flag}: this model has no head that is a linear layer")))
        }
        Some(_) => Ok(()),
    }
}

/// Brings the weights that a run starts from to this rank's node, if it starts from some. Collective.
pub(super) fn weights(world: &World, plan: &Plan) -> anyhow::Result<Option<PathBuf>> {
    let Some((mut request, store)) = plan.weights.clone() else { return Ok(None) };
    model_file::locate(world, &mut request)?;
    fetch_weights(world, &store, &request).map(Some)
}

/// Says what another run of the same plan would have in common with this one.
fn tell_what_repeats(world: &World, plan: &Plan, fingerprint: &Fingerprint) {
    match plan.flags.virtual_ranks {
        Some(parts) => {
            log::info!(
                "the same bits on any power of two of ranks up to {parts}, with the same processors and libtorch"
            );
            let uneven = fingerprint::uneven(fingerprint);
            if !uneven.is_empty() {
                log::warn!(
                    "--virtual-ranks: the ranks are not alike, so bits depend on which of them computes what: {}",
                    uneven.join("; ")
                );
            }
        }
        None if world.size() > 1 => log::info!(
            "order, augmentation and first weights follow from --seed {}; at another number of ranks sums are rounded \
             otherwise, unless --virtual-ranks fixes their order",
            plan.flags.seed
        ),
        None => {}
    }
}

fn describe(world: &World, plan: &Plan, model: &dyn Model, dataset: &Dataset, output: &Path) {
    let size = plan.images.image_size;
    let parameters: usize = model.parameters().iter().map(|(_, tensor)| tensor.numel()).sum();
    let cost = plan.architecture.and_then(|known| {
        let network = known.network(dataset.classes.len()).with_channels(dataset.train.format().channels());
        network.with_image_side(size).cost(size, size).ok()
    });
    let macs = cost.map_or(String::new(), |cost| format!(", {:.3} GMACs an image", cost.macs as f64 / 1e9));
    log::info!("{} at {size}×{size} pixels, {:.2} M parameters{macs}", plan.flags.model, parameters as f64 / 1e6);
    if let Some(numbers) = dataset.train.numbers() {
        let size = dataset.train.size().map(|Size { width, height }| format!(" and {width}×{height} pixels"));
        log::info!("the images have {numbers}{}", size.unwrap_or_default());
    }
    let outputs = match plan.flags.task.task {
        TaskKind::Classify => "classes",
        TaskKind::Multilabel => "labels",
        TaskKind::Regress => "numbers",
        TaskKind::Segment => "classes of pixels",
    };
    let test = dataset.test.as_ref().map_or(0, ImageSet::len);
    log::info!(
        "{} training and {} validation images of {} {outputs}{}; {} ranks × {} images = a batch of {}",
        dataset.train.len(),
        dataset.val.len(),
        dataset.classes.len(),
        if test > 0 { format!(", and {test} for eval --split test") } else { String::new() },
        world.size(),
        plan.batch.per_rank(),
        plan.batch.global(),
    );
    if dataset.val.is_empty() {
        log::warn!(
            "the data have no validation images (neither DIR/val nor DIR/val.tsv): no epoch is scored, and there is no \
             best.safetensors; --val-split 0.1 sets a tenth of the training images aside for that"
        );
    }
    log::info!("{}; every flag is in {}", recipe::summary(&plan.flags), output.join(recipe::PLAN_FILE).display());
}
