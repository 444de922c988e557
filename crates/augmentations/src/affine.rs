//! Turned, moved, zoomed and sheared by random amounts, about the middle: torchvision's `RandomAffine`, with the bilinear filter.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::warp::{self, Affine};
use crate::{Change, Geometry, Image, Mask, PlaneChange, Planes};

/// How far images are turned, moved, zoomed and sheared, at most. What nothing of the image comes to is the colour that
/// normalization makes zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RandomAffine {
    /// Degrees each way.
    pub rotate: f64,
    /// Share of the side, each way, along each axis.
    pub translate: f64,
    /// The factor is 1 − this to 1 + this.
    pub zoom: f64,
    /// Degrees each way, along each axis.
    pub shear: f64,
    /// What lies beyond the edge of an image of bytes.
    pub colour: [u8; 3],
}

impl RandomAffine {
    /// Whether it leaves every image as it is.
    pub fn is_nothing(&self) -> bool {
        [self.rotate, self.translate, self.zoom, self.shear] == [0.0; 4]
    }

    /// Where each pixel of the output comes from.
    fn draw(&self, side: usize, random: &mut ChaCha8Rng) -> Affine {
        let mut each_way = |most: f64| random.random_range(-1.0f64..=1.0) * most;
        let angle = each_way(self.rotate).to_radians();
        let [right, down] = [0, 1].map(|_| each_way(self.translate) * side as f64);
        let zoom = 1.0 + each_way(self.zoom);
        let [across, along] = [0, 1].map(|_| each_way(self.shear).to_radians());
        // What the image is multiplied with, as torchvision has it: sheared along one axis after the other, which keeps its area,
        // turned and zoomed.
        let (sin, cos) = angle.sin_cos();
        let [slanted_cos, slanted_sin] =
            [(angle - along).cos(), (angle - along).sin()].map(|value| value / along.cos());
        let [a, b] = [slanted_cos, -slanted_cos * across.tan() - sin].map(|value| value * zoom);
        let [c, d] = [slanted_sin, -slanted_sin * across.tan() + cos].map(|value| value * zoom);
        let determinant = a * d - b * c;
        let [a, b, c, d] = [d, -b, -c, a].map(|value| value / determinant);
        let middle = side as f64 / 2.0;
        let (x, y) = (middle + right, middle + down);
        [a, b, middle - a * x - b * y, c, d, middle - c * x - d * y]
    }
}

impl Geometry for RandomAffine {
    fn move_mask(&self, mask: &mut Mask<'_>, random: &mut ChaCha8Rng) {
        warp::apply_to_mask(self.draw(mask.side, random), mask);
    }
}

impl Change for RandomAffine {
    fn apply(&self, image: &mut Image<'_>, random: &mut ChaCha8Rng) {
        let affine = self.draw(image.side, random);
        let side = image.side;
        image.scratch.clear();
        image.scratch.extend_from_slice(image.pixels);
        let source = image.scratch.as_chunks::<3>().0;
        let out = image.pixels.as_chunks_mut::<3>().0;
        let colour = self.colour.map(f32::from);
        let at = |place: Option<usize>, channel: usize| {
            place.map_or(colour[channel], |place| f32::from(source[place][channel]))
        };
        sample(affine, side, |pixel, places, weights| {
            for (channel, byte) in out[pixel].iter_mut().enumerate() {
                let sum: f32 = places.iter().zip(weights).map(|(&place, weight)| weight * at(place, channel)).sum();
                *byte = (sum + 0.5) as u8; // `as` stops at 0 and 255
            }
        });
    }
}

impl PlaneChange for RandomAffine {
    fn apply(&self, image: &mut Planes<'_>, random: &mut ChaCha8Rng) {
        let affine = self.draw(image.side, random);
        let (side, count) = (image.side, image.side * image.side);
        image.scratch.clear();
        image.scratch.extend_from_slice(image.values);
        let (values, source) = (&mut *image.values, &*image.scratch);
        sample(affine, side, |pixel, places, weights| {
            let planes = values.chunks_exact_mut(count).zip(source.chunks_exact(count));
            for (out, source) in planes {
                let at = |place: Option<usize>| place.map_or(0.0, |place| source[place]);
                out[pixel] = places.iter().zip(weights).map(|(&place, weight)| weight * at(place)).sum();
            }
        });
    }
}

