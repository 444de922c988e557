//! The verb `bench`: how fast a run is on several numbers of ranks, and where the time of a step goes; for whoever applies
//! for computing time.
//!
//! One job measures all of them: for each number the job's first ranks form a world of their own, and the others wait.
//! What is measured is the trainer's own step on the run's own data, in windows of a fixed number of steps. Each rank
//! keeps its device and its threads, however many take part.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use dataset::{Batch, Batches, Loader};
use flags::BenchArgs;
use report::{Mode, Point, Scaling};
use tch::Device;
use world::{Signals, World};

use crate::commands::teacher::LoadedTeacher;
use crate::commands::train;
use crate::config::plan::Plan;
use crate::data::normalize::Normalize;
use crate::data::statistics::normalization_of;
use crate::distributed::process_group;
use crate::distributed::synchronization::{Agreement, Pass};
use crate::distributed::time_limit::TimeLimit;
use crate::errors::{RunOutcome, agree, interrupted, to_failure, usage};
use crate::model;
use crate::model::BuildContext;
use crate::model::objective::Objective;
use crate::observe::clock;
use crate::observe::stdout::print;
use crate::observe::timeline::Timeline;
use crate::observe::timers::Work;
use crate::optim::schedule::Rate;
use crate::program::Program;
use crate::run::directory;
use crate::run::results;
use crate::task::{self, Task};
use crate::trainer::job::Job;
use crate::trainer::step::{Launched, StepInput, TrainStep};

/// Steps before the first window, at least: gradients are put in buckets anew after the first, libraries try their
/// algorithms in the next.
const WARM_UP_STEPS: usize = 5;
const WARM_UP: Duration = Duration::from_secs(1);

/// What every number of ranks is measured with.
struct Bench<'a> {
    args: &'a BenchArgs,
    mode: Mode,
    job: Job<'a>,
    train: Arc<dataset::ImageSet>,
    task: &'a dyn Task,
    context: BuildContext,
    program: &'a Program,
}

/// Measures as the flags say, prints the table, and writes the files. Collective.
pub(crate) fn run(args: &BenchArgs, world: &World, program: &Program) -> anyhow::Result<RunOutcome> {
    let counts = agree(world, counts(args, world.size()))?;
    let mode = if args.strong { Mode::Strong } else { Mode::Weak };
    let plans: anyhow::Result<Vec<_>> =
        counts.iter().map(|&ranks| plan(args, mode, ranks, world.size(), program)).collect();
    let plans = agree(world, plans)?;
    let largest = plans.last().context("there is a number of ranks")?;
    let job = Job::set_up(world, largest)?;

    let (dataset, (context, teacher)) =
        train::prepare(&job, program, |context, listed| Ok((*context, LoadedTeacher::load(&job, listed)?)))?;
    let name = format!("bench-{}", largest.name());
    let output = directory::create_named(world, largest.flags.output.as_deref(), &name)?;
    let normalization = {
        let usual = &largest.images.usual_normalization;
        normalization_of(world, &largest.flags.data.images, usual, &dataset, job.cores)?
    };
    let plans: anyhow::Result<Vec<_>> =
        plans.iter().map(|plan| plan.of_images(&dataset.train, normalization.clone())).collect();
    let plans = agree(world, plans)?;
    let largest = plans.last().context("there is a number of ranks")?;
    let job = Job { plan: largest, ..job };
    let of_flags = task::of_flags(&largest.flags, &dataset, job.device);
    let task = program.task.as_deref().unwrap_or(&*of_flags);
    let teacher = agree(world, teacher.map(|teacher| teacher.of_images(largest)).transpose())?;
    let task = &Objective::new(task, largest, teacher);
    let bench = Bench { args, mode, job, train: Arc::new(dataset.train), task, context, program };
    let mut points = Vec::new();
    for plan in &plans {
        points.push(bench.point(world, plan)?);
        if world.rank() == 0
            && let Some(point) = points.last()
        {
            let Point { ranks, batch, images_per_second, .. } = point;
            log::info!("ranks × images {ranks} × {}: {images_per_second:.0} images/s", batch / ranks);
        }
    }
    let scaling = bench.scaling(largest, points);
    let written = if world.rank() == 0 { write(&output, &scaling) } else { Ok(()) };
    agree(world, written)?;
    Ok(RunOutcome::Complete)
}

/// The numbers of ranks, smallest first.
fn counts(args: &BenchArgs, size: usize) -> anyhow::Result<Vec<usize>> {
    let mut counts = args.ranks.clone();
    if counts.is_empty() {
        counts = std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|&count| count < size).collect();
        counts.push(size);
    }
    counts.sort_unstable();
    counts.dedup();
    if counts[0] == 0 {
        return Err(usage("--ranks 0: must be at least 1"));
    }
    if let Some(more) = counts.iter().find(|&&count| count > size) {
        return Err(usage(format!(
            "--ranks {more}: the job has {size}; start as many as the largest number with mpirun -n"
        )));
    }
    if args.train.virtual_ranks.is_some() && !args.strong {
        return Err(usage("--virtual-ranks: its parts are of one batch; add --strong"));
    }
    if args.windows == 0 {
        return Err(usage("--windows: must be at least 1"));
    }
    if !(args.window > 0.0 && args.window.is_finite()) {
        return Err(usage(format!("--window {}: must be a number of seconds above 0", args.window)));
    }
    Ok(counts)
}

