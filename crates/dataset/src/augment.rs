//! Random changes to training pictures, on bytes, before anything becomes a float.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{PixelType, Resizer};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::decode::bilinear;

/// Which part of a picture is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crop {
    /// The middle.
    Center,
    /// A random window of the picture with this many black pixels around it (torchvision's `RandomCrop`).
    Padded {
        /// Pixels a side.
        padding: usize,
    },
    /// A random part of 8 to 100 % of the area, its sides 3:4 to 4:3, scaled to the size that is asked for
    /// (torchvision's `RandomResizedCrop`).
    Resized,
}

/// What happens to a picture on its way into a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// Which part is taken.
    pub crop: Crop,
    /// Whether half of the pictures are mirrored.
    pub flip: bool,
}

impl Augmentation {
    /// For evaluation: the middle, as it is.
    pub const NONE: Self = Self { crop: Crop::Center, flip: false };

    /// Writes the changed `source` (`source_side`²×3 bytes) into `out` (`side`²×3 bytes).
    ///
    /// # Panics
    /// If the buffers do not have these sizes, or a crop without resizing is larger than its source.
    pub(crate) fn apply(
        &self,
        source: &[u8],
        source_side: usize,
        out: &mut [u8],
        side: usize,
        random: &mut ChaCha8Rng,
    ) {
        match self.crop {
            Crop::Center => {
                let offset = (source_side - side) as isize / 2;
                window(source, source_side, out, side, offset, offset);
            }
            Crop::Padded { padding } => {
                let room = source_side + 2 * padding - side;
                let mut offset = || random.random_range(0..=room as u32) as isize - padding as isize;
                let (top, left) = (offset(), offset());
                window(source, source_side, out, side, top, left);
            }
            Crop::Resized => {
                let (left, top, width, height) = random_part(source_side as f64, random);
                let pixels = ImageRef::new(source_side as u32, source_side as u32, source, PixelType::U8x3);
                let pixels = pixels.expect("a picture has side² pixels");
                let mut target = Image::from_slice_u8(side as u32, side as u32, out, PixelType::U8x3)
                    .expect("a target has side² pixels");
                Resizer::new()
                    .resize(&pixels, &mut target, &bilinear().crop(left, top, width, height))
                    .expect("the part lies inside the picture");
            }
        }
        if self.flip && random.random_bool(0.5) {
            for row in out.chunks_exact_mut(side * 3) {
                mirror(row);
            }
        }
    }
}

fn mirror(row: &mut [u8]) {
    let pixels = row.len() / 3;
    for left in 0..pixels / 2 {
        let right = pixels - 1 - left;
        for channel in 0..3 {
            row.swap(left * 3 + channel, right * 3 + channel);
        }
    }
}

/// Copies the window at (`top`, `left`); what lies outside the source is black.
fn window(source: &[u8], source_side: usize, out: &mut [u8], side: usize, top: isize, left: isize) {
    let from = left.clamp(0, source_side as isize) as usize;
    let to = (left + side as isize).clamp(0, source_side as isize) as usize;
    for (row, out) in out.chunks_exact_mut(side * 3).enumerate() {
        out.fill(0);
        let y = top + row as isize;
        if (0..source_side as isize).contains(&y) && from < to {
            let source = &source[(y as usize * source_side + from) * 3..(y as usize * source_side + to) * 3];
            let start = (from as isize - left) as usize * 3;
            out[start..start + source.len()].copy_from_slice(source);
        }
    }
}

/// (left, top, width, height) of torchvision's RandomResizedCrop in a square picture.
fn random_part(side: f64, random: &mut ChaCha8Rng) -> (f64, f64, f64, f64) {
    let ratio_limit = (4.0f64 / 3.0).ln();
    for _ in 0..10 {
        let area = side * side * random.random_range(0.08..=1.0);
        let ratio = random.random_range(-ratio_limit..=ratio_limit).exp();
        let (width, height) = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round());
        if (1.0..=side).contains(&width) && (1.0..=side).contains(&height) {
            let left = random.random_range(0..=(side - width) as u32);
            let top = random.random_range(0..=(side - height) as u32);
            return (left.into(), top.into(), width, height);
        }
    }
    (0.0, 0.0, side, side)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Stream, stream};
    use proptest::prelude::*;

    /// A picture whose pixels say where they were: (x, y, 255).
    fn coordinates(side: usize) -> Vec<u8> {
        (0..side * side).flat_map(|index| [(index % side) as u8, (index / side) as u8, 255]).collect()
    }

    fn random(index: u64) -> ChaCha8Rng {
        stream(Stream::Augmentation, 1, 0, index)
    }

    proptest! {
        #[test]
        fn a_padded_crop_is_a_window_of_the_padded_picture(index: u64, padding in 0usize..6, side in 4usize..9) {
            let mut out = vec![1; side * side * 3];
            let augmentation = Augmentation { crop: Crop::Padded { padding }, flip: false };
            augmentation.apply(&coordinates(8), 8, &mut out, side.min(8), &mut random(index));
            let pixels: Vec<_> = out[..side.min(8).pow(2) * 3].chunks(3).map(<[u8]>::to_vec).collect();
            for pair in pixels.chunks(side.min(8)).flat_map(|row| row.windows(2)) {
                let inside = |pixel: &[u8]| pixel[2] == 255;
                if inside(&pair[0]) && inside(&pair[1]) {
                    prop_assert_eq!(pair[0][0] + 1, pair[1][0]);
                    prop_assert_eq!(pair[0][1], pair[1][1]);
                } else {
                    prop_assert!(inside(&pair[0]) || pair[0] == [0, 0, 0]);
                }
            }
        }

        #[test]
        fn a_random_part_lies_inside(index: u64, side in 1u32..500) {
            let (left, top, width, height) = random_part(side.into(), &mut random(index));
            prop_assert!(left >= 0.0 && top >= 0.0 && left + width <= side.into() && top + height <= side.into());
            prop_assert!(width >= 1.0 && height >= 1.0);
        }
    }

    #[test]
    fn flips_mirror_about_half_of_the_pictures() {
        let source = coordinates(4);
        let augmentation = Augmentation { crop: Crop::Center, flip: true };
        let mut mirrored = 0;
        for index in 0..200 {
            let mut out = vec![0; 48];
            augmentation.apply(&source, 4, &mut out, 4, &mut random(index));
            if out != source {
                assert_eq!(out[..12], [3, 0, 255, 2, 0, 255, 1, 0, 255, 0, 0, 255]);
                mirrored += 1;
            }
        }
        assert!((70..130).contains(&mirrored), "{mirrored} of 200");
    }

    #[test]
    fn evaluation_takes_the_middle() {
        let mut out = vec![0; 12];
        Augmentation::NONE.apply(&coordinates(4), 4, &mut out, 2, &mut random(0));
        assert_eq!(out, [1, 1, 255, 2, 1, 255, 1, 2, 255, 2, 2, 255]);
    }

    #[test]
    fn a_resized_crop_fills_its_target() {
        let mut out = vec![0; 5 * 5 * 3];
        let augmentation = Augmentation { crop: Crop::Resized, flip: true };
        augmentation.apply(&coordinates(16), 16, &mut out, 5, &mut random(3));
        assert!(out.chunks(3).all(|pixel| pixel[2] == 255));
    }
}
