//! The scores of each class, in a table that sorts.

use maud::{Markup, html};

use super::maybe_percent;
use crate::{ClassScores, Evaluation};

/// From so many classes on the table has a field to search them by.
const WORTH_SEARCHING: usize = 20;

type Score = fn(&ClassScores) -> Option<f64>;
const SCORES: [(&str, Score); 3] =
    [("Precision", |class| class.precision), ("Recall", |class| class.recall), ("F1", |class| class.f1)];

pub(super) fn table(evaluation: &Evaluation) -> Markup {
    html! {
        div.card {
            @if evaluation.classes.len() >= WORTH_SEARCHING {
                input type="search" placeholder="Search classes" aria-label="Search classes" data-filter="classes";
            }
            div.scroll.tall {
                table #classes data-sortable {
                    thead { tr {
                        th { button type="button" { "Class" } }
                        th.number { button type="button" { "Samples" } }
                        @for (name, _) in SCORES { th.number { button type="button" { (name) } } }
                    } }
                    tbody {
                        @for class in &evaluation.classes {
                            tr {
                                td { (class.name) }
                                td.number { (class.support) }
                                @for (_, score) in SCORES { (cell(score(class))) }
                            }
                        }
                    }
                    tfoot { tr {
                        td { "Mean over classes" }
                        td.number { (evaluation.samples) }
                        @for (_, score) in SCORES { (cell(evaluation.mean_over_classes(score))) }
                    } }
                }
            }
        }
    }
}

fn cell(score: Option<f64>) -> Markup {
    html! {
        td.number.score data-value=[score] style=(format!("--share:{:.3}", score.unwrap_or(0.0))) {
            (maybe_percent(score))
        }
    }
}
