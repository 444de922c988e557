//! How losses, scores and speed went.

use maud::{Markup, html};

use crate::chart::{Axis, Chart, Colour, Series, Shape, thin};
use crate::{EpochLine, Metric, Metrics, Run, StepLine};

/// Points of a curve at most: about one for each second pixel.
const MOST_POINTS: usize = 250;
/// More points than this are a line without dots.
const MOST_DOTS: usize = 40;

pub(super) fn figures(run: &Run) -> Markup {
    let metrics = &run.metrics;
    let scores = run.metrics();
    let last = metrics.epochs_at(metrics.steps.len());
    let mut over_epochs = vec![loss(metrics, is_cross_entropy(&scores))];
    over_epochs.extend(scored(metrics, &scores));
    over_epochs.extend([rate(metrics), speed(metrics), time(metrics)]);
    over_epochs.iter_mut().for_each(|chart| chart.x.includes.push(last));
    html! {
        div.charts {
            @for chart in &over_epochs { (chart.figure()) }
            @if let Some(deciding) = scores.first() { (score_over_time(metrics, deciding).figure()) }
        }
    }
}

/// What is told apart is learned by its cross-entropy.
fn is_cross_entropy(scores: &[Metric]) -> bool {
    scores.is_empty() || scores.iter().any(|metric| metric.name == "top1")
}

fn chart(title: &str, y: Axis, series: Vec<Series>) -> Chart {
    Chart { title: title.to_owned(), x: Axis::new("epoch").from_zero(), y, series }
}

/// A value of every step, over epochs.
fn of_steps(metrics: &Metrics, value: impl Fn(&StepLine) -> f64) -> Vec<(f64, f64)> {
    let point = |(index, line): (usize, &StepLine)| (metrics.epochs_at(index + 1), value(line));
    metrics.steps.iter().enumerate().map(point).collect()
}

/// A value of every epoch, at its end.
fn of_epochs(metrics: &Metrics, value: impl Fn(&EpochLine) -> f64) -> Shape {
    let points: Vec<_> = metrics.epochs.iter().map(|(line, end)| (metrics.epochs_at(*end), value(line))).collect();
    dotted(points)
}

/// Few points have dots.
pub(super) fn dotted(points: Vec<(f64, f64)>) -> Shape {
    if points.len() <= MOST_DOTS { Shape::Dotted(points) } else { Shape::Line(points) }
}

fn loss(metrics: &Metrics, is_cross_entropy: bool) -> Chart {
    let buckets = thin(&of_steps(metrics, |line| line.loss), MOST_POINTS);
    let mean = buckets.iter().map(|bucket| (bucket.x, bucket.mean)).collect();
    let spread = buckets.iter().map(|bucket| (bucket.x, bucket.low, bucket.high)).collect();
    let series = vec![
        Series::new("", Colour::Blue, Shape::Band(spread)),
        Series::new("training", Colour::Blue, Shape::Line(mean)),
        Series::new("validation", Colour::Orange, of_epochs(metrics, |line| line.val_loss)),
    ];
    let unit = if is_cross_entropy { "cross-entropy" } else { "loss" };
    chart("Loss", Axis::new(unit).from_zero(), series)
}

/// The scores: shares together, and each of the others by itself.
fn scored(metrics: &Metrics, scores: &[Metric]) -> Vec<Chart> {
    let colours = [Colour::Orange, Colour::Sky, Colour::Green, Colour::Purple];
    let series = |(metric, colour): (&Metric, Colour)| {
        Series::new(&metric.title, colour, of_epochs(metrics, |line| line.scores.get(&metric.name)))
    };
    let coloured = || scores.iter().zip(colours.into_iter().cycle());
    let shares: Vec<_> = coloured().filter(|(metric, _)| metric.is_share).collect();
    let alone = coloured().filter(|(metric, _)| !metric.is_share);
    let alone = alone.map(|(metric, _)| {
        let line = series((metric, Colour::Orange));
        chart(
            &format!("{} on validation samples", capitalized(&metric.title)),
            Axis::new("mean").from_zero(),
            vec![line],
        )
    });
    let mut charts = Vec::new();
    if !shares.is_empty() {
        // The deciding one lies on top.
        let lines = shares.into_iter().rev().map(series).collect();
        let title =
            if is_cross_entropy(scores) { "Accuracy on validation samples" } else { "Scores on validation samples" };
        charts.push(chart(title, Axis::percent(share_of(scores)), lines));
    }
    charts.extend(alone);
    charts
}

