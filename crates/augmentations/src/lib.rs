//! Random changes to one training image: on bytes, before anything becomes a float, where it is one of 8-bit colours; on planes of
//! numbers where it is anything else.
//!
//! ```text
//! flip, turn ─> affine ─> colour jitter ─> policy (RandAugment, TrivialAugment) ─> erase
//! ```
//!
//! What moves pixels moves those of a mask along ([`Geometry`]). One file each; the flags that ask for them say in which order they come (`flags::AugmentationArgs::changes`). What
//! is drawn comes from the generator of the image alone, so that it is the same at any number of ranks and threads. The
//! arithmetic is Pillow's: a recipe tuned with torchvision keeps its meaning.

mod affine;
mod colour;
mod erase;
mod flip;
mod jitter;
mod mask;
mod planes;
mod policy;
mod warp;

use std::fmt::Debug;

use rand_chacha::ChaCha8Rng;

pub use affine::RandomAffine;
pub use erase::RandomErasing;
pub use flip::{HorizontalFlip, QuarterTurns, VerticalFlip};
pub use jitter::ColorJitter;
pub use mask::{Geometry, IGNORED, Mask};
pub use planes::{GaussianBlur, GaussianNoise, IntensityJitter, PlaneChange, Planes};
pub use policy::Policy;

/// A random change to an image, after it was cropped.
pub trait Change: Geometry + Debug + Send + Sync {
    /// Changes the image in place. Whatever is random about it must be drawn from `random`.
    fn apply(&self, image: &mut Image<'_>, random: &mut ChaCha8Rng);
}

/// An image that is changed in place.
#[derive(Debug)]
pub struct Image<'a> {
    /// `side`×`side`×3 bytes, RGB.
    pub pixels: &'a mut [u8],
    /// Height and width, in pixels.
    pub side: usize,
    /// A thread's memory for whatever a change has to put aside; its contents are nobody's.
    pub scratch: &'a mut Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// What becomes of `pixels`, an image of `side`×`side` pixels, by the draws of generator number `index`.
    pub(crate) fn changed(change: &dyn Change, pixels: &[u8], side: usize, index: u64) -> Vec<u8> {
        let (mut pixels, mut scratch) = (pixels.to_vec(), Vec::new());
        let mut image = Image { pixels: &mut pixels, side, scratch: &mut scratch };
        change.apply(&mut image, &mut ChaCha8Rng::seed_from_u64(index));
        pixels
    }

    #[test]
    fn every_change_is_the_same_twice_and_another_by_other_draws() {
        let source: Vec<u8> = (0..32 * 32 * 3).map(|value| (value * 7 % 251) as u8).collect();
        let all: [&dyn Change; 4] = [
            &ColorJitter::of(0.4),
            &Policy::RandAugment { operations: 2, magnitude: 9 },
            &Policy::TrivialAugmentWide,
            &RandomErasing { probability: 1.0, colour: [124, 116, 104] },
        ];
        for change in all {
            let images = || (0..20).map(|index| changed(change, &source, 32, index)).collect::<Vec<_>>();
            assert_eq!(images(), images());
            let distinct: std::collections::HashSet<_> = images().into_iter().collect();
            assert!(distinct.len() > 10, "{change:?}: {}", distinct.len());
        }
    }
}
