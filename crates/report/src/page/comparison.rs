//! Several runs on one page: their curves together, and what of their plans differs.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::curves::{capitalized, dotted};
use super::{document, duration, section};
use crate::chart::{Axis, Chart, Colour, Series};
use crate::{EpochLine, Metric, Run};

const COLOURS: [Colour; 5] = [Colour::Blue, Colour::Orange, Colour::Green, Colour::Purple, Colour::Sky];

/// The page that compares `runs`, in their order.
pub fn comparison(runs: &[Run]) -> String {
    let names = names(runs);
    let metrics = runs.first().map(Run::metrics).unwrap_or_default();
    let header = html! {
        header {
            h1 { "Comparison of " (runs.len()) " runs" }
            p.state { (names.join(", ")) }
        }
    };
    let sections = html! {
        (section("Runs", table(runs, &names, metrics.first())))
        (section("Curves", curves(runs, &names, &metrics)))
        (section("Plans: what differs", plans(runs, &names)))
    };
    document("Comparison", &header, &sections)
}

/// The runs' names; those that several have are numbered.
fn names(runs: &[Run]) -> Vec<String> {
    let is_alone = |name: &str| runs.iter().filter(|run| run.name == name).count() == 1;
    let named = |(index, run): (usize, &Run)| match is_alone(&run.name) {
        true => run.name.clone(),
        false => format!("{} ({})", run.name, index + 1),
    };
    runs.iter().enumerate().map(named).collect()
}

fn table(runs: &[Run], names: &[String], deciding: Option<&Metric>) -> Markup {
    html! {
        div.card { div.scroll { table data-sortable {
            thead { tr {
                th { button type="button" { "Run" } }
                th.number { button type="button" { "Epochs" } }
                @if let Some(metric) = deciding { th.number { button type="button" { "Best " (metric.title) } } }
                th.number { button type="button" { "after epoch" } }
                th.number { button type="button" { "Training loss" } }
                th.number { button type="button" { "Time" } }
            } }
            tbody { @for (run, name) in runs.iter().zip(names) {
                @let last = run.metrics.epochs.last().map(|(line, _)| line);
                @let best = deciding.and_then(|metric| Some((metric, run.metrics.best(metric)?)));
                tr {
                    td.name { (name) }
                    td.number { (run.metrics.epochs.len()) }
                    @if deciding.is_some() {
                        @let value = best.map(|(metric, line)| line.scores.get(&metric.name));
                        td.number data-value=[value] {
                            @match best { Some((metric, line)) => (metric.shown(line.scores.get(&metric.name), '\u{a0}')), None => "–" }
                        }
                    }
                    td.number { @match best { Some((_, line)) => (line.epoch), None => "–" } }
                    td.number { @match last { Some(line) => (format!("{:.4}", line.train_loss)), None => "–" } }
                    @let seconds = last.map(|line| line.elapsed_seconds);
                    td.number data-value=[seconds] { (seconds.map_or_else(|| "–".to_owned(), duration)) }
                }
            } }
        } } }
    }
}

fn curves(runs: &[Run], names: &[String], metrics: &[Metric]) -> Markup {
    let chart = |title: &str, y: Axis, value: &dyn Fn(&EpochLine) -> f64| {
        let series = runs.iter().zip(names).zip(COLOURS.into_iter().cycle()).map(|((run, name), colour)| {
            let points = run.metrics.epochs.iter();
            let points = points.map(|(line, end)| (run.metrics.epochs_at(*end), value(line))).collect();
            Series::new(name, colour, dotted(points))
        });
        Chart { title: title.to_owned(), x: Axis::new("epoch").from_zero(), y, series: series.collect() }
    };
    let scored = metrics.iter().map(|metric| {
        let y = if metric.is_share { Axis::percent("correct") } else { Axis::new("mean").from_zero() };
        chart(&format!("{} on validation samples", capitalized(&metric.title)), y, &|line| {
            line.scores.get(&metric.name)
        })
    });
    let mut charts: Vec<_> = scored.collect();
    charts.extend([
        chart("Validation loss", Axis::new("loss").from_zero(), &|line| line.val_loss),
        chart("Training loss", Axis::new("loss").from_zero(), &|line| line.train_loss),
        chart("Speed", Axis::new("images/s").from_zero(), &|line| line.images_per_second),
    ]);
    html! { div.charts { @for chart in &charts { (chart.figure()) } } }
}

/// The flags that are not the same in all plans, a row each; a flag that a plan does not have stands as –. A folder without
/// a plan is no run, and differs in nothing.
fn plans(runs: &[Run], names: &[String]) -> Markup {
    let tables: Vec<Vec<(String, String)>> = runs.iter().map(flags).collect();
    let keys: BTreeSet<&String> = tables.iter().flatten().map(|(key, _)| key).collect();
    let of = |table: &[(String, String)], key: &str| {
        table.iter().find(|(known, _)| known == key).map_or_else(|| "–".to_owned(), |(_, value)| value.clone())
    };
    let rows = keys.into_iter().map(|key| (key, tables.iter().map(|table| of(table, key)).collect::<Vec<_>>()));
    let differs = |values: &[String]| {
        let mut planned = values.iter().zip(runs).filter(|(_, run)| run.plan.is_some()).map(|(value, _)| value);
        let first = planned.next();
        planned.any(|value| Some(value) != first)
    };
    let rows: Vec<_> = rows.filter(|(_, values)| differs(values)).collect();
    html! {
        div.card {
            @if rows.is_empty() { p.lead { "Nothing: all plans are the same." } } @else {
                div.scroll { table {
                    thead { tr { th { "Flag" } @for name in names { th.name { (name) } } } }
                    tbody { @for (key, values) in &rows {
                        tr { th { "--" (key) } @for value in values { td.name { (value) } } }
                    } }
                } }
            }
        }
    }
}

/// The lines `key = value` of a run's plan.
fn flags(run: &Run) -> Vec<(String, String)> {
    let lines = run.plan.iter().flat_map(|plan| plan.lines()).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" = ")).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metrics, Scores};

    fn run(name: &str, plan: &str, top1: f64) -> Run {
        let line = EpochLine {
            epoch: 1,
            train_loss: 0.5,
            val_loss: 0.4,
            scores: Scores(vec![("top1".to_owned(), top1)]),
            images_per_second: 100.0,
            data_wait: 0.0,
            communication_wait: 0.0,
            elapsed_seconds: 60.0,
        };
        let metrics = Metrics { steps: Vec::new(), epochs: vec![(line, 10)] };
        Run { name: name.to_owned(), metrics, plan: Some(plan.to_owned()), ..Run::default() }
    }

    #[test]
    fn what_differs_stands_side_by_side() {
        let runs = [
            run("a<b>", "# Every flag\nlr = 0.1\nmodel = \"lenet\"\nsync-bn = false\n", 0.5),
            run("b", "lr = 0.2\nmodel = \"lenet\"\n", 0.75),
            run("b", "lr = 0.2\nmodel = \"lenet\"\nsync-bn = false\n", 0.25),
        ];
        let page = comparison(&runs);
        for words in ["a&lt;b&gt;", "b (2)", "b (3)", "--lr", "0.2", "--sync-bn", "75.00", "Comparison of 3 runs"] {
            assert!(page.contains(words), "{words}");
        }
        assert!(!page.contains("--model") && !page.contains("a<b>"));
        assert!(comparison(&runs[1..2]).contains("Nothing: all plans are the same."));
    }
}
