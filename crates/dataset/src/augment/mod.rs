//! Random changes to training images, on bytes, before anything becomes a float.
//!
//! ```text
//! crop (window, scale) ─> flip ─> colour jitter ─> policy (RandAugment, TrivialAugment) ─> erase ─> mix (two images)
//! ```
//!
//! Each image's randomness follows from seed, epoch, sample and draw (the how-many-eth time that the sample comes in
//! the epoch), and a mixture's from seed, epoch and step: what comes out is the same at any number of ranks and threads.
//! The arithmetic is Pillow's, so that a recipe tuned with torchvision keeps its meaning.

mod colour;
mod crop;
mod erase;
mod jitter;
mod mix;
mod policy;
mod warp;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

pub use crop::Crop;
pub(crate) use crop::{random_part, shift};
pub use jitter::ColorJitter;
pub use mix::{Mix, Mixed};
pub(crate) use mix::{Mixture, draw as draw_mixture, partners};
pub use policy::Policy;

/// What happens to a training image on its way into a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// Which part is taken.
    pub crop: Crop,
    /// Whether half of the images are mirrored.
    pub flip: bool,
    /// Random brightness, contrast, saturation and hue.
    pub jitter: Option<ColorJitter>,
    /// A random choice of operations.
    pub policy: Option<Policy>,
    /// The share of images that lose a random rectangle, 0–1 (torchvision's `RandomErasing`).
    pub erase: f64,
    /// Whether images are mixed with each other.
    pub mix: Mix,
}

impl Augmentation {
    /// For evaluation: the middle, as it is.
    pub const NONE: Self =
        Self { crop: Crop::Center, flip: false, jitter: None, policy: None, erase: 0.0, mix: Mix::NONE };

    /// Changes a cropped image of `side`×`side` pixels in place, by everything but the crop and the mix.
    pub(crate) fn apply(&self, pixels: &mut [u8], side: usize, random: &mut ChaCha8Rng, scratch: &mut Vec<u8>) {
        if self.flip && random.random_bool(0.5) {
            pixels.chunks_exact_mut(side * 3).for_each(mirror);
        }
        if let Some(jitter) = &self.jitter {
            jitter.apply(pixels, random);
        }
        if let Some(policy) = &self.policy {
            policy.apply(pixels, side, random, scratch);
        }
        if self.erase > 0.0 && random.random_bool(self.erase.min(1.0)) {
            erase::apply(pixels, side, random);
        }
    }
}

fn mirror(row: &mut [u8]) {
    let (pixels, _) = row.as_chunks_mut::<3>();
    pixels.reverse();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Stream, stream};

    #[test]
    fn flips_mirror_about_half_of_the_images() {
        let source: Vec<u8> = (0..48).collect();
        let augmentation = Augmentation { flip: true, ..Augmentation::NONE };
        let mut mirrored = 0;
        for index in 0..200 {
            let mut pixels = source.clone();
            augmentation.apply(&mut pixels, 4, &mut stream(Stream::Augmentation, 1, 0, index), &mut Vec::new());
            if pixels != source {
                assert_eq!(pixels[..12], [9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2]);
                mirrored += 1;
            }
        }
        assert!((70..130).contains(&mirrored), "{mirrored} of 200");
    }

    #[test]
    fn every_change_is_the_same_twice_and_another_for_another_sample() {
        let source: Vec<u8> = (0..32 * 32 * 3).map(|value| (value * 7 % 251) as u8).collect();
        let all = [
            Augmentation { jitter: Some(ColorJitter::of(0.4)), ..Augmentation::NONE },
            Augmentation { policy: Some(Policy::RandAugment { operations: 2, magnitude: 9 }), ..Augmentation::NONE },
            Augmentation { policy: Some(Policy::TrivialAugmentWide), ..Augmentation::NONE },
            Augmentation { erase: 1.0, ..Augmentation::NONE },
        ];
        for augmentation in all {
            let changed = |index: u64| {
                let mut pixels = source.clone();
                let mut random = stream(Stream::Augmentation, 3, 1, index);
                augmentation.apply(&mut pixels, 32, &mut random, &mut Vec::new());
                pixels
            };
            let all: Vec<_> = (0..20).map(changed).collect();
            assert_eq!(all, (0..20).map(changed).collect::<Vec<_>>());
            let distinct: std::collections::HashSet<_> = all.into_iter().collect();
            assert!(distinct.len() > 10, "{augmentation:?}: {}", distinct.len());
        }
    }
}
