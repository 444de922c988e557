//! What a reader wants to know first.

use maud::{Markup, html};

use super::curves::capitalized;
use super::{count, duration, tile};
use crate::{Run, chart};

pub(super) fn header(run: &Run) -> Markup {
    let epochs = &run.metrics.epochs;
    let last = epochs.last().map(|(line, _)| line);
    let session = run.environment.sessions.last();
    let metrics = run.metrics();
    let deciding = metrics.first();
    let state = session.map(|session| session.end.as_ref().map_or("running, or ended without a word", |end| &end.how));
    html! {
        header {
            h1 { (run.name) }
            p.state {
                @if let Some(state) = state { span.chip { (state) } " " }
                @if run.metrics.is_empty() && run.evaluation.is_some() {
                    "an evaluation"
                } @else {
                    (count(epochs.len(), "epoch")) ", " (count(run.metrics.steps.len(), "step"))
                }
                @if let Some(first) = run.environment.sessions.first() { ", started " (first.started) }
            }
            div.tiles {
                @if let Some(metric) = deciding && let Some(best) = run.metrics.best(metric) {
                    @let value = metric.shown(best.scores.get(&metric.name), '\u{a0}');
                    (tile(&format!("Best {}", metric.title), &value, &format!("after epoch {}", best.epoch)))
                }
                @if let Some(last) = last {
                    @let after = format!("after epoch {}", last.epoch);
                    @if last.val_loss.is_nan() {
                        (tile("Training loss", &format!("{:.4}", last.train_loss), &after))
                    } @else {
                        (tile("Validation loss", &format!("{:.4}", last.val_loss), &after))
                    }
                    @let speeds: Vec<_> = epochs.iter().map(|(line, _)| line.images_per_second).collect();
                    (tile("Images per second", &chart::number(median(speeds), 1.0), "median of the epochs"))
                    (tile("Time", &duration(last.elapsed_seconds), "to the end of the last epoch"))
                } @else if let Some(evaluation) = &run.evaluation {
                    @if let Some(metric) = deciding {
                        @let value = metric.shown(evaluation.scores.get(&metric.name), '\u{a0}');
                        (tile(&capitalized(&metric.title), &value, &count(evaluation.samples as usize, "sample")))
                    }
                    (tile("Loss", &format!("{:.4}", evaluation.loss), "mean"))
                }
                @if let Some(session) = session {
                    @let note = format!("on {}, batch of {}", count(session.nodes(), "node"), session.batch);
                    (tile("Ranks", &session.ranks.len().to_string(), &note))
                }
            }
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
