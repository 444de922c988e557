//! Changes to images of any number of channels: planes of normalized numbers, where zero is a channel's mean and one its standard
//! deviation. What needs colour has no place here.

use std::fmt::Debug;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::{Geometry, Mask};

/// A random change to an image of planes, after it was cropped and normalized.
pub trait PlaneChange: Geometry + Debug + Send + Sync {
    /// Changes the image in place. Whatever is random about it must be drawn from `random`.
    fn apply(&self, image: &mut Planes<'_>, random: &mut ChaCha8Rng);
}

/// An image that is changed in place.
#[derive(Debug)]
pub struct Planes<'a> {
    /// channels×`side`×`side` numbers, normalized.
    pub values: &'a mut [f32],
    /// Height and width, in pixels.
    pub side: usize,
    /// A thread's memory for whatever a change has to put aside; its contents are nobody's.
    pub scratch: &'a mut Vec<f32>,
}

impl Planes<'_> {
    /// The channels, one after the other.
    pub fn planes(&mut self) -> std::slice::ChunksExactMut<'_, f32> {
        self.values.chunks_exact_mut(self.side * self.side)
    }
}

/// Each channel's numbers become a·x + b: a from 1 − `contrast` to 1 + `contrast`, b from −`brightness` to `brightness` standard
/// deviations, both drawn once for all channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IntensityJitter {
    /// How far the factor lies from 1, at most.
    pub contrast: f32,
    /// How far the numbers are moved, at most, in standard deviations.
    pub brightness: f32,
}

impl Geometry for IntensityJitter {
    fn move_mask(&self, _: &mut Mask<'_>, _: &mut ChaCha8Rng) {}
}

impl PlaneChange for IntensityJitter {
    fn apply(&self, image: &mut Planes<'_>, random: &mut ChaCha8Rng) {
        let factor = 1.0 + random.random_range(-1.0f32..=1.0) * self.contrast;
        let shift = random.random_range(-1.0f32..=1.0) * self.brightness;
        image.values.iter_mut().for_each(|value| *value = *value * factor + shift);
    }
}

/// Normal noise on each number, of a strength drawn for each image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianNoise {
    /// The strongest noise's standard deviation, in those of the channels.
    pub most: f32,
}

impl Geometry for GaussianNoise {
    fn move_mask(&self, _: &mut Mask<'_>, _: &mut ChaCha8Rng) {}
}

impl PlaneChange for GaussianNoise {
    fn apply(&self, image: &mut Planes<'_>, random: &mut ChaCha8Rng) {
        let strength = random.random_range(0.0f32..=1.0) * self.most;
        for value in &mut *image.values {
            let noise: f32 = StandardNormal.sample(random);
            *value += strength * noise;
        }
    }
}

/// Every other image is blurred by a Gaussian, of a width drawn for each; beyond the edge the image is mirrored
/// (torchvision's `GaussianBlur`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianBlur {
    /// The widest Gaussian's standard deviation, in pixels; the narrowest is a tenth.
    pub most: f32,
}

impl Geometry for GaussianBlur {
    fn move_mask(&self, _: &mut Mask<'_>, _: &mut ChaCha8Rng) {}
}

impl PlaneChange for GaussianBlur {
    fn apply(&self, image: &mut Planes<'_>, random: &mut ChaCha8Rng) {
        let (blurs, share) = (random.random_bool(0.5), random.random_range(0.1f32..=1.0));
        if blurs {
            blur(image, self.most * share);
        }
    }
}

fn blur(image: &mut Planes<'_>, sigma: f32) {
    let side = image.side;
    let radius = ((3.0 * sigma).ceil() as usize).clamp(1, side.saturating_sub(1).max(1));
    let weight = |distance: usize| (-0.5 * (distance as f32 / sigma).powi(2)).exp();
    let sum = weight(0) + 2.0 * (1..=radius).map(weight).sum::<f32>();
    let weights: Vec<f32> = (0..=radius).map(|distance| weight(distance) / sum).collect();
    let mirrored = |at: isize| {
        let last = side as isize - 1;
        let at = if at < 0 { -at } else { at };
        (if at > last { 2 * last - at } else { at }).clamp(0, last) as usize
    };
    let scratch = std::mem::take(image.scratch);
    let mut rows = scratch;
    for plane in image.values.chunks_exact_mut(side * side) {
        rows.clear();
        for row in plane.chunks_exact(side) {
            rows.extend((0..side).map(|x| {
                let around = |distance: usize| {
                    let (x, distance) = (x as isize, distance as isize);
                    weights[distance as usize] * (row[mirrored(x - distance)] + row[mirrored(x + distance)])
                };
                weights[0] * row[x] + (1..=radius).map(around).sum::<f32>()
            }));
        }
        for y in 0..side {
            for x in 0..side {
                let at = |y: usize| rows[y * side + x];
                let around = |distance: usize| {
                    let (y, distance) = (y as isize, distance as isize);
                    weights[distance as usize] * (at(mirrored(y - distance)) + at(mirrored(y + distance)))
                };
                plane[y * side + x] = weights[0] * at(y) + (1..=radius).map(around).sum::<f32>();
            }
        }
    }
    *image.scratch = rows;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HorizontalFlip, RandomAffine, RandomErasing};
    use rand::SeedableRng;

