//! What happens to training images: which part is taken of each, how it is changed, and which are mixed.
//!
//! ```text
//! crop (window, scale) ─> changes to one image (`augmentations`) ─> mix (two images)
//! ```
//!
//! Each image's randomness follows from seed, epoch, sample and draw (the how-many-eth time that the sample comes in
//! the epoch), and a mixture's from seed, epoch and step: what comes out is the same at any number of ranks and threads.

mod crop;
mod mix;

use std::sync::Arc;

use augmentations::Change;

pub use crop::Crop;
pub(crate) use crop::{random_part, shift};
pub use mix::{Mix, Mixed};
pub(crate) use mix::{Mixture, draw as draw_mixture, partners};

/// What happens to a training image on its way into a batch.
#[derive(Clone, Debug)]
pub struct Augmentation {
    /// Which part is taken.
    pub crop: Crop,
    /// The changes to it, one after the other.
    pub changes: Vec<Arc<dyn Change>>,
    /// Whether images are mixed with each other.
    pub mix: Mix,
}

impl Augmentation {
    /// For evaluation: the middle, as it is.
    pub const NONE: Self = Self { crop: Crop::Center, changes: Vec::new(), mix: Mix::NONE };
}
