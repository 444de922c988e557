//! Random erasing (Zhong et al., 2017): a rectangle of the image is lost.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Change, Geometry, Image, Mask, PlaneChange, Planes};

/// Shares of the area, as torchvision's.
const SCALE: std::ops::RangeInclusive<f64> = 0.02..=0.33;
/// Height over width.
const RATIO: (f64, f64) = (0.3, 3.3);

/// Some images lose a random rectangle (torchvision's `RandomErasing`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomErasing {
    /// The share of images that lose one, 0–1.
    pub probability: f64,
    /// What is left in its place: red, green and blue. What is zero after normalization is what torchvision erases to.
    pub colour: [u8; 3],
}

/// What is lost is still to be told, from what is around it.
impl Geometry for RandomErasing {
    fn move_mask(&self, _: &mut Mask<'_>, _: &mut ChaCha8Rng) {}
}

impl Change for RandomErasing {
    fn apply(&self, image: &mut Image<'_>, random: &mut ChaCha8Rng) {
        if random.random_bool(self.probability) {
            let Some(Rectangle { left, top, width, height }) = rectangle(image.side, random) else { return };
            for row in image.pixels.chunks_exact_mut(image.side * 3).skip(top).take(height) {
                row[left * 3..(left + width) * 3].as_chunks_mut::<3>().0.fill(self.colour);
            }
        }
    }
}

/// What is left in its place is zero, the mean.
impl PlaneChange for RandomErasing {
    fn apply(&self, image: &mut Planes<'_>, random: &mut ChaCha8Rng) {
        if random.random_bool(self.probability) {
            let side = image.side;
            let Some(Rectangle { left, top, width, height }) = rectangle(side, random) else { return };
            for plane in image.planes() {
                plane.chunks_exact_mut(side).skip(top).take(height).for_each(|row| row[left..left + width].fill(0.0));
            }
        }
    }
}

/// What is lost, in pixels.
struct Rectangle {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

fn rectangle(side: usize, random: &mut ChaCha8Rng) -> Option<Rectangle> {
    let area = (side * side) as f64;
    for _ in 0..10 {
        let part = area * random.random_range(SCALE);
        let ratio = random.random_range(RATIO.0.ln()..=RATIO.1.ln()).exp();
        let (height, width) = ((part * ratio).sqrt().round() as usize, (part / ratio).sqrt().round() as usize);
        if height >= side || width >= side {
            continue;
        }
        let top = random.random_range(0..=(side - height) as u32) as usize;
        let left = random.random_range(0..=(side - width) as u32) as usize;
        return Some(Rectangle { left, top, width, height });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::changed;

    #[test]
    fn a_rectangle_is_lost() {
        for index in 0..100 {
            let pixels = changed(&RandomErasing { probability: 1.0, colour: [9, 8, 7] }, &[0; 20 * 20 * 3], 20, index);
            let lost: Vec<usize> = (0..400).filter(|&pixel| pixels[pixel * 3] == 9).collect();
            let (left, right) = (
                lost.iter().map(|pixel| pixel % 20).min().unwrap(),
                lost.iter().map(|pixel| pixel % 20).max().unwrap(),
            );
            let rows = lost[lost.len() - 1] / 20 - lost[0] / 20 + 1;
            assert_eq!(lost.len(), rows * (right - left + 1), "it is a rectangle");
            assert!((4..=140).contains(&lost.len()), "{}", lost.len());
        }
    }
}
