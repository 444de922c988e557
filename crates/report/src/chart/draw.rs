//! A chart's elements.

use maud::{Markup, PreEscaped, html};

use super::{Axis, Chart, STYLE, Series, Shape, Ticks};

/// Width and height of a chart, in pixels of its own, and the room around its values.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 40.0;
/// Room for title and legend above the chart, in a file of its own.
const HEAD: f64 = 44.0;
/// Share of a category's room that its bar takes.
const BAR: f64 = 0.5;

pub(super) fn figure(chart: &Chart) -> Markup {
    html! {
        figure.card {
            figcaption {
                h3 { (chart.title) }
                p.legend.chart { @for (series, key) in keys(chart) { span { (key_mark(series)) (key) } } }
            }
            (svg(chart, 0.0, None, html! {}))
        }
    }
}

pub(super) fn file(chart: &Chart) -> String {
    // Text cannot be measured here: each key gets room for letters of the common width.
    let ends = keys(chart).scan(LEFT, |end, (_, key)| {
        let start = *end;
        *end += 32.0 + 6.6 * key.chars().count() as f64;
        Some(start)
    });
    let head = html! {
        rect.paper width=(WIDTH) height=(HEIGHT + HEAD) y=(-HEAD) {}
        text.title x=(LEFT) y=(18.0 - HEAD) { (chart.title) }
        @for ((series, key), x) in keys(chart).zip(ends) {
            rect.bar.(series.colour.class()) x=(place(x)) y=(27.0 - HEAD) width="10" height="10" rx="2" {}
            text.key x=(place(x + 15.0)) y=(36.0 - HEAD) { (key) }
        }
    };
    svg(chart, HEAD, Some(STYLE), head).into_string()
}

/// The series that the legend names.
fn keys(chart: &Chart) -> impl Iterator<Item = (&Series, &str)> {
    chart.series.iter().filter(|series| !series.name.is_empty()).map(|series| (series, series.name.as_str()))
}

fn key_mark(series: &Series) -> Markup {
    let dashed = matches!(series.shape, Shape::Dashed(_));
    html! {
        svg.key-mark.(series.colour.class()) viewBox="0 0 16 10" width="16" height="10" aria-hidden="true" {
            @match series.shape {
                Shape::Band(_) | Shape::Bars(_) => rect.bar width="10" height="10" x="3" rx="2" {},
                _ => line.line.dashed[dashed] x1="1" x2="15" y1="5" y2="5" {},
            }
        }
    }
}

/// The scales of a chart; `None` where it has no values.
fn scales(chart: &Chart) -> Option<(Ticks, Ticks)> {
    let points: Vec<_> = chart.series.iter().flat_map(|series| series.shape.extents()).filter(is_finite).collect();
    if points.is_empty() {
        return None;
    }
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let x = if chart.x.categories.is_empty() {
        let (low, high) = range(&mut points.iter().map(|point| point.0).chain(chart.x.includes.iter().copied()));
        Ticks::within(low, high, 8, chart.x.percent)
    } else {
        Ticks::of_names(&chart.x.categories)
    };
    let values = points.iter().flat_map(|&(_, low, high)| [low, high]);
    let (low, high) = range(&mut values.chain(chart.y.includes.iter().copied()));
    Some((x, Ticks::around(low, high, 5, chart.y.percent)))
}

fn is_finite(&(x, low, high): &(f64, f64, f64)) -> bool {
    x.is_finite() && low.is_finite() && high.is_finite()
}

/// A coordinate, to a hundredth of a pixel.
fn place(pixels: f64) -> f64 {
    (pixels * 100.0).round() / 100.0
}

fn svg(chart: &Chart, head: f64, style: Option<&str>, above: Markup) -> Markup {
    let view_box = format!("0 {} {WIDTH} {}", -head, HEIGHT + head);
    let scales = scales(chart);
    // What reads the chart back (the page's script, a screen reader) knows ranges and labels.
    let range = |ticks: &Ticks| format!("{} {}", ticks.low, ticks.high);
    html! {
        svg.chart xmlns="http://www.w3.org/2000/svg" viewBox=(view_box) role="img" aria-label=(label(chart))
            data-x=[scales.as_ref().map(|scales| range(&scales.0))]
            data-y=[scales.as_ref().map(|scales| range(&scales.1))]
            data-box=(format!("{LEFT} {TOP} {} {}", WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM))
            data-x-label=(chart.x.label) data-percent=[chart.y.percent.then_some("")]
            data-categories=[(!chart.x.categories.is_empty()).then(|| chart.x.categories.join("\n"))] {
            @if let Some(style) = style { style { (PreEscaped(style)) } }
            (above)
            @match &scales {
                None => text x=(WIDTH / 2.0) y=(HEIGHT / 2.0) text-anchor="middle" { "no values yet" },
                Some((x, y)) => {
                    (axes(chart, x, y))
                    @for series in &chart.series { (shape(series, x, y)) }
                }
            }
        }
    }
}

