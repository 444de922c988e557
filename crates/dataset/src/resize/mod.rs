//! Scaling a part of an image to a square, bit for bit as Pillow and torchvision scale: anti-aliased, in two passes.
//!
//! ```text
//! image ── window ──> along rows ──> bytes ──> along columns ──> side × side
//!             └── weights of each direction
//! ```

mod nearest;
mod passes;
mod planes;
mod weights;
mod window;

pub(crate) use nearest::nearest;
use passes::{SLACK, along_columns, along_rows};
pub(crate) use planes::{PlaneResizer, copied};
use weights::{Direction, Weights};
pub(crate) use window::offset;
pub use window::{Fit, Window};

use crate::size::Size;

/// The filter that scales. Both are anti-aliased: when an image shrinks, every pixel of it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resample {
    /// torchvision's default.
    #[default]
    Bilinear,
    /// Sharper.
    Bicubic,
}

impl Resample {
    /// `bilinear` or `bicubic`: what caches and model cards call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
        }
    }

    /// The filter of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Bilinear, Self::Bicubic].into_iter().find(|filter| filter.name() == name)
    }

    /// How far around a pixel's centre the filter looks when so many pixels become one.
    pub(crate) fn support(self, scale: f64) -> f64 {
        let radius = match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        };
        radius * scale.max(1.0)
    }

    /// The filter's value so far from its centre.
    fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            // Keys' cubic convolution with a = −1/2, as Pillow has it.
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            Self::Bicubic => 0.0,
        }
    }
}

/// Decoded pixels, of all of an image or of a rectangle of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pixels<'a> {
    /// height×width×3.
    pub bytes: &'a [u8],
    pub size: Size,
    /// Where they begin in the image.
    pub left: usize,
    pub top: usize,
    /// The whole image's size.
    pub whole: Size,
    /// Whether its rows become columns afterwards.
    pub turned: bool,
}

impl<'a> Pixels<'a> {
    /// All of an image.
    pub fn whole(bytes: &'a [u8], size: Size) -> Self {
        Self { bytes, size, left: 0, top: 0, whole: size, turned: false }
    }
}

/// Scales, and keeps its buffers for the next image.
#[derive(Debug)]
pub(crate) struct Resizer {
    resample: Resample,
    across: Weights,
    down: Weights,
    /// Two rows of the image, and what may be read behind them.
    rows: [Vec<u8>; 2],
    /// Rows that are scaled across, with a byte behind each that may be written.
    narrow: Vec<u8>,
}

impl Resizer {
    pub fn new(resample: Resample) -> Self {
        let (across, down) = Default::default();
        Self { resample, across, down, rows: Default::default(), narrow: Vec::new() }
    }

    /// Scales `window` of an image to `side`×`side` pixels: the bits that Pillow 13 gives.
    ///
    /// # Panics
    /// If a buffer does not have its image's size. A window that reaches past an edge by less than a pixel, as
    /// arithmetic can make it, is moved inside.
    pub fn resize(&mut self, pixels: &Pixels<'_>, window: &Window, side: usize, out: &mut [u8]) {
        let copied = |offset: f64, length: f64| offset.fract() == 0.0 && length == side as f64;
        if copied(window.left, window.width) && copied(window.top, window.height) {
            let (left, top) = (window.left as usize - pixels.left, window.top as usize - pixels.top);
            return copy(pixels.bytes, pixels.size, left, top, side, out);
        }
        let across = Direction::new(pixels.whole.width, window.left, window.width, side);
        let down = Direction::new(pixels.whole.height, window.top, window.height, side);
        let size = |size: u32, begin: usize| begin..begin + size as usize;
        self.across.set(self.resample, &across, side, size(pixels.size.width, pixels.left));
        self.down.set(self.resample, &down, side, size(pixels.size.height, pixels.top));
        let columns_first = match pixels.turned {
            false => is_lower_first(&across, &down),
            true => !is_lower_first(&down, &across),
        };
        if columns_first { self.down_then_across(pixels, side, out) } else { self.across_then_down(pixels, side, out) }
    }