/// The plan for `ranks` of the job's `size`.
fn plan(args: &BenchArgs, mode: Mode, ranks: usize, size: usize, program: &Program) -> anyhow::Result<Plan> {
    let whole = Plan::new(&args.train, size, program.own())?;
    let batch = match mode {
        Mode::Strong => whole.batch.global(),
        Mode::Weak => whole.batch.global() / size * ranks,
    };
    let mut train = args.train.clone();
    train.batch.images = batch;
    Plan::new(&train, ranks, program.own())
}

fn write(output: &std::path::Path, scaling: &Scaling) -> anyhow::Result<()> {
    print(&scaling.table())?;
    results::write(output, "scaling.json", || Ok(serde_json::to_string_pretty(scaling)?))?;
    results::write(output, "scaling.csv", || Ok(scaling.csv()))?;
    results::write(output, "scaling.svg", || Ok(scaling.throughput().file()))?;
    results::write(output, "scaling.html", || Ok(scaling.page()))?;
    log::info!("results in {}", output.display());
    Ok(())
}

impl Bench<'_> {
    /// One number of ranks; every rank of `world` gets the same. Collective.
    fn point(&self, world: &World, plan: &Plan) -> anyhow::Result<Point> {
        let ranks = plan.batch.ranks();
        let measured = match world.first(ranks)? {
            Some(part) => self.measure(&part, plan).map(Some),
            None => Ok(None),
        };
        // What the part has agreed on the others have not heard of.
        let point = world.agree(measured.map_err(|error| match error.downcast_ref() {
            Some(world::Error::Agreed(verdict)) => verdict.failure.clone(),
            _ => to_failure(&error),
        }))?;
        let bytes = world
            .from_rank_zero("telling what was measured", || serde_json::to_vec(&point).map_err(world::Failure::new))?;
        serde_json::from_slice::<Option<Point>>(&bytes)?.context("rank 0 takes part in all of it")
    }

    /// Trains for a while on all ranks of `world`. Collective.
    fn measure(&self, world: &World, plan: &Plan) -> anyhow::Result<Point> {
        let job = Job { world, plan, ..self.job };
        let weights = train::weights(world, plan)?;
        let own = self.program.model.as_ref();
        let mut model = model::build::build(world, plan, own, weights.as_deref(), &self.context)?;
        let timeline = Timeline::exact(job.device);
        let group = process_group::connect(world, job.device, &job.plan.flags, &timeline)?;
        let step = job.train_step(&mut *model, &group, &timeline, plan.frozen_epochs == usize::MAX)?;
        let signals = agree(world, Signals::install().context("installing signal handlers"))?;
        let loader = job.loader(Arc::clone(&self.train));
        let mut runner = Runner {
            train_step: step,
            agreement: Agreement::new(world, signals, TimeLimit::NONE),
            normalize: Normalize::new(job.device, job.plan.training.memory_format),
            task: self.task,
            // A loss that runs away is not a measurement.
            rate: Rate { lr: plan.training.learning_rate.peak * 1e-3, momentum: None, decay: None },
            batches: loader.train(0, 0),
            loader,
            epoch: 0,
            step: 0,
        };
        let steps = self.steps_per_window(world, &mut runner)?;
        let mut windows = Vec::new();
        for _ in 0..self.args.windows {
            world.control().barrier()?;
            let (begin, before) = (clock::synchronized(self.job.device), timeline.spent());
            runner.steps(steps)?;
            let took = clock::synchronized(self.job.device) - begin;
            let speed = (steps * plan.batch.global()) as f64 / took.as_secs_f64();
            windows.push((speed, (timeline.spent() - before).parts(steps, took)));
        }
        drop(runner); // with it recorded steps, which NCCL would wait for
        process_group::disconnect(&group);
        windows.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (images_per_second, parts) = windows[windows.len() / 2];
        Ok(Point {
            ranks: world.size(),
            nodes: world.nodes(),
            batch: plan.batch.global(),
            images_per_second,
            slowest: windows[0].0,
            fastest: windows[windows.len() - 1].0,
            parts,
        })
    }

    /// Warms up, and gives the number of steps that a window takes, by rank 0's clock. Collective.
    fn steps_per_window(&self, world: &World, runner: &mut Runner<'_>) -> anyhow::Result<usize> {
        runner.steps(WARM_UP_STEPS)?;
        let begin = Instant::now();
        runner.steps(WARM_UP_STEPS)?;
        let mut step =
            [clock::synchronized(self.job.device).duration_since(begin).as_secs_f64() / WARM_UP_STEPS as f64];
        world.control().broadcast(&mut step, 0)?;
        let steps_in = |seconds: f64| ((seconds / step[0]).ceil() as usize).max(1);
        runner.steps(steps_in(WARM_UP.as_secs_f64()))?;
        Ok(steps_in(self.args.window))
    }

    fn scaling(&self, plan: &Plan, points: Vec<Point>) -> Scaling {
        let side = plan.images.image_size;
        let fact = |name: &str, value: String| (name.to_owned(), value);
        let device = match self.job.device {
            Device::Cuda(_) => "CUDA".to_owned(),
            _ => format!("CPU, {} threads a rank", self.job.threads),
        };
        let mut machine = vec![fact("device", device)];
        machine.extend(results::versions());
        machine.push(fact("command", command_line()));
        Scaling {
            mode: self.mode,
            subject: format!("{} at {side}×{side} pixels", plan.flags.model),
            machine,
            windows: self.args.windows,
            points,
        }
    }
}