fn label(chart: &Chart) -> String {
    let names: Vec<_> = keys(chart).map(|(_, name)| name).collect();
    let Axis { label, .. } = &chart.y;
    format!("{}: {label} over {}; {}", chart.title, chart.x.label, names.join(", "))
}

fn across(ticks: &Ticks, value: f64) -> f64 {
    place(LEFT + ticks.place(value) * (WIDTH - LEFT - RIGHT))
}

fn down(ticks: &Ticks, value: f64) -> f64 {
    place(TOP + (1.0 - ticks.place(value)) * (HEIGHT - TOP - BOTTOM))
}

fn axes(chart: &Chart, x: &Ticks, y: &Ticks) -> Markup {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    html! {
        @for (value, label) in &y.labels {
            @let height = down(y, *value);
            line.grid x1=(LEFT) x2=(right) y1=(height) y2=(height) {}
            text x=(LEFT - 7.0) y=(place(height + 4.0)) text-anchor="end" { (label) }
        }
        line.axis x1=(LEFT) x2=(right) y1=(bottom) y2=(bottom) {}
        @for (value, label) in &x.labels {
            @let width = across(x, *value);
            line.axis x1=(width) x2=(width) y1=(bottom) y2=(bottom + 4.0) {}
            text x=(width) y=(bottom + 17.0) text-anchor="middle" { (label) }
        }
        text x=(place((LEFT + right) / 2.0)) y=(HEIGHT - 6.0) text-anchor="middle" { (chart.x.label) }
        text x=(-place((TOP + bottom) / 2.0)) y="12" transform="rotate(-90)" text-anchor="middle" { (chart.y.label) }
    }
}

fn shape(series: &Series, x: &Ticks, y: &Ticks) -> Markup {
    let colour = series.colour.class();
    let name = (!series.name.is_empty()).then_some(&series.name);
    let points = |points: &[(f64, f64)]| {
        let place = |&(at, value): &(f64, f64)| format!("{},{}", across(x, at), down(y, value));
        points.iter().map(place).collect::<Vec<_>>().join(" ")
    };
    let runs = |points: &'_ [(f64, f64)]| -> Vec<Vec<(f64, f64)>> {
        let finite = |point: &(f64, f64)| is_finite(&(point.0, point.1, point.1));
        points.split(|point| !finite(point)).filter(|run| !run.is_empty()).map(<[_]>::to_vec).collect()
    };
    let line = |values: &[(f64, f64)], dashed: bool, dots: bool| {
        html! {
            @for run in runs(values) {
                polyline.line.dashed[dashed] points=(points(&run)) data-name=[name] {}
                // A point alone is not a line.
                @if dots || run.len() == 1 {
                    @for (at, value) in run { circle.dot cx=(across(x, at)) cy=(down(y, value)) r="3" {} }
                }
            }
        }
    };
    html! {
        g.(colour) {
            @match &series.shape {
                Shape::Line(values) => (line(values, false, false)),
                Shape::Dashed(values) => (line(values, true, false)),
                Shape::Dotted(values) => (line(values, false, true)),
                Shape::Dots(values) => {
                    @for &(at, value) in values.iter().filter(|point| is_finite(&(point.0, point.1, point.1))) {
                        circle.dot cx=(across(x, at)) cy=(down(y, value)) r="2" {}
                    }
                }
                Shape::Band(values) => {
                    @for run in values.split(|point| !is_finite(point)).filter(|run| run.len() > 1) {
                        @let above: Vec<_> = run.iter().map(|&(at, _, high)| (at, high)).collect();
                        @let below: Vec<_> = run.iter().rev().map(|&(at, low, _)| (at, low)).collect();
                        polygon.band.area[name.is_some()] points=(points(&[above, below].concat())) {}
                    }
                }
                Shape::Bars(values) => {
                    @let width = place(BAR * (across(x, 1.0) - across(x, 0.0)).min(120.0));
                    @for &(at, low, high) in values.iter().filter(|point| is_finite(point)) {
                        rect.bar x=(place(across(x, at) - width / 2.0)) y=(down(y, high)) width=(width)
                            height=(place((down(y, low) - down(y, high)).max(0.0))) {
                            title { (series.name) }
                        }
                    }
                }
                Shape::Whiskers(values) => {
                    @for &(at, low, high) in values.iter().filter(|point| is_finite(point)) {
                        line.line x1=(across(x, at)) x2=(across(x, at)) y1=(down(y, low)) y2=(down(y, high)) {}
                    }
                }
            }
        }
    }
}
