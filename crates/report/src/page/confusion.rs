//! Which classes were taken for which: a grid, or where there are too many for one, a list of the worst pairs.

use maud::{Markup, html};

use super::percent;
use crate::Evaluation;
use crate::chart::number;

/// Classes that a grid has room for.
const LARGEST_GRID: usize = 30;
/// Pairs in the list beside it, and where there is no grid.
const BESIDE_GRID: usize = 12;
const MOST_PAIRS: usize = 50;

pub(super) fn matrix(evaluation: &Evaluation) -> Markup {
    let classes = evaluation.classes.len();
    html! {
        p.lead {
            (percent(evaluation.scores.get("top1"))) " of " (number(evaluation.samples as f64, 1.0)) " samples are taken for what they are (top-5 "
            (percent(evaluation.scores.get("top5"))) ", loss " (format!("{:.4}", evaluation.loss)) ")"
            @if let Some(epoch) = evaluation.epoch { ", after epoch " (epoch) }
            "."
        }
        @if classes <= LARGEST_GRID {
            div.beside { (grid(evaluation)) (pairs(evaluation, (classes + 1).min(BESIDE_GRID))) }
        } @else {
            (pairs(evaluation, MOST_PAIRS))
        }
    }
}

fn grid(evaluation: &Evaluation) -> Markup {
    let classes = 0..evaluation.classes.len() as u32;
    html! {
        div.scroll.card {
            table.matrix {
                thead { tr {
                    th.corner scope="col" { "is ↓ · taken for →" }
                    @for class in &evaluation.classes { th scope="col" { span { (class.name) } } }
                } }
                tbody {
                    @for label in classes.clone() {
                        tr {
                            th scope="row" { (evaluation.class(label)) }
                            @for predicted in classes.clone() { (cell(evaluation, label, predicted)) }
                        }
                    }
                }
            }
        }
    }
}

fn cell(evaluation: &Evaluation, label: u32, predicted: u32) -> Markup {
    let count = evaluation.confusion.count(label, predicted);
    let support = evaluation.support(label);
    let share = if support == 0 { 0.0 } else { count as f64 / support as f64 };
    let (is, taken) = (evaluation.class(label), evaluation.class(predicted));
    let title = format!("{is} taken for {taken}: {count} of {support}");
    // Errors are rare: the root makes few of them visible.
    let shade = if label == predicted { share } else { share.sqrt() };
    let kind = if label == predicted { "right" } else { "wrong" };
    html! {
        td.(kind).dense[shade > 0.55] style=(format!("--shade:{shade:.2}")) title=(title) { @if count > 0 { (count) } }
    }
}

fn pairs(evaluation: &Evaluation, most: usize) -> Markup {
    let pairs = evaluation.confusion.most_confused(most);
    html! {
        @if !pairs.is_empty() {
            div.card {
                h3 { "Most often confused" }
                div.scroll.tall { table {
                    thead { tr { th { "Is" } th { "Taken for" } th.number { "Times" } th.number { "Of" } } }
                    tbody {
                        @for (label, predicted, count) in pairs {
                            tr {
                                td.name { (evaluation.class(label)) }
                                td.name { (evaluation.class(predicted)) }
                                td.number { (count) }
                                td.number { (evaluation.support(label)) }
                            }
                        }
                    }
                } }
            }
        }
    }
}
