//! Images mirrored and turned by quarters, with nothing lost: torchvision's `RandomHorizontalFlip` and `RandomVerticalFlip`, and
//! what lies flat, as seen from above or through a microscope, in all eight ways.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Change, Geometry, Image, Mask, PlaneChange, Planes};

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

impl Geometry for HorizontalFlip {
    fn move_mask(&self, mask: &mut Mask<'_>, random: &mut ChaCha8Rng) {
        if random.random_bool(0.5) {
            mask.classes.chunks_exact_mut(mask.side).for_each(<[u8]>::reverse);
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

/// Mirrors every other image, top to bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerticalFlip;

impl Change for VerticalFlip {
    fn apply(&self, image: &mut Image<'_>, random: &mut ChaCha8Rng) {
        if random.random_bool(0.5) {
            upside_down(image.pixels, image.side * 3);
        }
    }
}

impl Geometry for VerticalFlip {
    fn move_mask(&self, mask: &mut Mask<'_>, random: &mut ChaCha8Rng) {
        if random.random_bool(0.5) {
            upside_down(mask.classes, mask.side);
        }
    }
}

impl PlaneChange for VerticalFlip {
    fn apply(&self, image: &mut Planes<'_>, random: &mut ChaCha8Rng) {
        if random.random_bool(0.5) {
            let side = image.side;
            image.planes().for_each(|plane| upside_down(plane, side));
        }
    }
}

/// Turns each image by no, one, two or three quarters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarterTurns;

impl Change for QuarterTurns {
    fn apply(&self, image: &mut Image<'_>, random: &mut ChaCha8Rng) {
        let side = image.side;
        for _ in 0..random.random_range(0..4u32) {
            quarter(image.pixels.as_chunks_mut::<3>().0, side);
        }
    }
}

impl Geometry for QuarterTurns {
    fn move_mask(&self, mask: &mut Mask<'_>, random: &mut ChaCha8Rng) {
        for _ in 0..random.random_range(0..4u32) {
            quarter(mask.classes, mask.side);
        }
    }
}

impl PlaneChange for QuarterTurns {
    fn apply(&self, image: &mut Planes<'_>, random: &mut ChaCha8Rng) {
        let (side, turns) = (image.side, random.random_range(0..4u32));
        for plane in image.planes() {
            (0..turns).for_each(|_| quarter(plane, side));
        }
    }
}

/// The rows, of so many values, in the other order.
fn upside_down<T>(values: &mut [T], row: usize) {
    let rows = values.len() / row;
    for y in 0..rows / 2 {
        let (above, below) = values.split_at_mut((rows - 1 - y) * row);
        above[y * row..(y + 1) * row].swap_with_slice(&mut below[..row]);
    }
}

/// Turned counter-clockwise by a quarter: the axes exchanged, then upside down.
fn quarter<T>(values: &mut [T], side: usize) {
    for y in 0..side {
        for x in 0..y {
            values.swap(y * side + x, x * side + y);
        }
    }
    upside_down(values, side);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::changed;

    #[test]
    fn about_half_of_the_images_are_mirrored() {
        let source: Vec<u8> = (0..48).collect();
        let across = [9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2];
        let down: Vec<u8> = (36..48).collect();
        for (change, first_row) in [(&HorizontalFlip as &dyn Change, &across[..]), (&VerticalFlip, &down)] {
            let mut mirrored = 0;
            for index in 0..200 {
                let pixels = changed(change, &source, 4, index);
                if pixels != source {
                    assert_eq!(pixels[..12], *first_row);
                    mirrored += 1;
                }
            }
            assert!((70..130).contains(&mirrored), "{mirrored} of 200");
        }
    }

    #[test]
    fn images_are_turned_by_quarters() {
        for side in [1usize, 2, 3, 4] {
            let source: Vec<u8> = (0..side * side * 3).map(|value| value as u8).collect();
            // NumPy: rot90.
            let at = |x: usize, y: usize| source[(y * side + x) * 3];
            let mut seen = std::collections::HashSet::new();
            for index in 0..60 {
                let pixels = changed(&QuarterTurns, &source, side, index);
                let corner = pixels[0];
                assert!([at(0, 0), at(side - 1, 0), at(side - 1, side - 1), at(0, side - 1)].contains(&corner));
                seen.insert(pixels);
            }
            assert_eq!(seen.len(), if side == 1 { 1 } else { 4 });
        }
        let mut numbers = [1, 2, 3, 4];
        quarter(&mut numbers, 2);
        assert_eq!(numbers, [2, 4, 1, 3]); // numpy.rot90([[1, 2], [3, 4]])
    }
}
