//! Bytes to the floats that a network sees.

use rayon::prelude::*;

/// What images have in common, by which they are normalized: mean and standard deviation of each channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// Red, green and blue, in 0–1; subtracted.
    pub mean: [f64; 3],
    /// In 0–1, above 0; what is left is divided by it.
    pub std: [f64; 3],
}

impl Default for Normalization {
    fn default() -> Self {
        Self::IMAGENET
    }
}

impl Normalization {
    /// ImageNet's pixels: what torchvision's published networks were trained with.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// What a byte of each channel is multiplied with, and what is added then, so that (byte / 255 − mean) / std comes
    /// out.
    pub fn scale_and_shift(&self) -> ([f32; 3], [f32; 3]) {
        let scale = self.std.map(|std| (1.0 / (255.0 * std)) as f32);
        let shift = std::array::from_fn(|channel| (-self.mean[channel] / self.std[channel]) as f32);
        (scale, shift)
    }

    /// Writes images as planes of normalized floats: N×H×W×3 bytes become N×3×H×W values. Works on the current rayon pool.
    ///
    /// # Panics
    /// If the buffers differ in length, or do not hold images of `side`×`side` pixels.
    pub fn apply(&self, pixels: &[u8], side: usize, out: &mut [f32]) {
        assert_eq!(pixels.len(), out.len(), "a value for each byte");
        let plane = side * side;
        assert_eq!(pixels.len() % (plane * 3), 0, "whole images");
        let (scale, shift) = self.scale_and_shift();
        out.par_chunks_mut(plane * 3).zip(pixels.par_chunks(plane * 3)).for_each(|(out, pixels)| {
            let (red, rest) = out.split_at_mut(plane);
            let (green, blue) = rest.split_at_mut(plane);
            let planes = red.iter_mut().zip(green).zip(blue);
            for (pixel, ((red, green), blue)) in pixels.as_chunks::<3>().0.iter().zip(planes) {
                *red = f32::from(pixel[0]) * scale[0] + shift[0];
                *green = f32::from(pixel[1]) * scale[1] + shift[1];
                *blue = f32::from(pixel[2]) * scale[2] + shift[2];
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_come_out_normalized() {
        for normalization in [Normalization::IMAGENET, Normalization { mean: [0.5; 3], std: [0.25, 0.5, 1.0] }] {
            let mut out = [0.0; 12];
            normalization.apply(&[0, 127, 255].repeat(4), 2, &mut out);
            for (channel, byte) in [0.0, 127.0, 255.0].into_iter().enumerate() {
                let expected = ((byte / 255.0 - normalization.mean[channel]) / normalization.std[channel]) as f32;
                assert!(out[channel * 4..][..4].iter().all(|value| (value - expected).abs() < 1e-6), "{out:?}");
            }
        }
    }
}