/// The command line, as far as it is text.
fn command_line() -> String {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Makes steps, one after the other, over as many epochs as it takes.
struct Runner<'a> {
    train_step: TrainStep<'a>,
    agreement: Agreement<'a>,
    normalize: Normalize,
    task: &'a dyn Task,
    rate: Rate,
    loader: Loader,
    batches: Batches,
    epoch: u64,
    step: usize,
}

impl Runner<'_> {
    /// Makes `count` steps. Collective.
    fn steps(&mut self, count: usize) -> anyhow::Result<()> {
        let mut under_way: Option<Launched> = None;
        for _ in 0..count {
            let timeline = self.train_step.timeline;
            let batch = timeline.span(Work::Data, || next(&self.loader, &mut self.batches, &mut self.epoch))?;
            let batch = Rc::new(batch);
            let images = self.normalize.images(&batch)?;
            let targets = self.train_step.targets(self.task, &batch, &images)?;
            let input = StepInput { images, targets, number: self.step, rate: self.rate };
            // Each stands for itself: a loss that is no number ends no measurement.
            let next = self.train_step.launch(self.task, &input, || self.agreement.wish(), None)?;
            self.step += 1;
            // Ranks that take no part wait; what they hear of signals, the next step's agreement reads.
            let _ = world::report(self.step as u64, 0, "steps");
            // As the trainer: while the device makes this step, the one before it is looked at.
            under_way.replace(next).map_or(Ok(()), |earlier| self.settle(&earlier))?;
        }
        under_way.map_or(Ok(()), |last| self.settle(&last))
    }

    fn settle(&self, launched: &Launched) -> anyhow::Result<()> {
        if self.train_step.is_on_device() {
            self.agreement.meet()?;
        }
        let outcome = launched.outcome()?;
        let agreed = self.agreement.agree(outcome.pass, outcome.is_made, outcome.wish)?;
        if agreed.stop.is_some() {
            return Err(interrupted("measuring; no results are written"));
        }
        if agreed.pass == Pass::OutOfMemory {
            bail!("out of memory: --accumulate computes in smaller parts");
        }
        Ok(())
    }
}

/// The next batch, of the next epoch if need be.
fn next(loader: &Loader, batches: &mut Batches, epoch: &mut u64) -> anyhow::Result<Batch> {
    if let Some(batch) = batches.next() {
        return Ok(batch?);
    }
    *epoch += 1;
    *batches = loader.train(*epoch, 0);
    Ok(batches.next().context("there is a batch in every epoch")??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn args(flags: &str) -> BenchArgs {
        let words = ["rust-train", "bench"].into_iter().chain(flags.split_whitespace());
        match flags::Cli::try_parse_from(words).unwrap().command {
            Some(flags::Command::Bench(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_of_ranks_are_those_that_the_job_can_give() {
        let numbers = |flags: &str, size| counts(&args(flags), size).map_err(|error| error.to_string());
        assert_eq!(numbers("", 6), Ok(vec![1, 2, 4, 6]));
        assert_eq!(numbers("", 1), Ok(vec![1]));
        assert_eq!(numbers("--ranks 4,1,4", 4), Ok(vec![1, 4]));
        let refused = [
            ("--ranks 0,1", "--ranks 0: must be at least 1"),
            ("--ranks 8", "--ranks 8: the job has 4"),
            ("--windows 0", "--windows: must be at least 1"),
            ("--window 0", "--window 0: must be a number of seconds above 0"),
        ];
        for (flags, words) in refused {
            assert!(numbers(flags, 4).unwrap_err().starts_with(words), "{flags}");
        }
    }

    #[test]
    fn the_batch_grows_in_weak_scaling_alone() {
        let batches = |flags: &str, mode| {
            let args = args(flags);
            [1, 2, 4].map(|ranks| plan(&args, mode, ranks, 4, &Program::new()).unwrap().batch.global())
        };
        assert_eq!(batches("--batch 64", Mode::Weak), [16, 32, 64]);
        assert_eq!(batches("--batch 64", Mode::Strong), [64, 64, 64]);
        assert!(plan(&args("--batch 63"), Mode::Weak, 1, 4, &Program::new()).is_err(), "the ranks cannot share it");
    }
}
