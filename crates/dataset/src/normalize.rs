//! Bytes to the floats that a network sees.

use rayon::prelude::*;

/// What images have in common, by which they are normalized: mean and standard deviation of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    /// Of each channel, as many as there are: subtracted. In 0–1 where images are bytes, else in the images' own unit.
    pub mean: Vec<f64>,
    /// Above 0; what is left is divided by it.
    pub std: Vec<f64>,
}

impl Default for Normalization {
    fn default() -> Self {
        Self::imagenet()
    }
}

impl Normalization {
    /// Means of ImageNet's red, green and blue.
    pub const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
    /// Their standard deviations.
    pub const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

    /// ImageNet's pixels: what torchvision's published networks were trained with.
    pub fn imagenet() -> Self {
        Self { mean: Self::IMAGENET_MEAN.to_vec(), std: Self::IMAGENET_STD.to_vec() }
    }

    /// By mean and standard deviation 0.5: to −1 to 1.
    pub fn halves() -> Self {
        Self { mean: vec![0.5; 3], std: vec![0.5; 3] }
    }

    /// Those of the images that CLIP was trained on (Radford et al., 2021, arXiv:2103.00020).
    pub fn clip() -> Self {
        Self {
            mean: vec![0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: vec![0.268_629_54, 0.261_302_58, 0.275_777_11],
        }
    }

    /// What a byte of red, green and blue is multiplied with, and what is added then, so that (byte / 255 − mean) / std comes
    /// out.
    ///
    /// # Panics
    /// If there are other channels.
    pub fn scale_and_shift(&self) -> ([f32; 3], [f32; 3]) {
        let (_, shifts) = self.scales_and_shifts();
        let scale = std::array::from_fn(|channel| (1.0 / (255.0 * self.std[channel])) as f32);
        (scale, std::array::from_fn(|channel| shifts[channel] as f32))
    }

    /// What a number of each channel is multiplied with, and what is added then, so that (number − mean) / std comes out.
    pub(crate) fn scales_and_shifts(&self) -> (Vec<f64>, Vec<f64>) {
        let scales = self.std.iter().map(|std| 1.0 / std).collect();
        (scales, self.mean.iter().zip(&self.std).map(|(mean, std)| -mean / std).collect())
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
        for normalization in
            [Normalization::imagenet(), Normalization { mean: vec![0.5; 3], std: vec![0.25, 0.5, 1.0] }]
        {
            let mut out = [0.0; 12];
            normalization.apply(&[0, 127, 255].repeat(4), 2, &mut out);
            for (channel, byte) in [0.0, 127.0, 255.0].into_iter().enumerate() {
                let expected = ((byte / 255.0 - normalization.mean[channel]) / normalization.std[channel]) as f32;
                assert!(out[channel * 4..][..4].iter().all(|value| (value - expected).abs() < 1e-6), "{out:?}");
            }
        }
    }
}
