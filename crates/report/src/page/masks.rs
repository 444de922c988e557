//! The images whose pixels the model is most wrong about: as they are, as the mask has them, and as the model does.

use maud::{Markup, html};

use super::percent;
use crate::{Evaluation, mask};

/// Classes that the legend names.
const MOST_NAMED: usize = 40;

pub(super) fn gallery(evaluation: &Evaluation) -> Markup {
    html! {
        p.lead { "The images with the highest loss: as the network saw them, over them the mask, and what the model makes of them." }
        p.legend.classes {
            @for (number, output) in (0..=u8::MAX).zip(&evaluation.outputs).take(MOST_NAMED) {
                @let [red, green, blue] = mask::colour(number);
                span { i style=(format!("background:rgb({red},{green},{blue})")) {} (output.name) }
            }
        }
        div.gallery.masks {
            @for sample in &evaluation.worst_masks {
                figure.card {
                    div.pair {
                        (layered("the mask", sample.thumbnail.as_deref(), sample.truth.as_deref()))
                        (layered("the model", sample.thumbnail.as_deref(), sample.predicted.as_deref()))
                    }
                    figcaption {
                        p { (percent(sample.accuracy)) " of its pixels right " span.note { "loss " (format!("{:.3}", sample.loss)) } }
                        p.note title=(sample.path) { (sample.path) }
                    }
                }
            }
        }
    }
}

/// A mask over an image.
fn layered(title: &str, image: Option<&str>, mask: Option<&str>) -> Markup {
    // Nothing but an image of ours is ever an address.
    let own = |uri: Option<&str>| uri.filter(|uri| uri.starts_with("data:image/png;base64,")).map(str::to_owned);
    html! {
        div {
            div.layers {
                @match own(image) { Some(uri) => img src=(uri) alt="";, None => div.blank { "no image" } }
                @if let Some(uri) = own(mask) { img.over src=(uri) alt=(title); }
            }
            span.note { (title) }
        }
    }
}
