//! The scores of several labels or numbers: a table, and what lies behind them.

use maud::{Markup, html};

use crate::chart::{Axis, Chart, Colour, Series, Shape, number};
use crate::{Evaluation, OutputScores};

/// Outputs whose curves a chart can tell apart, and numbers that have charts of their own.
const MOST_SHOWN: usize = 5;
const COLOURS: [Colour; MOST_SHOWN] = [Colour::Blue, Colour::Orange, Colour::Green, Colour::Purple, Colour::Sky];

/// What the scores are called, and whether they are shares.
const SCORES: [(&str, &str, bool); 9] = [
    ("ap", "AP", true),
    ("auroc", "AUROC", true),
    ("r2", "R²", false),
    ("mae", "MAE", false),
    ("rmse", "RMSE", false),
    ("iou", "IoU", true),
    ("dice", "Dice", true),
    ("precision", "Precision", true),
    ("recall", "Recall", true),
];

/// Whether the outputs are classes of pixels.
fn are_masks(evaluation: &Evaluation) -> bool {
    evaluation.outputs.iter().any(|output| output.scores.0.iter().any(|(name, _)| name == "iou"))
}

/// What the table is of.
pub(super) fn title(evaluation: &Evaluation) -> &'static str {
    if are_masks(evaluation) { "Classes of pixels" } else { "Scores of each output" }
}

/// Whether there is something to draw.
pub(super) fn has_charts(evaluation: &Evaluation) -> bool {
    evaluation.outputs.iter().any(|output| !output.curves.is_empty())
}

pub(super) fn table(evaluation: &Evaluation) -> Markup {
    let first = &evaluation.outputs[0].scores;
    let known: Vec<_> = SCORES.iter().filter(|(name, ..)| first.0.iter().any(|(own, _)| own == name)).collect();
    html! {
        div.card {
            div.scroll.tall {
                table #outputs data-sortable {
                    thead { tr {
                        th { button type="button" { (if are_masks(evaluation) { "Class" } else { "Output" }) } }
                        th.number { button type="button" { (if are_masks(evaluation) { "Pixels" } else { "Samples" }) } }
                        @for (_, title, _) in &known { th.number { button type="button" { (title) } } }
                    } }
                    tbody {
                        @for output in &evaluation.outputs {
                            tr {
                                td { (output.name) }
                                td.number data-value=(output.support) { (number(output.support as f64, 1.0)) }
                                @for (name, _, is_share) in &known { (cell(output.scores.get(name), *is_share)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn cell(score: f64, is_share: bool) -> Markup {
    let is_there = score.is_finite();
    let shown = match is_share {
        _ if !is_there => "–".to_owned(),
        true => super::percent(score),
        false => format!("{score:.4}"),
    };
    let share = if is_share && is_there { score } else { 0.0 };
    html! {
        td.number.score data-value=[is_there.then_some(score)] style=(format!("--share:{share:.3}")) { (shown) }
    }
}

pub(super) fn charts(evaluation: &Evaluation) -> Markup {
    let with = |kind: &'static str| evaluation.outputs.iter().filter(move |output| points(output, kind).is_some());
    // Those that are told worst are looked at first.
    let mut worst: Vec<_> = with("pr").collect();
    worst.sort_by(|one, other| one.scores.get("ap").total_cmp(&other.scores.get("ap")));
    worst.truncate(MOST_SHOWN);
    let curves = |title: &str, kind: &'static str, x: &str, y: &str| Chart {
        title: title.to_owned(),
        x: Axis::percent(x).from_zero(),
        y: Axis::percent(y).from_zero(),
        series: worst
            .iter()
            .zip(COLOURS)
            .filter_map(|(output, colour)| Some(Series::new(&output.name, colour, Shape::Line(points(output, kind)?))))
            .collect(),
    };
    html! {
        div.charts {
            @if !worst.is_empty() {
                (curves("Precision over recall, lowest AP first", "pr", "recall", "precision").figure())
                (curves("ROC, lowest AP first", "roc", "false positives", "true positives").figure())
            }
            @for output in with("scatter").take(MOST_SHOWN) {
                @for chart in scatter(output) { (chart.figure()) }
            }
        }
    }
}

fn points(output: &OutputScores, kind: &str) -> Option<Vec<(f64, f64)>> {
    let curve = output.curves.iter().find(|curve| curve.kind == kind)?;
    Some(curve.points.iter().map(|&[x, y]| (x, y)).collect())
}

/// What the model says over what it is, and how far it is off.
fn scatter(output: &OutputScores) -> [Chart; 2] {
    let said = points(output, "scatter").unwrap_or_default();
    let residuals = said.iter().map(|&(target, output)| (target, output - target)).collect();
    let (low, high) = said
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &(target, _)| (low.min(target), high.max(target)));
    let chart = |title: String, label: &str, line: Vec<(f64, f64)>, dots: Vec<(f64, f64)>| Chart {
        title,
        x: Axis::new("target"),
        y: Axis::new(label),
        series: vec![
            Series::new("", Colour::Gray, Shape::Dashed(line)),
            Series::new("", Colour::Blue, Shape::Dots(dots)),
        ],
    };
    [
        chart(format!("{}: what the model says", output.name), "output", vec![(low, low), (high, high)], said),
        chart(format!("{}: residuals", output.name), "output − target", vec![(low, 0.0), (high, 0.0)], residuals),
    ]
}
