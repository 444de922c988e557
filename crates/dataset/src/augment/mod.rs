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

use augmentations::{Change, PlaneChange};

pub use crop::Crop;
pub(crate) use crop::{random_part, shift, shift_mask, shift_planes};
pub use mix::{Mix, Mixed};
pub(crate) use mix::{Mixture, draw as draw_mixture, partners};

/// What happens to a training image on its way into a batch.
#[derive(Clone, Debug)]
pub struct Augmentation {
    /// Which part is taken.
    pub crop: Crop,
    /// The changes to it, one after the other, where it is bytes of three colours.
    pub changes: Vec<Arc<dyn Change>>,
    /// The changes to it where it is planes of numbers.
    pub plane_changes: Vec<Arc<dyn PlaneChange>>,
    /// Whether images are mixed with each other.
    pub mix: Mix,
}

impl Augmentation {
    /// For evaluation: the middle, as it is.
    pub const NONE: Self = Self { crop: Crop::Center, changes: Vec::new(), plane_changes: Vec::new(), mix: Mix::NONE };
}
