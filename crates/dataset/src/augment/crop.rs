//! Which part of an image is taken.

use augmentations::IGNORED;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Size, Window};

/// Which part of an image is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crop {
    /// The middle.
    Center,
    /// A random window of the image with this many black pixels around it (torchvision's `RandomCrop`).
    Padded {
        /// Pixels a side.
        padding: usize,
    },
    /// A random part, scaled to the size that is asked for (torchvision's `RandomResizedCrop`), its sides 3:4 to 4:3.
    Resized {
        /// The smallest share of the area; the largest is all of it.
        least: f64,
    },
}

/// Width over height.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// The part that torchvision's `RandomResizedCrop` takes of an image.
pub(crate) fn random_part(size: Size, least: f64, random: &mut ChaCha8Rng) -> Window {
    let (width, height) = (f64::from(size.width), f64::from(size.height));
    let window =
        |left: u32, top: u32, width: f64, height: f64| Window { left: left.into(), top: top.into(), width, height };
    for _ in 0..10 {
        let area = width * height * random.random_range(least..=1.0);
        let ratio = random.random_range(RATIO.0.ln()..=RATIO.1.ln()).exp();
        let (part_width, part_height) = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round());
        if (1.0..=width).contains(&part_width) && (1.0..=height).contains(&part_height) {
            let top = random.random_range(0..=(height - part_height) as u32);
            let left = random.random_range(0..=(width - part_width) as u32);
            return window(left, top, part_width, part_height);
        }
    }
    // An image too long for any part: as much of its middle as the ratios allow.
    let part_width = width.min((height * RATIO.1).round()).max(1.0);
    let part_height = height.min((width / RATIO.0).round()).max(1.0);
    let offset = |length: f64, part: f64| ((length - part) / 2.0) as u32;
    window(offset(width, part_width), offset(height, part_height), part_width, part_height)
}

/// Copies a random window of `side`×`side` pixels of an image of that size with `padding` black pixels around it.
pub(crate) fn shift(source: &[u8], side: usize, padding: usize, out: &mut [u8], random: &mut ChaCha8Rng) {
    let (top, left) = offsets(padding, random);
    let from = left.clamp(0, side as isize) as usize;
    let to = (left + side as isize).clamp(0, side as isize) as usize;
    for (row, out) in out.chunks_exact_mut(side * 3).enumerate() {
        let y = top + row as isize;
        if (0..side as isize).contains(&y) && from < to {
            let source = &source[(y as usize * side + from) * 3..(y as usize * side + to) * 3];
            let start = (from as isize - left) as usize * 3;
            out[..start].fill(0);
            out[start..start + source.len()].copy_from_slice(source);
            out[start + source.len()..].fill(0);
        } else {
            out.fill(0);
        }
    }
}

/// How far a random window is moved down and to the right.
fn offsets(padding: usize, random: &mut ChaCha8Rng) -> (isize, isize) {
    let mut offset = || random.random_range(0..=2 * padding as u32) as isize - padding as isize;
    (offset(), offset())
}

/// Copies a random window of `side`×`side` pixels of planes of that size with `padding` pixels of zeros, the mean, around each.
pub(crate) fn shift_planes(source: &[f32], side: usize, padding: usize, out: &mut [f32], random: &mut ChaCha8Rng) {
    let offsets = offsets(padding, random);
    for (source, out) in source.chunks_exact(side * side).zip(out.chunks_exact_mut(side * side)) {
        shift_plane(source, side, offsets, out, 0.0);
    }
}

/// The same of the mask of an image, whose padding has no class.
pub(crate) fn shift_mask(source: &[u8], side: usize, padding: usize, out: &mut [u8], random: &mut ChaCha8Rng) {
    shift_plane(source, side, offsets(padding, random), out, IGNORED);
}

fn shift_plane<T: Copy>(source: &[T], side: usize, (top, left): (isize, isize), out: &mut [T], padding: T) {
    let from = left.clamp(0, side as isize) as usize;
    let to = (left + side as isize).clamp(0, side as isize) as usize;
    out.fill(padding);
    for (y, out) in (top..).zip(out.chunks_exact_mut(side)) {
        if (0..side as isize).contains(&y) && from < to {
            let start = (from as isize - left) as usize;
            out[start..start + to - from].copy_from_slice(&source[y as usize * side..][from..to]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Stream, stream};
    use proptest::prelude::*;

    fn random(index: u64) -> ChaCha8Rng {
        stream(Stream::Augmentation, 1, 0, index)
    }

    proptest! {
        #[test]
        fn a_shifted_image_is_a_window_of_the_padded_one(index: u64, padding in 0usize..10, side in 1usize..9) {
            // Pixels that say where they were: (x, y, 255).
            let source: Vec<u8> =
                (0..side * side).flat_map(|index| [(index % side) as u8, (index / side) as u8, 255]).collect();
            let mut out = vec![1; side * side * 3];
            shift(&source, side, padding, &mut out, &mut random(index));
            let pixels: Vec<_> = out.chunks(3).collect();
            for pair in pixels.chunks(side).flat_map(|row| row.windows(2)) {
                if pair[0][2] == 255 && pair[1][2] == 255 {
                    prop_assert_eq!(pair[0][0] + 1, pair[1][0]);
                    prop_assert_eq!(pair[0][1], pair[1][1]);
                } else {
                    prop_assert!(pair[0][2] == 255 || pair[0] == [0, 0, 0]);
                }
            }
        }

        #[test]
        fn planes_are_shifted_as_bytes_are(index: u64, padding in 0usize..10, side in 1usize..9) {
            let bytes: Vec<u8> = (0..side * side).flat_map(|pixel| [pixel as u8 + 1; 3]).collect();
            let planes: Vec<f32> = (0..2 * side * side).map(|pixel| (pixel % (side * side)) as f32 + 1.0).collect();
            let (mut out, mut shifted) = (vec![1; bytes.len()], vec![1.0; planes.len()]);
            shift(&bytes, side, padding, &mut out, &mut random(index));
            shift_planes(&planes, side, padding, &mut shifted, &mut random(index));
            let expected: Vec<f32> = out.iter().step_by(3).map(|&byte| f32::from(byte)).collect();
            prop_assert_eq!(&shifted[..side * side], &expected[..]);
            prop_assert_eq!(&shifted[side * side..], &expected[..]);
            let (mask, mut moved) = (vec![7; side * side], vec![0; side * side]);
            shift_mask(&mask, side, padding, &mut moved, &mut random(index));
            let of_image = expected.iter().map(|&value| if value > 0.0 { 7 } else { IGNORED });
            prop_assert_eq!(moved, of_image.collect::<Vec<_>>());
        }

        #[test]
        fn a_random_part_lies_inside(index: u64, width in 1u32..900, height in 1u32..900) {
            let part = random_part(Size { width, height }, 0.08, &mut random(index));
            prop_assert!(part.left >= 0.0 && part.top >= 0.0 && part.width >= 1.0 && part.height >= 1.0);
            prop_assert!(part.left + part.width <= width.into() && part.top + part.height <= height.into());
        }
    }

    #[test]
    fn a_very_long_image_gives_its_middle() {
        let part = random_part(Size { width: 1000, height: 10 }, 0.08, &mut random(0));
        assert_eq!(part, Window { left: 493.0, top: 0.0, width: 13.0, height: 10.0 });
    }
}
