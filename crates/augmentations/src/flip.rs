//! torchvision's `RandomHorizontalFlip`.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Change, Image, PlaneChange, Planes};

/// Mirrors every other image, left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HorizontalFlip;

impl Change for HorizontalFlip {
    fn apply(&self, image: &mut Image<'_>, random: &mut ChaCha8Rng) {
        if random.random_bool(0.5) {
            image.pixels.chunks_exact_mut(image.side * 3).for_each(|row| row.as_chunks_mut::<3>().0.reverse());
        }
    }
}

impl PlaneChange for HorizontalFlip {
    fn apply(&self, image: &mut Planes<'_>, random: &mut ChaCha8Rng) {
        if random.random_bool(0.5) {
            image.values.chunks_exact_mut(image.side).for_each(<[f32]>::reverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::changed;

    #[test]
    fn about_half_of_the_images_are_mirrored() {
        let source: Vec<u8> = (0..48).collect();
        let mut mirrored = 0;
        for index in 0..200 {
            let pixels = changed(&HorizontalFlip, &source, 4, index);
            if pixels != source {
                assert_eq!(pixels[..12], [9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2]);
                mirrored += 1;
            }
        }
        assert!((70..130).contains(&mirrored), "{mirrored} of 200");
    }
}
