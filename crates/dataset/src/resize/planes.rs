//! Scaling planes of numbers, in single precision: what torchvision's antialiased `resize` makes of a float tensor.

use super::weights::{Direction, FloatWeights};
use super::{Resample, Window};
use crate::size::Size;

/// Scales planes, and keeps its buffers for the next image.
#[derive(Debug)]
pub(crate) struct PlaneResizer {
    resample: Resample,
    across: FloatWeights,
    down: FloatWeights,
    /// A plane that is scaled across.
    narrow: Vec<f32>,
}

impl PlaneResizer {
    pub fn new(resample: Resample) -> Self {
        Self { resample, across: FloatWeights::default(), down: FloatWeights::default(), narrow: Vec::new() }
    }

    /// Scales `window` of an image to planes of `side`×`side` pixels.
    ///
    /// # Panics
    /// If `planes` are not whole planes of `size`, or `out` not as many of the other size.
    pub fn resize(&mut self, planes: &[f32], size: Size, window: &Window, side: usize, out: &mut [f32]) {
        let (width, height) = (size.width as usize, size.height as usize);
        assert_eq!(planes.len() / (width * height), out.len() / (side * side), "a plane for each");
        let pairs = planes.chunks_exact(width * height).zip(out.chunks_exact_mut(side * side));
        if let Some((left, top)) = copied(window, side) {
            for (plane, out) in pairs {
                let rows = plane.chunks_exact(width).skip(top);
                rows.zip(out.chunks_exact_mut(side))
                    .for_each(|(row, out)| out.copy_from_slice(&row[left..left + side]));
            }
            return;
        }
        self.across.set(self.resample, &Direction::new(size.width, window.left, window.width, side), side, width);
        self.down.set(self.resample, &Direction::new(size.height, window.top, window.height, side), side, height);
        self.narrow.resize(height * side, 0.0);
        let first = self.down.sums().map(|(from, _)| from).min().unwrap_or(0);
        let last = self.down.sums().map(|(from, weights)| from + weights.len()).max().unwrap_or(0);
        for (plane, out) in pairs {
            let rows = plane.chunks_exact(width).zip(self.narrow.chunks_exact_mut(side));
            for (row, narrow) in rows.take(last).skip(first) {
                for (out, (from, weights)) in narrow.iter_mut().zip(self.across.sums()) {
                    *out = weights.iter().zip(&row[from..]).map(|(weight, value)| weight * value).sum();
                }
            }
            for (out, (from, weights)) in out.chunks_exact_mut(side).zip(self.down.sums()) {
                out.fill(0.0);
                for (weight, row) in weights.iter().zip(self.narrow.chunks_exact(side).skip(from)) {
                    out.iter_mut().zip(row).for_each(|(out, value)| *out += weight * value);
                }
            }
        }
    }
}

/// Where a window begins that is as large as what becomes of it, and lies on whole pixels.
pub(crate) fn copied(window: &Window, side: usize) -> Option<(usize, usize)> {
    let is_whole = |offset: f64, length: f64| offset.fract() == 0.0 && length == side as f64;
    (is_whole(window.left, window.width) && is_whole(window.top, window.height))
        .then_some((window.left as usize, window.top as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The planes of `torch.arange(2·h·w).remainder(37) / 7`, as sums that are weighted by place.
    fn planes(size: Size) -> Vec<f32> {
        (0..2 * size.count()).map(|index| (index * index % 37) as f32 / 7.0).collect()
    }

    #[test]
    fn torchvision_agrees() {
        // torchvision 0.26: resize(image, [side, side], interpolation, antialias=True), the sum of value × (place + 1) in
        // double precision, over the number of them.
        let cases = [
            (20, 15, 7, Resample::Bilinear, 126.890431),
            (9, 14, 14, Resample::Bilinear, 512.393728),
            (64, 48, 20, Resample::Bilinear, 1028.87675),
            (20, 15, 7, Resample::Bicubic, 126.848009),
            (5, 5, 16, Resample::Bicubic, 643.929219),
            (33, 64, 32, Resample::Bicubic, 2631.25888),
        ];
        for (width, height, side, resample, expected) in cases {
            let size = Size { width, height };
            let mut out = vec![0.0; 2 * side * side];
            PlaneResizer::new(resample).resize(&planes(size), size, &Window::whole(size), side, &mut out);
            let sum: f64 = out.iter().zip(1..).map(|(&value, place)| f64::from(value) * f64::from(place)).sum();
            let mean = sum / out.len() as f64;
            assert!((mean - expected).abs() < 1e-5 * expected, "{width}×{height} to {side}: {mean}, not {expected}");
        }
    }

    #[test]
    fn what_needs_no_scaling_is_copied() {
        let size = Size { width: 5, height: 4 };
        let source = planes(size);
        let mut out = vec![0.0; 2 * 9];
        let window = Window { left: 1.0, top: 1.0, width: 3.0, height: 3.0 };
        PlaneResizer::new(Resample::Bilinear).resize(&source, size, &window, 3, &mut out);
        assert_eq!((out[0], out[8], out[9]), (source[6], source[18], source[26]));
    }
}
