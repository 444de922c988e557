//! What random changes make of the mask of an image: what moves pixels moves them in both.

use rand_chacha::ChaCha8Rng;

/// The class of a pixel that does not count: where nothing of the image comes to.
pub const IGNORED: u8 = 255;

/// The class of each pixel of an image, changed in place.
#[derive(Debug)]
pub struct Mask<'a> {
    /// `side`×`side` classes; [`IGNORED`] where there is none.
    pub classes: &'a mut [u8],
    /// Height and width, in pixels.
    pub side: usize,
    /// A thread's memory for whatever a change has to put aside; its contents are nobody's.
    pub scratch: &'a mut Vec<u8>,
}

/// Where a random change moves the pixels of an image.
pub trait Geometry {
    /// Moves the pixels of a mask as the change has moved those of its image. `random` is what the change was given, as it was
    /// then: the same draws come. What changes colours alone does nothing here.
    fn move_mask(&self, mask: &mut Mask<'_>, random: &mut ChaCha8Rng);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Change, ColorJitter, GaussianBlur, GaussianNoise, HorizontalFlip, Image, IntensityJitter, PlaneChange, Planes,
        Policy, QuarterTurns, RandomAffine, RandomErasing, VerticalFlip,
    };
    use rand::SeedableRng;

    const SIDE: usize = 24;

    /// The mask of an image whose four quarters are of one class each.
    fn quarters() -> Vec<u8> {
        (0..SIDE * SIDE)
            .map(|pixel| u8::from(pixel % SIDE < SIDE / 2) + 2 * u8::from(pixel / SIDE < SIDE / 2))
            .collect()
    }

    fn moved(change: &(impl Geometry + ?Sized), index: u64) -> Vec<u8> {
        let (mut classes, mut scratch) = (quarters(), Vec::new());
        let mut mask = Mask { classes: &mut classes, side: SIDE, scratch: &mut scratch };
        change.move_mask(&mut mask, &mut ChaCha8Rng::seed_from_u64(index));
        classes
    }

    /// How many pixels of the image are of another class than the mask says, where it says one and no other class is near.
    fn astray(seen: impl Fn(usize) -> f32, mask: &[u8]) -> usize {
        let is_inside = |pixel: usize| {
            let (x, y) = (pixel % SIDE, pixel / SIDE);
            (1..SIDE - 1).contains(&x)
                && (1..SIDE - 1).contains(&y)
                && [pixel - SIDE - 1, pixel - SIDE, pixel - 1, pixel + 1, pixel + SIDE, pixel + SIDE + 1]
                    .iter()
                    .all(|&other| mask[other] == mask[pixel])
        };
        let inside = (0..SIDE * SIDE).filter(|&pixel| mask[pixel] != IGNORED && is_inside(pixel));
        inside.filter(|&pixel| (seen(pixel) - f32::from(mask[pixel]) * 40.0).abs() > 1.5).count()
    }

    #[test]
    fn masks_move_as_their_images() {
        let affine = RandomAffine { rotate: 40.0, translate: 0.2, zoom: 0.3, shear: 15.0, colour: [0; 3] };
        let changes: [&dyn Change; 4] = [&HorizontalFlip, &VerticalFlip, &QuarterTurns, &affine];
        let plane_changes: [&dyn PlaneChange; 4] = [&HorizontalFlip, &VerticalFlip, &QuarterTurns, &affine];
        let mut distinct = std::collections::HashSet::new();
        for index in 0..60 {
            let random = || ChaCha8Rng::seed_from_u64(index);
            for (change, plane_change) in changes.into_iter().zip(plane_changes) {
                let mask = moved(change, index);
                assert_eq!(mask, moved(plane_change, index));
                let mut pixels: Vec<u8> = quarters().iter().flat_map(|&class| [class * 40; 3]).collect();
                change.apply(&mut Image { pixels: &mut pixels, side: SIDE, scratch: &mut Vec::new() }, &mut random());
                assert_eq!(astray(|pixel| f32::from(pixels[3 * pixel]), &mask), 0, "{change:?} {index}");
                let mut values: Vec<f32> = quarters().iter().map(|&class| f32::from(class) * 40.0).collect();
                let mut planes = Planes { values: &mut values, side: SIDE, scratch: &mut Vec::new() };
                plane_change.apply(&mut planes, &mut random());
                assert_eq!(astray(|pixel| values[pixel], &mask), 0, "{plane_change:?} {index}");
                distinct.insert(mask);
            }
        }
        assert!(distinct.len() > 60, "{}", distinct.len());
    }

    #[test]
    fn what_changes_colours_moves_nothing() {
        let same: [&dyn Geometry; 5] = [
            &ColorJitter::of(0.5),
            &RandomErasing { probability: 1.0, colour: [0; 3] },
            &GaussianBlur { most: 2.0 },
            &GaussianNoise { most: 1.0 },
            &IntensityJitter { contrast: 0.5, brightness: 0.5 },
        ];
        for (number, change) in same.into_iter().enumerate() {
            assert!((0..20).all(|index| moved(change, index) == quarters()), "{number}");
        }
    }

    #[test]
    fn operations_of_policies_that_move_pixels_move_those_of_masks() {
        let gray = |class: u8| if class == IGNORED { 0 } else { 40 * class + 20 };
        let mut is_moved = 0;
        for index in 0..200 {
            let mut pixels: Vec<u8> = quarters().iter().flat_map(|&class| [gray(class); 3]).collect();
            let mut random = ChaCha8Rng::seed_from_u64(index);
            let policy = Policy::TrivialAugmentWide;
            policy.apply(&mut Image { pixels: &mut pixels, side: SIDE, scratch: &mut Vec::new() }, &mut random);
            let mask = moved(&policy, index);
            if mask != quarters() {
                // Its one operation has left the colours alone: pixel by pixel, and black beyond the edge.
                let expected: Vec<u8> = mask.iter().flat_map(|&class| [gray(class); 3]).collect();
                assert!(pixels == expected, "{index}");
                is_moved += 1;
            }
        }
        assert!((40..110).contains(&is_moved), "{is_moved} of 200");
        let twice = Policy::RandAugment { operations: 2, magnitude: 20 };
        assert!((0..50).any(|index| moved(&twice, index) != quarters()));
    }
}
