//! The resolved layout as rows: name, value, origin.

use crate::origin::{Origin, Shown, Sourced};
use crate::subject::{Layout, Subject};

/// One value of the layout.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) origin: Shown,
}

/// The rows of every component: one set for each, by its first number of nodes.
pub(super) fn rows(subject: &Subject<'_>) -> Vec<Vec<Row>> {
    let components = 0..subject.jobs.len();
    let first = |component| subject.layouts.iter().find(|layout| layout.component == component);
    components.filter_map(first).map(|layout| rows_of(subject, layout)).collect()
}

fn rows_of(subject: &Subject<'_>, layout: &Layout) -> Vec<Row> {
    let script = subject.script.as_ref().map(|file| (file.name.as_str(), file.script.text()));
    let mut rows = Vec::new();
    let mut row = |name, value: String, origin: &Origin| {
        rows.push(Row { name, value, origin: origin.shown(script) });
    };
    let job = &subject.jobs[layout.component];
    let training = &subject.training;
    match &job.nodes {
        Some(nodes) if nodes.value.is_exact() => row("nodes", layout.placement.nodes.to_string(), &nodes.origin),
        Some(nodes) => row("nodes", format!("{} to {}", nodes.value.min, nodes.value.max), &nodes.origin),
        None if job.tasks.is_some() && job.tasks_per_node.is_some() => {
            row("nodes", layout.placement.nodes.to_string(), &Origin::Derived("tasks / tasks per node"));
        }
        None => {
            let counted = layout.placement.tasks.origin == Origin::Ranks;
            let origin = if counted { Origin::Ranks } else { Origin::Default };
            row("nodes", layout.placement.nodes.to_string(), &origin);
        }
    }
    if subject.script.is_some() {
        row("tasks", layout.placement.tasks.value.to_string(), &layout.placement.tasks.origin);
        if let Some(cpus) = &job.cpus_per_task {
            row("CPUs per task", cpus.value.to_string(), &cpus.origin);
        }
    }
    row("CUDA devices per node", layout.devices.value.to_string(), &layout.devices.origin);
    if subject.script.is_some() {
        let memory = [&job.memory_per_node, &job.memory_per_cpu, &job.memory_per_gpu];
        let names = ["memory per node", "memory per CPU", "memory per GPU"];
        for (memory, name) in memory.into_iter().zip(names) {
            if let Some(memory) = memory {
                row(name, memory.value.to_string(), &memory.origin);
            }
        }
        if let Some(time) = &job.time {
            row("time limit", time.value.to_string(), &time.origin);
        }
    }
    let device = if layout.on_cpu { "cpu" } else { "cuda" };
    let device_origin = training.device.as_ref().filter(|device| !device.value.is_empty());
    row("device of each rank", device.to_owned(), device_origin.map_or(&Origin::Default, |device| &device.origin));
    row("ranks per node", layout.ranks_per_node.value.to_string(), &layout.ranks_per_node.origin);
    row("ranks", layout.ranks.value.to_string(), &layout.ranks.origin);
    let batch = layout.batch.as_ref().and_then(|batch| batch.as_ref().ok());
    if training.batch.is_some() || training.micro_batch.is_some() {
        let accumulation = training.accumulation.clone().or_else(|| {
            let solved = batch?.accumulation();
            let origin = if solved == 1 { Origin::Default } else { Origin::Derived("batch / ranks / micro-batch") };
            Some(Sourced::new(solved, origin))
        });
        if let Some(accumulation) = accumulation {
            row("accumulation", accumulation.value.to_string(), &accumulation.origin);
        }
        match (&training.batch, batch) {
            (Some(given), _) => row("batch", given.value.to_string(), &given.origin),
            (None, Some(solved)) => {
                row("batch", solved.global().to_string(), &Origin::Derived("micro-batch × accumulation × ranks"));
            }
            (None, None) => {}
        }
        if let Some(batch) = batch {
            let origin = training.micro_batch.as_ref().map(|micro| micro.origin.clone());
            let origin = origin.unwrap_or(Origin::Derived("batch / ranks / accumulation"));
            row("batch per rank", batch.micro().to_string(), &origin);
        }
    }
    rows
}