/// Calls `take` with each pixel of the output, the four that it comes from (none beyond the edge), and their weights.
fn sample([a, b, c, d, e, f]: Affine, side: usize, mut take: impl FnMut(usize, [Option<usize>; 4], [f32; 4])) {
    let inside = |at: f64| (0.0..side as f64).contains(&at).then_some(at as usize);
    for pixel in 0..side * side {
        let (x, y) = ((pixel % side) as f64 + 0.5, (pixel / side) as f64 + 0.5);
        let (from_x, from_y) = (a * x + b * y + c - 0.5, d * x + e * y + f - 0.5);
        let (left, top) = (from_x.floor(), from_y.floor());
        let (right, below) = ((from_x - left) as f32, (from_y - top) as f32);
        let place = |x: f64, y: f64| Some(inside(y)? * side + inside(x)?);
        let places = [place(left, top), place(left + 1.0, top), place(left, top + 1.0), place(left + 1.0, top + 1.0)];
        let weights = [(1.0 - right) * (1.0 - below), right * (1.0 - below), (1.0 - right) * below, right * below];
        take(pixel, places, weights);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn planes(change: &RandomAffine, values: &[f32], side: usize, index: u64) -> Vec<f32> {
        let (mut values, mut scratch) = (values.to_vec(), Vec::new());
        let mut image = Planes { values: &mut values, side, scratch: &mut scratch };
        PlaneChange::apply(change, &mut image, &mut ChaCha8Rng::seed_from_u64(index));
        values
    }

    #[test]
    fn nothing_is_moved_by_nothing() {
        let source: Vec<f32> = (0..2 * 25).map(|value| value as f32).collect();
        assert_eq!(planes(&RandomAffine::default(), &source, 5, 3), source);
    }

    #[test]
    fn bytes_and_planes_are_moved_alike() {
        let change = RandomAffine { rotate: 40.0, translate: 0.1, zoom: 0.3, shear: 20.0, colour: [0; 3] };
        for index in 0..50 {
            let bytes: Vec<u8> =
                (0..16 * 16).flat_map(|pixel| [(pixel % 251) as u8, 7, 200 - (pixel / 2) as u8]).collect();
            let numbers: Vec<f32> =
                (0..3).flat_map(|channel| bytes.iter().skip(channel).step_by(3).map(|&byte| f32::from(byte))).collect();
            let moved = planes(&change, &numbers, 16, index);
            let (mut pixels, mut scratch) = (bytes.clone(), Vec::new());
            let mut image = Image { pixels: &mut pixels, side: 16, scratch: &mut scratch };
            Change::apply(&change, &mut image, &mut ChaCha8Rng::seed_from_u64(index));
            for (pixel, found) in pixels.as_chunks::<3>().0.iter().enumerate() {
                for channel in 0..3 {
                    assert!((f32::from(found[channel]) - moved[channel * 256 + pixel]).abs() <= 0.5 + 1e-3);
                }
            }
        }
    }

    #[test]
    fn turns_and_shears_keep_the_area() {
        for rotate in [0.0, 180.0] {
            let change = RandomAffine { rotate, shear: 60.0, ..RandomAffine::default() };
            for index in 0..200 {
                let [a, b, _, c, d, _] = change.draw(32, &mut ChaCha8Rng::seed_from_u64(index));
                assert!((a * d - b * c - 1.0).abs() < 1e-9, "{}", a * d - b * c);
            }
        }
    }

    #[test]
    fn a_ramp_stays_a_plane_where_nothing_is_beyond_the_edge() {
        // Bilinear values of a linear image are exact: they give back where each pixel came from.
        let side = 32;
        let across: Vec<f32> = (0..side * side).map(|pixel| (pixel % side) as f32 + 100.0).collect();
        for (change, most) in [
            (RandomAffine { rotate: 30.0, ..RandomAffine::default() }, 30.0),
            (RandomAffine { translate: 0.1, ..RandomAffine::default() }, 3.2),
        ] {
            for index in 0..20 {
                let moved = planes(&change, &across, side, index);
                let at = |x: usize, y: usize| moved[y * side + x];
                let step = at(17, 16) - at(16, 16);
                let down = at(16, 17) - at(16, 16);
                if change.rotate > 0.0 {
                    let angle = f64::from(down).atan2(f64::from(step)).to_degrees();
                    assert!(angle.abs() <= most + 1e-3 && (step.hypot(down) - 1.0).abs() < 1e-4, "{angle}");
                    // The middle stays where it is.
                    let middle = (at(15, 15) + at(16, 16)) / 2.0;
                    assert!((middle - 115.5).abs() < 1e-3, "{middle}");
                } else {
                    let shift = f64::from(at(16, 16)) - 116.0;
                    assert!(shift.abs() <= most && (step - 1.0).abs() < 1e-4 && down.abs() < 1e-4, "{shift}");
                }
            }
        }
    }
}
