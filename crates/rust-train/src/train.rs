//! The training run, top to bottom.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use backbones::Backbone;
use dataset::{LastBatch, Loader, LoaderConfig};
use layout::Shard;
use tch::{Device, Kind, Tensor};
use torch_ext::{DistributedDataParallel, ProcessGroup, set_memory_format, set_tf32};
use world::{Reduction, Signal, Signals, World};

use crate::cli::TrainArgs;
use crate::evaluate::{Scores, evaluate};
use crate::failure::{Ending, agree};
use crate::metrics::{EpochLine, Metrics, StepLine};
use crate::model::Normalize;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::schedule::Schedule;
use crate::step::Stepper;
use crate::timeline::Timeline;
use crate::{announce, checkpoint, cores, data, device, model, process_group, run_directory, seed, time};

/// Trains as the flags say. Every rank calls it; every rank gets the same result or the job ends.
pub(crate) fn run(cli: &TrainArgs, world: &World) -> anyhow::Result<Ending> {
    let start = Instant::now();
    let signals = agree(world, Signals::install().context("installing signal handlers"))?;
    let plan = agree(world, Plan::new(cli, world.size()))?;
    let device = agree(world, device::select(&plan.device, world))?;
    let cores = cores::per_rank(world)?;
    announce::announce(world, device, cores);
    tch::set_num_threads(cores as i32);
    seed::init(plan.training.seed, plan.training.deterministic);
    set_tf32(plan.training.tf32)?;

    let dataset = data::prepare(world, &plan.pictures, cores, plan.batch.global())?;
    let mut backbone = model::build(world, &plan, dataset.classes.len(), device)?;
    let timeline = Timeline::start(world, device, plan.trace.is_some())?;
    let group = process_group::connect(world, device, &timeline)?;
    if plan.training.sync_bn {
        backbone.synchronize_batch_norm(&group);
    }
    let ddp = agree(world, data_parallel(&backbone, &group, &plan).map_err(anyhow::Error::from))?;
    let output = run_directory::create(world, &plan)?;
    if world.rank() == 0 {
        describe(world, &plan, &backbone, &dataset, &output);
    }

    let config = LoaderConfig {
        global_batch: plan.batch.global(),
        side: plan.pictures.image_size,
        resize: plan.pictures.resize,
        resample: plan.pictures.decoding.resample,
        augmentation: plan.augmentation,
        sampling: plan.sampling,
        repeats: plan.repeats,
        last_batch: LastBatch::Drop,
        seed: plan.training.seed,
        threads: plan.loader_threads.unwrap_or(cores),
        allocate: device::batch_memory(device),
    };
    let shard = Shard::new(world.rank(), world.size());
    let loader = |images| Loader::new(Arc::new(images), shard, config.clone());
    let mut trainer = Trainer {
        world,
        schedule: schedule(&plan, dataset.train.len()),
        train: loader(dataset.train),
        val: loader(dataset.val),
        stepper: Stepper::new(&plan, &backbone, ddp, &group, &timeline)?,
        normalize: Normalize::new(device),
        plan: &plan,
        device,
        output: &output,
        metrics: agree(world, (world.rank() == 0).then(|| Metrics::create(&output)).transpose())?,
        start,
        signals,
    };
    let (best, ending) = trainer.fit()?;
    log::debug!("optimizer state: {:.1} MB on this rank", trainer.stepper.optimizer_bytes() as f64 / 1e6);
    if let Some(path) = &plan.trace {
        timeline.write(world, path)?;
    }
    if world.rank() == 0 {
        let word = match ending {
            Ending::Complete => "done",
            Ending::Stopped => "stopped by a signal, weights saved",
        };
        log::info!(
            "{word}: top-1 {:.2} % at best, on {} held-out pictures, in {:.1} s; results in {}",
            best.top1 * 100.0,
            best.samples,
            start.elapsed().as_secs_f64(),
            output.display(),
        );
    }
    Ok(ending)
}

struct Trainer<'a> {
    world: &'a World,
    plan: &'a Plan,
    device: Device,
    stepper: Stepper<'a>,
    schedule: Schedule,
    train: Loader,
    val: Loader,
    normalize: Normalize,
    output: &'a Path,
    metrics: Option<Metrics>,
    start: Instant,
    signals: Signals,
}

