//! The training run, top to bottom.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use backbones::Backbone;
use dataset::{Loader, LoaderConfig};
use layout::Shard;
use tch::{Device, Kind, Tensor};
use torch_ext::optim::{Sgd, SgdConfig};
use torch_ext::{DdpConfig, DistributedDataParallel, ProcessGroup};
use world::{Reduction, Signal, Signals, World};

use crate::cli::TrainArgs;
use crate::collectives::MpiCollectives;
use crate::evaluate::{Scores, evaluate};
use crate::failure::{Ending, agree, usage};
use crate::metrics::{EpochLine, Metrics, StepLine};
use crate::model::Normalize;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::schedule::Schedule;
use crate::{announce, checkpoint, cores, data, device, model, run_directory, seed, time};

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

    let dataset = data::prepare(world, &plan)?;
    let backbone = model::build(world, &plan, dataset.classes.len(), device)?;
    let group = agree(world, process_group(world, device))?;
    let buffers: Vec<_> = backbone.buffers().into_iter().map(|(_, buffer)| buffer).collect();
    let ddp = DistributedDataParallel::new(&backbone.trained(), &buffers, &group, DdpConfig::default())?;
    let output = run_directory::create(world, &plan)?;
    if world.rank() == 0 {
        describe(world, &plan, &backbone, &dataset, &output);
    }

    let config = LoaderConfig {
        global_batch: plan.batch.global(),
        side: plan.image_size,
        augmentation: plan.augmentation,
        seed: plan.training.seed,
        threads: plan.loader_threads.unwrap_or(cores),
    };
    let shard = Shard::new(world.rank(), world.size());
    let loader = |images| Loader::new(Arc::new(images), shard, config.clone());
    let mut trainer = Trainer {
        world,
        schedule: schedule(&plan, dataset.train.len()),
        train: loader(dataset.train),
        val: loader(dataset.val),
        optimizer: optimizer(&backbone, &plan),
        normalize: Normalize::new(device),
        backbone: &backbone,
        group: &group,
        ddp: &ddp,
        plan: &plan,
        device,
        output: &output,
        metrics: agree(world, (world.rank() == 0).then(|| Metrics::create(&output)).transpose())?,
        start,
        signals,
    };
    let (best, ending) = trainer.fit()?;
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
    backbone: &'a Backbone,
    group: &'a ProcessGroup,
    ddp: &'a DistributedDataParallel,
    optimizer: Sgd,
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
            let (epoch_line, epoch_ending) = self.epoch(epoch, &mut step)?;
            ending = epoch_ending;
            model::average_buffers(self.backbone, self.group)?;
            let scores = evaluate(self.backbone, &self.val, &self.normalize, self.world.control())?;
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
        for batch in batches.by_ref().take(last_step - first_step) {
            let (pictures, labels) = (self.normalize.pictures(&batch), self.normalize.labels(&batch));
            let loss = self.ddp.forward(|| self.backbone.forward(&pictures, true).cross_entropy_for_logits(&labels))?;
            self.ddp.zero_grad();
            loss.f_backward()?;
            self.optimizer.step(self.schedule.learning_rate(*step))?;
            *step += 1;
            losses.push(loss.detach());
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
        let Self { metrics, backbone, output, .. } = self;
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

fn process_group(world: &World, device: Device) -> anyhow::Result<ProcessGroup> {
    if device != Device::Cpu {
        return Err(usage("--device: this build averages gradients over MPI in host memory only; use --device cpu"));
    }
    Ok(ProcessGroup::host(Box::new(MpiCollectives(world.channel("gradients")?)))?)
}

fn optimizer(backbone: &Backbone, plan: &Plan) -> Sgd {
    let parameters = backbone.trained().into_iter().map(|(_, parameter)| parameter).collect();
    let training = &plan.training;
    let config =
        SgdConfig { momentum: training.momentum, nesterov: training.nesterov, weight_decay: training.weight_decay };
    Sgd::new(parameters, config)
}

fn schedule(plan: &Plan, samples: usize) -> Schedule {
    let steps_per_epoch = samples / plan.batch.global();
    let total_steps = steps_per_epoch * plan.training.epochs;
    Schedule {
        peak: plan.training.lr,
        warmup_steps: (plan.training.warmup_epochs * steps_per_epoch as f64).round() as usize,
        total_steps: plan.training.max_steps.unwrap_or(total_steps).min(total_steps),
    }
}

fn describe(world: &World, plan: &Plan, backbone: &Backbone, dataset: &dataset::Dataset, output: &Path) {
    let cost = backbone.network().cost(plan.image_size, plan.image_size);
    let cost = cost.map_or(String::new(), |cost| {
        format!(", {:.2} M parameters, {:.3} GMACs a picture", cost.parameters as f64 / 1e6, cost.macs as f64 / 1e9)
    });
    log::info!("{} at {}×{} pixels{cost}", plan.architecture.name, plan.image_size, plan.image_size);
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