/// What a share of scores is one of.
fn share_of(scores: &[Metric]) -> &'static str {
    if is_cross_entropy(scores) { "correct" } else { "score" }
}

pub(super) fn capitalized(title: &str) -> String {
    if title.chars().any(char::is_uppercase) {
        return title.to_owned(); // as mAP
    }
    let mut letters = title.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What a longer run would bring, and at what price: comparable between runs on other machines.
fn score_over_time(metrics: &Metrics, deciding: &Metric) -> Chart {
    let longest = metrics.epochs.last().map_or(0.0, |(line, _)| line.elapsed_seconds);
    let (unit, seconds) = match longest {
        ..300.0 => ("seconds", 1.0),
        ..10_800.0 => ("minutes", 60.0),
        _ => ("hours", 3600.0),
    };
    let points = metrics
        .epochs
        .iter()
        .map(|(line, _)| (line.elapsed_seconds / seconds, line.scores.get(&deciding.name)))
        .collect();
    Chart {
        title: format!("{} over time", capitalized(&deciding.title)),
        x: Axis::new(unit).from_zero(),
        y: if deciding.is_share {
            Axis::percent(share_of(std::slice::from_ref(deciding)))
        } else {
            Axis::new("mean").from_zero()
        },
        series: vec![Series::new(&deciding.title, Colour::Orange, dotted(points))],
    }
}

fn rate(metrics: &Metrics) -> Chart {
    let points = thin(&of_steps(metrics, |line| line.lr), MOST_POINTS);
    let points = points.iter().map(|bucket| (bucket.x, bucket.mean)).collect();
    let series = vec![Series::new("learning rate", Colour::Purple, Shape::Line(points))];
    chart("Learning rate", Axis::new("learning rate").from_zero(), series)
}

fn speed(metrics: &Metrics) -> Chart {
    let series = vec![Series::new("all ranks", Colour::Green, of_epochs(metrics, |line| line.images_per_second))];
    chart("Throughput in training", Axis::new("images/s").from_zero(), series)
}

/// One part of an epoch's time, as the shares that it reaches from and to.
type Part = (&'static str, Colour, fn(&EpochLine) -> (f64, f64));

/// Where the time of training goes, stacked: what is neither waited for data nor for other ranks is computing.
fn time(metrics: &Metrics) -> Chart {
    let parts: [Part; 3] = [
        ("computing", Colour::Green, |line| (0.0, 1.0 - line.data_wait - line.communication_wait)),
        ("waiting for ranks", Colour::Blue, |line| {
            (1.0 - line.data_wait - line.communication_wait, 1.0 - line.data_wait)
        }),
        ("waiting for data", Colour::Orange, |line| (1.0 - line.data_wait, 1.0)),
    ];
    let series = parts.map(|(name, colour, share)| {
        // An epoch's share holds from its start to its end.
        let block = |(line, end): &(EpochLine, usize)| {
            let (low, high) = share(line);
            let end = metrics.epochs_at(*end);
            [(end - 1.0, low, high), (end, low, high)]
        };
        Series::new(name, colour, Shape::Band(metrics.epochs.iter().flat_map(block).collect()))
    });
    let y = Axis { includes: vec![0.0, 1.0], ..Axis::percent("share of rank 0's time") };
    chart("Where the time goes", y, series.into())
}