    fn changed(change: &dyn PlaneChange, values: &[f32], side: usize, index: u64) -> Vec<f32> {
        let (mut values, mut scratch) = (values.to_vec(), Vec::new());
        let mut image = Planes { values: &mut values, side, scratch: &mut scratch };
        change.apply(&mut image, &mut ChaCha8Rng::seed_from_u64(index));
        values
    }

    #[test]
    fn every_change_is_the_same_twice_and_another_by_other_draws() {
        let source: Vec<f32> = (0..5 * 16 * 16).map(|value| ((value * 7 % 251) as f32 - 125.0) / 50.0).collect();
        let all: [&dyn PlaneChange; 5] = [
            &RandomAffine { rotate: 20.0, translate: 0.1, zoom: 0.2, shear: 5.0, colour: [0; 3] },
            &IntensityJitter { contrast: 0.2, brightness: 0.2 },
            &GaussianNoise { most: 0.3 },
            &GaussianBlur { most: 2.0 },
            &RandomErasing { probability: 1.0, colour: [0; 3] },
        ];
        for change in all {
            let images = || (0..20).map(|index| changed(change, &source, 16, index)).collect::<Vec<_>>();
            assert_eq!(images(), images());
            let distinct: std::collections::HashSet<Vec<u32>> =
                images().into_iter().map(|image| image.into_iter().map(f32::to_bits).collect()).collect();
            assert!(distinct.len() >= 8, "{change:?}: {}", distinct.len());
        }
        for side in [1, 2, 3] {
            for change in all {
                assert_eq!(changed(change, &source[..side * side * 5], side, 3).len(), side * side * 5);
            }
        }
    }

    #[test]
    fn a_blur_keeps_what_is_even_and_its_sum_in_the_middle() {
        let even = vec![1.5f32; 9 * 9];
        let mut values = even.clone();
        blur(&mut Planes { values: &mut values, side: 9, scratch: &mut Vec::new() }, 1.0);
        assert!(values.iter().all(|value| (value - 1.5).abs() < 1e-5));
        // torchvision 0.26: gaussian_blur of a point, 7×7 weights of sigma 1.
        let mut point = vec![0.0f32; 9 * 9];
        point[40] = 1.0;
        blur(&mut Planes { values: &mut point, side: 9, scratch: &mut Vec::new() }, 1.0);
        assert!((point[40] - 0.159_241_13).abs() < 1e-6, "{}", point[40]);
        assert!((point[41] - 0.096_584_63).abs() < 1e-6, "{}", point[41]);
        assert!((point.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn all_channels_are_mirrored_and_erased_alike() {
        let source: Vec<f32> = (0..2 * 16).map(|value| value as f32).collect();
        let mirrored = (0..50).map(|index| changed(&HorizontalFlip, &source, 4, index)).find(|image| *image != source);
        let mirrored = mirrored.expect("every other one is");
        assert_eq!((&mirrored[..4], &mirrored[16..20]), (&[3.0, 2.0, 1.0, 0.0][..], &[19.0, 18.0, 17.0, 16.0][..]));
        let erased = changed(&RandomErasing { probability: 1.0, colour: [9; 3] }, &[5.0; 3 * 400], 20, 1);
        let lost = |channel: usize| (0..400).filter(|pixel| erased[channel * 400 + pixel] == 0.0).collect::<Vec<_>>();
        assert!(!lost(0).is_empty() && lost(0) == lost(1) && lost(0) == lost(2));
    }
}
