//! `plan`: the layouts that work, as a table.

mod layouts;
mod scaling;
mod table;

use std::io::Write;

use anyhow::{Context, ensure};
use flags::{PrecisionKind, Recompute};

use crate::cli::PlanArgs;
use crate::memory::{self, Recipe, estimate};
use crate::site::Site;

/// Works the plan out and prints it. Exit status 1 where no layout works.
pub(crate) fn run(args: &PlanArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    ensure!(args.batch > 0, "--batch: must be at least 1");
    ensure!(args.gpus_per_node > 0, "--gpus-per-node: must be at least 1");
    ensure!(args.max_accumulation > 0, "--max-accumulation: must be at least 1");
    ensure!(args.rows > 0, "--rows: must be at least 1");
    let positive = |flag: &str, value: f64| {
        ensure!(value.is_finite() && value > 0.0, "{flag}: must be positive");
        Ok(())
    };
    positive("--latency", args.latency)?;
    args.bandwidth.map_or(Ok(()), |value| positive("--bandwidth", value))?;
    args.speed.map_or(Ok(()), |value| positive("--speed", value))?;
    let gpus = layouts::gpu_counts(&args.gpus).context("--gpus")?;
    let site = Site::load(args.site.as_deref(), &|name| std::env::var(name).ok())?;
    let training = &args.training;
    for (flag, count) in [("--classes", training.classes), ("--channels", training.channels)] {
        anyhow::ensure!(count != Some(0), "{flag}: must be at least 1");
    }
    let accelerator = training.accelerator.as_deref();
    let accelerator = accelerator.map(|name| memory::accelerator(name, &site).context("--gpu")).transpose()?;
    let run = training.run.of_a_run()?;
    let precision = run.precision;
    let recipe = Recipe {
        model: &run.model,
        image_size: run.data.images.image_size,
        classes: training.classes,
        channels: training.channels,
        optimizer: run.optimization.optimizer,
        momentum: run.optimization.momentum,
        precision,
        zero: run.zero,
        ema: run.optimization.ema.is_some_and(|decay| decay > 0.0)
            || run.optimization.swa.is_some_and(|last| last > 0)
            || run.optimization.optimizer.evaluates_average(),
        recompute: run.recompute == Recompute::Blocks,
        auxiliary: run.aux_loss,
        teacher: run.distillation.teacher_model.as_deref(),
    };
    let estimate = training.run.gives("model").then(|| estimate(&recipe, 1).context("--model")).transpose()?;
    let model = scaling::Model {
        gpus_per_node: args.gpus_per_node,
        bytes_per_second: args.bandwidth.map_or(25e9 / args.gpus_per_node as f64, |gigabytes| gigabytes * 1e9),
        latency_seconds: args.latency * 1e-6,
        flops_per_second: args
            .speed
            .map_or(if precision == PrecisionKind::Fp32 { 10e12 } else { 40e12 }, |tera| tera * 1e12),
    };
    let memory_bytes = accelerator.as_ref().map(|accelerator| accelerator.bytes);
    let plan = layouts::plan(args, &gpus, estimate.as_ref(), memory_bytes, &model);
    table::write(out, args, &plan, estimate.as_ref(), accelerator.as_ref(), &model)?;
    Ok(u8::from(plan.rows.is_empty()))
}