impl Trainer<'_> {
    /// All epochs, or those until a signal: train, evaluate, save. Gives the best scores.
    fn fit(&mut self) -> anyhow::Result<(Scores, Ending)> {
        let mut best: Option<Scores> = None;
        let mut step = 0;
        let mut ending = Ending::Complete;
        for epoch in 0..self.plan.training.epochs {
            if epoch > 0 && epoch == self.plan.frozen_epochs {
                self.unfreeze()?;
            }
            let (epoch_line, epoch_ending) = self.epoch(epoch, &mut step)?;
            ending = epoch_ending;
            let Stepper { backbone, group, .. } = self.stepper;
            model::distribute_buffers(backbone, group, self.plan.training.distribute_bn)?;
            let scores = evaluate(&self.stepper, &self.val, &self.normalize, self.world.control())?;
            let is_best = best.is_none_or(|best| scores.top1 > best.top1);
            if is_best {
                best = Some(scores);
            }
            self.record(
                EpochLine {
                    val_loss: scores.loss,
                    top1: scores.top1,
                    top5: scores.top5,
                    elapsed_seconds: self.start.elapsed().as_secs_f64(),
                    ..epoch_line
                },
                is_best,
            )?;
            if ending == Ending::Stopped || step >= self.schedule.total_steps {
                break;
            }
        }
        Ok((best.context("there was at least one epoch")?, ending))
    }

    /// From here on everything is trained. Collective.
    fn unfreeze(&mut self) -> anyhow::Result<()> {
        let Stepper { backbone, group, timeline, .. } = self.stepper;
        backbone.unfreeze();
        // Gradients travel and move in other groups now: both begin anew.
        let ddp = agree(self.world, data_parallel(backbone, group, self.plan).map_err(anyhow::Error::from))?;
        self.stepper = Stepper::new(self.plan, backbone, ddp, group, timeline)?;
        if self.world.rank() == 0 {
            log::info!("everything is trained from here on");
        }
        Ok(())
    }

    /// One pass over the training pictures, or what a signal leaves of it.
    fn epoch(&mut self, epoch: usize, step: &mut usize) -> anyhow::Result<(EpochLine, Ending)> {
        let first_step = *step;
        let last_step = self.schedule.total_steps.min(first_step + self.train.steps_per_epoch());
        let progress = Progress::new(
            self.world,
            &format!("epoch {}/{}", epoch + 1, self.plan.training.epochs),
            "steps",
            (last_step - first_step) as u64,
        );
        let begin = time::synchronized(self.device);
        let mut losses = Vec::with_capacity(last_step - first_step);
        let mut ending = Ending::Complete;
        let mut batches = self.train.train(epoch as u64, 0);
        let timeline = self.stepper.timeline;
        while *step < last_step
            && let Some(batch) = timeline.span("data wait", || batches.next())
        {
            let batch = batch?;
            let (pictures, targets) = (self.normalize.pictures(&batch)?, self.normalize.targets(&batch));
            let loss = self.stepper.step(&pictures, &targets, self.schedule.learning_rate(*step))?;
            *step += 1;
            losses.push(loss.shallow_clone());
            self.compare_replicas(*step)?;
            progress.update((*step - first_step) as u64, || format!("loss {:.3}", loss.double_value(&[])));
            if self.should_stop()? {
                ending = Ending::Stopped;
                break;
            }
        }
        let seconds = (time::synchronized(self.device) - begin).as_secs_f64();
        let waited = batches.waited().as_secs_f64();
        progress.finish();

        let losses = self.mean_over_ranks(&losses)?;
        let lines: Vec<_> = losses
            .iter()
            .zip(first_step..)
            .map(|(&loss, step)| StepLine { step, loss, lr: self.schedule.learning_rate(step) })
            .collect();
        agree(self.world, self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.write(&lines)))?;
        let line = EpochLine {
            epoch: epoch + 1,
            train_loss: losses.iter().sum::<f64>() / losses.len() as f64,
            images_per_second: (losses.len() * self.plan.batch.global()) as f64 / seconds,
            data_wait: waited / seconds,
            val_loss: 0.0,
            top1: 0.0,
            top5: 0.0,
            elapsed_seconds: 0.0,
        };
        Ok((line, ending))
    }

    /// Now and then makes sure that all ranks still train the same model. Collective.
    fn compare_replicas(&self, step: usize) -> anyhow::Result<()> {
        if self.plan.compare_replicas.is_none_or(|interval| !step.is_multiple_of(interval)) {
            return Ok(());
        }
        match self.stepper.ddp.compare_replicas()? {
            None => Ok(()),
            Some(difference) => agree(self.world, Err(anyhow::anyhow!("after step {step} {difference}"))),
        }
    }

    /// Whether any rank was asked to stop: a rank never decides alone. Collective, once a step.
    fn should_stop(&self) -> anyhow::Result<bool> {
        let asked = [Signal::Terminate, Signal::Interrupt, Signal::User1]
            .into_iter()
            .any(|signal| self.signals.arrived(signal));
        let mut anyone = [u8::from(asked)];
        self.world.control().all_reduce(&mut anyone, Reduction::Max)?;
        Ok(anyone[0] == 1)
    }

    /// Each step's loss over the global batch: the mean of the ranks' equal parts. Collective, once an epoch.
    fn mean_over_ranks(&self, losses: &[Tensor]) -> anyhow::Result<Vec<f64>> {
        let losses = Tensor::stack(losses, 0).to_device(Device::Cpu).to_kind(Kind::Double);
        let mut losses = Vec::<f64>::try_from(&losses)?;
        self.world.control().all_reduce(&mut losses, Reduction::Sum)?;
        losses.iter_mut().for_each(|loss| *loss /= self.world.size() as f64);
        Ok(losses)
    }

    /// Rank 0 writes down what an epoch brought; all ranks learn whether it could.
    fn record(&mut self, line: EpochLine, is_best: bool) -> anyhow::Result<()> {
        let Self { metrics, stepper, output, .. } = self;
        let backbone = stepper.backbone;
        let written = metrics.as_mut().map_or(Ok(()), |metrics| {
            log::info!(
                "epoch {}: train loss {:.4}, val loss {:.4}, top-1 {:.2} %, top-5 {:.2} %, {:.0} images/s, data wait {:.0} %",
                line.epoch,
                line.train_loss,
                line.val_loss,
                line.top1 * 100.0,
                line.top5 * 100.0,
                line.images_per_second,
                line.data_wait * 100.0,
            );
            metrics.write(&[line])?;
            checkpoint::save(backbone, &output.join("last.safetensors"))?;
            if is_best {
                checkpoint::save(backbone, &output.join("best.safetensors"))?;
            }
            Ok(())
        });
        agree(self.world, written)
    }
}