    fn across_then_down(&mut self, pixels: &Pixels<'_>, side: usize, out: &mut [u8]) {
        let (rows, columns) = (self.down.needed(), self.across.needed());
        let (pitch, narrow) = (pixels.size.width as usize * 3, side * 3 + 1);
        let needed = columns.start * 3..columns.end * 3;
        self.make_room(needed.end, rows.len(), narrow);
        let [first, second] = &mut self.rows;
        for (index, out) in self.narrow.chunks_exact_mut(2 * narrow).enumerate() {
            let row = |index: usize| &pixels.bytes[(rows.start + index).min(rows.end - 1) * pitch..][needed.clone()];
            first[needed.clone()].copy_from_slice(row(2 * index));
            second[needed.clone()].copy_from_slice(row(2 * index + 1));
            along_rows([first, second], &self.across, out.split_at_mut(narrow).into());
        }
        for ((from, weights), out) in self.down.sums().zip(out.chunks_exact_mut(side * 3)) {
            along_columns(&self.narrow[(from - rows.start) * narrow..], narrow, weights, out);
        }
    }

    fn down_then_across(&mut self, pixels: &Pixels<'_>, side: usize, out: &mut [u8]) {
        let columns = self.across.needed();
        let (pitch, narrow) = (pixels.size.width as usize * 3, side * 3 + 1);
        let needed = columns.start * 3..columns.end * 3;
        self.make_room(needed.end, 2, narrow);
        let mut sums = self.down.sums();
        for out in out.chunks_mut(side * 6) {
            for (row, (from, weights)) in self.rows.iter_mut().zip(&mut sums) {
                along_columns(&pixels.bytes[from * pitch + needed.start..], pitch, weights, &mut row[needed.clone()]);
            }
            let [first, second] = &self.rows;
            along_rows([first, second], &self.across, self.narrow.split_at_mut(narrow).into());
            for (out, row) in out.chunks_exact_mut(side * 3).zip(self.narrow.chunks_exact(narrow)) {
                out.copy_from_slice(&row[..side * 3]);
            }
        }
    }

    /// Room for two rows of so many bytes, and for `count` rows that are scaled across.
    fn make_room(&mut self, bytes: usize, count: usize, narrow: usize) {
        self.rows.iter_mut().for_each(|row| row.resize(bytes + SLACK, 0));
        self.narrow.resize(count.next_multiple_of(2) * narrow, 0);
    }
}

/// Whether Pillow scales the columns before the rows: where the height loses far more pixels than the width.
fn is_lower_first(across: &Direction, down: &Direction) -> bool {
    let lost = |direction: &Direction| direction.length.round() - direction.scaled.round();
    lost(down) > 0.0 && lost(down) > 2.0 * lost(across)
}

