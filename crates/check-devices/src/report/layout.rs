//! The resolved layout as rows: name, value, origin.

use crate::number::Number;
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
    // A number that is not known shows why instead of where it comes from.
    fn of(number: &Number, origin: &Origin) -> Origin {
        number.reason().map_or_else(|| origin.clone(), |reason| Origin::Unknown(reason.clone()))
    }
    let job = &subject.jobs[layout.component];
    let training = &subject.training;
    if let Some(scheduler) = subject.scheduler() {
        row("scheduler", scheduler.name().to_owned(), &Origin::Derived("by the script's directives"));
    }
    match &job.nodes {
        Some(nodes) if nodes.value.is_exact() => row("nodes", layout.placement.nodes.to_string(), &nodes.origin),
        Some(nodes) => row("nodes", format!("{} to {}", nodes.value.min, nodes.value.max), &nodes.origin),
        None if job.tasks.is_some() && job.tasks_per_node.is_some() => {
            row("nodes", layout.placement.nodes.to_string(), &Origin::Derived("tasks / tasks per node"));
        }
        None => {
            let counted = layout.placement.tasks.origin == Origin::Ranks;
            let origin = if counted { Origin::Ranks } else { Origin::Default };
            let nodes = &layout.placement.nodes;
            row("nodes", nodes.to_string(), &of(nodes, &origin));
        }
    }
    if subject.script.is_some() {
        let tasks = &layout.placement.tasks;
        row("tasks", tasks.value.to_string(), &of(&tasks.value, &tasks.origin));
        if let Some(cpus) = &job.cpus_per_task {
            row("CPUs per task", cpus.value.to_string(), &cpus.origin);
        }
    }
    let devices = &layout.devices;
    row("CUDA devices per node", devices.value.to_string(), &of(&devices.value, &devices.origin));
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
    let is_known = layout.devices.value.exactly().is_some() || training.device.is_some();
    let device = match layout.on_cpu {
        true => "cpu",
        false if is_known => "cuda",
        false => "unknown",
    };
    let device_origin = training.device.as_ref().filter(|device| !device.value.is_empty());
    row("device of each rank", device.to_owned(), device_origin.map_or(&Origin::Default, |device| &device.origin));
    for (name, ranks) in [("ranks per node", &layout.ranks_per_node), ("ranks", &layout.ranks)] {
        row(name, ranks.value.to_string(), &of(&ranks.value, &ranks.origin));
    }
    let batch = layout.shares();
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

/// A command and what it starts.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct StartRow {
    /// The line of the script.
    pub(super) line: usize,
    /// The launchers, outermost first.
    pub(super) launchers: Vec<&'static str>,
    /// The program, where it is known.
    pub(super) program: Option<String>,
    /// The ranks of one training.
    pub(super) ranks: String,
    /// Why they are not known, or why it may not run.
    pub(super) unknown: Option<String>,
    /// Whether it is the one that trains.
    pub(super) trains: bool,
}

/// What the commands of the script start.
pub(super) fn starts(subject: &Subject<'_>) -> Vec<StartRow> {
    let Some(file) = &subject.script else { return Vec::new() };
    let named = Some((file.name.as_str(), file.script.text()));
    let start = |(index, (launch, processes)): (usize, (&crate::commands::Launch, &crate::commands::Processes))| {
        let ranks = &processes.total;
        let reason = ranks.reason().or(launch.doubt.as_ref());
        (!launch.is_bystander()).then(|| StartRow {
            line: source_text::Position::of(file.script.text(), launch.span.start).line,
            launchers: launch.steps.iter().map(|step| step.launcher.name).collect(),
            program: launch.program_name().map(str::to_owned),
            ranks: ranks.to_string(),
            unknown: reason.map(|reason| crate::origin::in_words(reason, named)),
            trains: file.main_launch == Some(index),
        })
    };
    subject.started().enumerate().filter_map(start).collect()
}