/// Connects the model's gradients over all ranks.
fn data_parallel(backbone: &Backbone, group: &ProcessGroup, plan: &Plan) -> torch_ext::Result<DistributedDataParallel> {
    let tensors: Vec<_> = backbone.state().into_iter().map(|(_, tensor)| tensor).collect();
    set_memory_format(&tensors, plan.training.memory_format)?;
    let buffers: Vec<_> = backbone.buffers().into_iter().map(|(_, buffer)| buffer).collect();
    DistributedDataParallel::new(&backbone.trainable(), &buffers, group, plan.ddp.clone())
}

fn schedule(plan: &Plan, samples: usize) -> Schedule {
    let training = &plan.training;
    training.learning_rate.in_steps(training.epochs, samples / plan.batch.global(), training.max_steps)
}

fn describe(world: &World, plan: &Plan, backbone: &Backbone, dataset: &dataset::Dataset, output: &Path) {
    let cost = backbone.network().cost(plan.pictures.image_size, plan.pictures.image_size);
    let cost = cost.map_or(String::new(), |cost| {
        format!(", {:.2} M parameters, {:.3} GMACs a picture", cost.parameters as f64 / 1e6, cost.macs as f64 / 1e9)
    });
    log::info!("{} at {}×{} pixels{cost}", plan.architecture.name, plan.pictures.image_size, plan.pictures.image_size);
    log::info!(
        "{} training and {} validation pictures of {} classes; {} ranks × {} pictures = a batch of {}",
        dataset.train.len(),
        dataset.val.len(),
        dataset.classes.len(),
        world.size(),
        plan.batch.per_rank(),
        plan.batch.global(),
    );
    log::info!("results in {}", output.display());
}
