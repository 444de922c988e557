//! The samples that the model is most wrong about: often they show what is wrong with the data.

use maud::{Markup, html};

use super::percent;
use crate::Evaluation;

pub(super) fn gallery(evaluation: &Evaluation) -> Markup {
    html! {
        p.lead { "The samples with the highest loss, as the network saw them." }
        div.gallery {
            @for sample in &evaluation.worst {
                figure.card {
                    @match &sample.thumbnail {
                        // Nothing but an image of ours is ever an address.
                        Some(uri) if uri.starts_with("data:image/png;base64,") => img src=(uri) alt=(sample.path);,
                        _ => div.blank { "no image" },
                    }
                    figcaption {
                        p { "taken for " strong.wrong-ink { (evaluation.class(sample.predicted)) } " "
                            span.note { (percent(sample.probability)) } }
                        p { "is " strong { (evaluation.class(sample.label)) } " "
                            span.note { (percent(sample.label_probability)) } }
                        p.note title=(sample.path) { (sample.path) }
                    }
                }
            }
        }
    }
}
