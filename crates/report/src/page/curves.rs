//! How losses, scores and speed went.

use maud::{Markup, html};

use crate::chart::{Axis, Chart, Colour, Series, Shape, thin};
use crate::{EpochLine, Metrics, StepLine};

/// Points of a curve at most: about one for each second pixel.
const MOST_POINTS: usize = 250;
/// More points than this are a line without dots.
const MOST_DOTS: usize = 40;

pub(super) fn figures(metrics: &Metrics) -> Markup {
    let last = metrics.epochs_at(metrics.steps.len());
    let mut over_epochs = [loss(metrics), accuracy(metrics), rate(metrics), speed(metrics), time(metrics)];
    over_epochs.iter_mut().for_each(|chart| chart.x.includes.push(last));
    html! {
        div.charts {
            @for chart in &over_epochs { (chart.figure()) }
            (accuracy_over_time(metrics).figure())
        }
    }
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
    let points: Vec<_> = metrics.epochs.iter().map(|&(line, end)| (metrics.epochs_at(end), value(&line))).collect();
    dotted(points)
}

/// Few points have dots.
fn dotted(points: Vec<(f64, f64)>) -> Shape {
    if points.len() <= MOST_DOTS { Shape::Dotted(points) } else { Shape::Line(points) }
}

fn loss(metrics: &Metrics) -> Chart {
    let buckets = thin(&of_steps(metrics, |line| line.loss), MOST_POINTS);
    let mean = buckets.iter().map(|bucket| (bucket.x, bucket.mean)).collect();
    let spread = buckets.iter().map(|bucket| (bucket.x, bucket.low, bucket.high)).collect();
    let series = vec![
        Series::new("", Colour::Blue, Shape::Band(spread)),
        Series::new("training", Colour::Blue, Shape::Line(mean)),
        Series::new("validation", Colour::Orange, of_epochs(metrics, |line| line.val_loss)),
    ];
    chart("Loss", Axis::new("cross-entropy").from_zero(), series)
}

fn accuracy(metrics: &Metrics) -> Chart {
    let series = vec![
        Series::new("top-5", Colour::Sky, of_epochs(metrics, |line| line.top5)),
        Series::new("top-1", Colour::Orange, of_epochs(metrics, |line| line.top1)),
    ];
    chart("Accuracy on validation samples", Axis::percent("correct"), series)
}

/// What a longer run would bring, and at what price: comparable between runs on other machines.
fn accuracy_over_time(metrics: &Metrics) -> Chart {
    let longest = metrics.epochs.last().map_or(0.0, |(line, _)| line.elapsed_seconds);
    let (unit, seconds) = match longest {
        ..300.0 => ("seconds", 1.0),
        ..10_800.0 => ("minutes", 60.0),
        _ => ("hours", 3600.0),
    };
    let points = metrics.epochs.iter().map(|(line, _)| (line.elapsed_seconds / seconds, line.top1)).collect();
    Chart {
        title: "Top-1 over time".to_owned(),
        x: Axis::new(unit).from_zero(),
        y: Axis::percent("correct"),
        series: vec![Series::new("top-1", Colour::Orange, dotted(points))],
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
        let block = |&(line, end): &(EpochLine, usize)| {
            let (low, high) = share(&line);
            let end = metrics.epochs_at(end);
            [(end - 1.0, low, high), (end, low, high)]
        };
        Series::new(name, colour, Shape::Band(metrics.epochs.iter().flat_map(block).collect()))
    });
    let y = Axis { includes: vec![0.0, 1.0], ..Axis::percent("share of rank 0's time") };
    chart("Where the time goes", y, series.into())
}
