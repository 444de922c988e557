//! B01, B02, B12, B13: global = micro × accumulation × ranks.

use layout::{BatchError, SolveError, nearest_divisors, nearest_multiples};

use super::super::need::{exactly, need, ranks, solved};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::number::Number;
use crate::origin::Sourced;
use crate::subject::Subject;
use crate::words::plural;

pub(crate) const B01: Check = Check {
    id: "B01",
    title: "the ranks cannot share the batch evenly",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Every rank computes the same number of samples in a step: the global batch is a multiple of ranks × \
                  accumulation. Ranks with different shares weigh samples differently, or wait for each other for ever.",
    source: "global = micro × accumulation × ranks",
    run: |subject| {
        if subject.jobs.len() > 1 {
            return Outcome::skip("a heterogeneous job: B13 judges it");
        }
        let layout = subject.first_layout();
        if subject.layouts.len() > 1 && layout.batch.is_some() {
            return Outcome::skip("the number of nodes is a range: L10 judges it");
        }
        let batch = need!(solved(layout));
        let Err(SolveError::Uneven(error @ BatchError::Uneven { global, ranks, accumulation })) = batch else {
            return Outcome::Pass;
        };
        Outcome::of([uneven(*global, *ranks, *accumulation, error)
            .at(subject.batch_span(), "")
            .at(layout.ranks.span(), plural(*ranks, "rank"))])
    },
};

fn uneven(global: usize, ranks: usize, accumulation: usize, error: &BatchError) -> Finding {
    let list = |values: &[usize]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let message = error.to_string();
    let message = message.split(';').next().unwrap_or_default().to_owned();
    let step = ranks.saturating_mul(accumulation);
    let finding =
        Finding::error(message).help(format!("nearest batches that fit: {}", list(&nearest_multiples(global, step))));
    if global.is_multiple_of(accumulation) {
        let worlds = nearest_divisors(global / accumulation, ranks);
        return finding.help(format!("nearest numbers of ranks for {global}: {}", list(&worlds)));
    }
    finding
}

pub(crate) const B02: Check = Check {
    id: "B02",
    title: "batch, micro-batch, accumulation and ranks contradict each other",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "With three of the four the other one follows; with all four given, their product must be the global batch.",
    source: "global = micro × accumulation × ranks",
    run: |subject| {
        let batch = need!(solved(subject.first_layout()));
        let Err(SolveError::Contradiction { global, micro, accumulation, ranks }) = batch else { return Outcome::Pass };
        let product = micro.saturating_mul(*accumulation).saturating_mul(*ranks);
        let mut finding = Finding::error(format!(
            "a batch of {global} is not {micro} × {accumulation} × {} = {product}",
            plural(*ranks, "rank")
        ))
        .at(subject.batch_span(), "")
        .help(format!("--batch {product}"));
        let step = ranks.saturating_mul(*micro);
        if step > 0 && global.is_multiple_of(step) {
            finding = finding.help(format!("--accumulate {}", global / step));
        }
        let step = ranks.saturating_mul(*accumulation);
        if step > 0 && global.is_multiple_of(step) {
            finding = finding.help(format!("--micro-batch {}", global / step));
        }
        Outcome::of([finding])
    },
};

pub(crate) const B12: Check = Check {
    id: "B12",
    title: "an automatic batch with several ranks",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "--batch -1 lets one process try out what fits into its memory. With several ranks each finds another \
                  number, and the program breaks or the shares differ.",
    source: "ultralytics/yolov5, train.py: AutoBatch is for one GPU",
    run: |subject| {
        let origin = need!(subject.training.auto_batch.as_ref(), "the batch is a number, or is not given");
        let ranks = match &subject.first_layout().ranks.value {
            Number::AtLeast(ranks @ 2.., _) => *ranks,
            _ => need!(ranks(subject)),
        };
        if ranks == 1 {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!("a batch of -1 (automatic) works with one rank, and there are {ranks}"))
            .at(origin.span(), "")
            .help("give a batch; check-devices plan says which fit into memory")])
    },
};

pub(crate) const B13: Check = Check {
    id: "B13",
    title: "the components of a heterogeneous job cannot share the batch",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "A heterogeneous job trains with the ranks of all its components together, and every rank gets the same \
                  share, so the batch must be a multiple of their sum, and the smallest component sets the pace.",
    source: "sbatch(1), hetjob; global = micro × accumulation × ranks",
    run: |subject| {
        if subject.jobs.len() < 2 {
            return Outcome::skip("the job has one component");
        }
        let batch = need!(subject.training.batch.as_ref(), "no batch is given");
        let first = |component| subject.layouts.iter().find(|layout| layout.component == component);
        let mut ranks = Vec::new();
        for layout in (0..subject.jobs.len()).filter_map(first) {
            ranks.push(need!(exactly(&layout.placement.tasks.value)));
        }
        let sum = ranks.iter().copied().fold(0usize, usize::saturating_add);
        let accumulation = subject.training.accumulation.as_ref().map_or(1, |accumulation| accumulation.value);
        let Err(error) = layout::BatchLayout::of_global(batch.value, sum, accumulation) else { return Outcome::Pass };
        let parts: Vec<_> = ranks.iter().map(ToString::to_string).collect();
        Outcome::of([uneven(batch.value, sum, accumulation, &error).at(batch.span(), "").at(
            subject.script.as_ref().and_then(|file| file.script.separators().first().copied()),
            format!("ranks: {}", parts.join(" + ")),
        )])
    },
};

/// Where the micro-batch or the batch stands.
pub(super) fn micro_span(subject: &Subject<'_>) -> Option<source_text::Span> {
    subject.training.micro_batch.as_ref().and_then(Sourced::span).or_else(|| subject.batch_span())
}