pub(crate) fn copy(pixels: &[u8], size: Size, left: usize, top: usize, side: usize, out: &mut [u8]) {
    let pitch = size.width as usize * 3;
    let rows = pixels.chunks_exact(pitch).skip(top);
    for (out, row) in out.chunks_exact_mut(side * 3).zip(rows) {
        out.copy_from_slice(&row[left * 3..][..side * 3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    /// Pixels of every kind: half noise, half black and white.
    fn noise(size: Size) -> Vec<u8> {
        let value = |index: u64| match ((index * 2_654_435_761) as u32 >> 19) as u8 {
            value if (index / 7).is_multiple_of(3) => u8::MAX * u8::from(value > 127),
            value => value,
        };
        (0..size.bytes() as u64).map(value).collect()
    }

    fn fnv1a(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    #[test]
    fn bits_are_pillows() {
        // Width, height, Resize, CenterCrop; hashes of what Pillow 13.0 makes of the noise, bilinear and bicubic:
        // scripts/parity.d/scaling.py.
        let cases = [
            (64, 48, 32, 32, 0xbfc435fec016b4e0, 0x2cd0195344bbc955),
            (500, 375, 256, 224, 0x344fa85eda336c4d, 0xf3078d2f11d0c63b),
            (375, 500, 256, 224, 0x017a2e8d06b6073f, 0xa8d1c3a40a0292b2),
            (31, 40, 32, 32, 0x612e77653e5e9b05, 0x0f3ecdb1a0e213ff),
            (7, 5, 64, 64, 0xe502b8698ae96344, 0x9a8ddbff7652e81b),
            (640, 427, 232, 224, 0xe65b2c42cc5e0c29, 0xb3d77a7a73a65b2a),
            (1, 1, 8, 8, 0xef5725cd97d73f25, 0xef5725cd97d73f25),
            (3, 2, 8, 8, 0x557db050f9aae519, 0x5bb71bfa0a8ee4ef),
            (97, 1000, 16, 12, 0x07c0af58b6ec2fba, 0x8ddcb3ae99fbcd4b),
            (1200, 900, 40, 33, 0xcf41b92bb5c4f244, 0x66c32927784b6557),
            (256, 256, 224, 224, 0xb23d3fc2735d6611, 0xa9c4a31bc57550b1),
            (33, 33, 32, 28, 0x2cf5919cabe41ae0, 0x6db8ff71734c4c32),
        ];
        for (width, height, resize, side, bilinear, bicubic) in cases {
            let image = size(width, height);
            let pixels = noise(image);
            for (resample, expected) in [(Resample::Bilinear, bilinear), (Resample::Bicubic, bicubic)] {
                let mut resizer = Resizer::new(resample);
                let mut out = vec![0; side * side * 3];
                resizer.resize(&Pixels::whole(&pixels, image), &Window::center(image, resize, side), side, &mut out);
                assert_eq!(fnv1a(&out), expected, "{width}×{height} to {side} of {resize}, {resample:?}");
                // And through the square that a cache keeps.
                let mut square = vec![0; resize * resize * 3];
                resizer.resize(
                    &Pixels::whole(&pixels, image),
                    &Window::square(image, resize, side),
                    resize,
                    &mut square,
                );
                let middle = offset(resize as f64, side as f64) as usize;
                copy(&square, size(resize as u32, resize as u32), middle, middle, side, &mut out);
                assert_eq!(fnv1a(&out), expected, "{width}×{height}: the middle of a square");
            }
        }
    }

    /// An image that is stored on its side gives the bits of the upright one, whichever direction comes first.
    #[test]
    fn turning_may_come_after_scaling() {
        let transposed = |bytes: &[u8], Size { width, height }: Size| -> Vec<u8> {
            let pixel = |x: u32, y: u32| bytes[(y * width + x) as usize * 3..][..3].iter().copied();
            (0..width).flat_map(|x| (0..height).flat_map(move |y| pixel(x, y))).collect()
        };
        for (width, height) in [(40, 30), (30, 100), (97, 1000), (100, 30)] {
            let upright = size(width, height);
            let (pixels, stored) = (noise(upright), transposed(&noise(upright), upright));
            let mut resizer = Resizer::new(Resample::Bilinear);
            let [mut expected, mut out] = [vec![0; 16 * 16 * 3], vec![0; 16 * 16 * 3]];
            resizer.resize(&Pixels::whole(&pixels, upright), &Window::center(upright, 16, 16), 16, &mut expected);
            let on_its_side = Pixels { turned: true, ..Pixels::whole(&stored, size(height, width)) };
            resizer.resize(&on_its_side, &Window::center(size(height, width), 16, 16), 16, &mut out);
            assert!(transposed(&out, size(16, 16)) == expected, "{width}×{height}");
        }
    }

    proptest! {
        #[test]
        fn a_scaled_window_is_a_part_of_the_scaled_image(
            width in 9u32..60, height in 9u32..60, side in 2usize..9, seed: u64,
        ) {
            let pixels: Vec<u8> =
                (0..size(width, height).bytes() as u64).map(|index| (index.wrapping_mul(seed | 1) >> 7) as u8).collect();
            // The middle of 9 scaled pixels, and all 9 of them.
            let shorter = width.min(height);
            let square = size(shorter, shorter);
            let pixels = &pixels[..square.bytes()];
            let mut resizer = Resizer::new(Resample::Bilinear);
            let mut all = vec![0; 9 * 9 * 3];
            resizer.resize(&Pixels::whole(pixels, square), &Window::whole(square), 9, &mut all);
            let mut part = vec![0; side * side * 3];
            resizer.resize(&Pixels::whole(pixels, square), &Window::center(square, 9, side), side, &mut part);
            let offset = ((9.0 - side as f64) / 2.0).round_ties_even() as usize;
            for y in 0..side {
                for x in 0..side * 3 {
                    let (a, b) = (part[y * side * 3 + x], all[(y + offset) * 27 + offset * 3 + x]);
                    prop_assert_eq!(a, b, "at {}, {}", x, y);
                }
            }
        }
    }
}
