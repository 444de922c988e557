//! The plan as a table, or as JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::layouts::Plan;
use super::scaling::Model;
use crate::cli::{Format, PlanArgs};
use crate::memory::{Accelerator, Bytes, Estimate};

const BOLD: anstyle::Style = anstyle::Style::new().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

pub(super) fn write(
    out: &mut dyn Write,
    args: &PlanArgs,
    plan: &Plan,
    estimate: Option<&Estimate>,
    accelerator: Option<&Accelerator>,
    model: &Model,
) -> io::Result<()> {
    if args.format == Format::Json {
        #[derive(Serialize)]
        struct Out<'a> {
            batch: usize,
            #[serde(flatten)]
            plan: &'a Plan,
            estimate: Option<&'a Estimate>,
        }
        serde_json::to_writer_pretty(&mut *out, &Out { batch: args.batch, plan, estimate })?;
        return writeln!(out);
    }
    if plan.rows.is_empty() {
        writeln!(out, "no layout of {} numbers of GPUs works for a batch of {}", plan.tried, args.batch)?;
        if let (Some(estimate), Some(accelerator)) = (estimate, accelerator) {
            let (safe, optimistic) = estimate.largest_micro(accelerator.bytes);
            writeln!(
                out,
                "{} holds micro-batches of {safe} surely, {optimistic} at best; more --max-accumulation may help",
                accelerator.name
            )?;
        } else {
            writeln!(out, "ranks must divide the batch, and fill their nodes of {}", args.gpus_per_node)?;
        }
        return Ok(());
    }
    write!(out, "{BOLD}{:>6} {:>6} {:>12} {:>13}", "nodes", "ranks", "micro-batch", "accumulation")?;
    let shares = plan.rows.iter().any(|row| row.memory_share.is_some());
    let scales = plan.rows.iter().any(|row| row.efficiency.is_some());
    if shares {
        write!(out, " {:>8}", "memory")?;
    }
    if scales {
        write!(out, " {:>11} {:>11}", "efficiency", "images/s")?;
    }
    writeln!(out, "{BOLD:#}")?;
    for row in &plan.rows {
        write!(out, "{:>6} {:>6} {:>12} {:>13}", row.nodes, row.ranks, row.micro_batch, row.accumulation)?;
        if let Some(share) = row.memory_share {
            write!(out, " {:>6.0} %", share * 100.0)?;
        }
        if let (Some(efficiency), Some(speed)) = (row.efficiency, row.samples_per_second) {
            write!(out, " {:>9.1} % {:>11.0}", efficiency * 100.0, speed)?;
        }
        writeln!(out)?;
    }
    if plan.working > plan.rows.len() {
        writeln!(out, "{DIM}{} of {} layouts that work; --rows shows more{DIM:#}", plan.rows.len(), plan.working)?;
    }
    if let Some(estimate) = estimate {
        let memory = accelerator.map(|accelerator| format!(" of {}'s {}", accelerator.name, Bytes(accelerator.bytes)));
        writeln!(
            out,
            "\nmemory: {} for states and overhead, {} for each image{}",
            Bytes(estimate.states + estimate.overhead),
            estimate.activations,
            memory.unwrap_or_default(),
        )?;
        writeln!(
            out,
            "efficiency: computing at {:.0} TFLOP/s, ring all-reduce at {:.1} GB/s for each GPU with {:.0} µs a message,",
            model.flops_per_second / 1e12,
            model.bytes_per_second / 1e9,
            model.latency_seconds * 1e6,
        )?;
        writeln!(out, "hidden behind backward as far as it goes: a model to compare layouts with, not a promise")?;
    }
    Ok(())
}
