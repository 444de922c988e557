//! Bytes to the floats that a network sees.

use rayon::prelude::*;

/// Mean of ImageNet's pixels, red, green and blue, in 0–1.
pub const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// Their standard deviation.
pub const STD: [f64; 3] = [0.229, 0.224, 0.225];

/// What a byte of each channel is multiplied with, and what is added then, so that (byte / 255 − [`MEAN`]) / [`STD`] comes
/// out.
pub fn normalization() -> ([f32; 3], [f32; 3]) {
    let scale = STD.map(|std| (1.0 / (255.0 * std)) as f32);
    let shift = std::array::from_fn(|channel| (-MEAN[channel] / STD[channel]) as f32);
    (scale, shift)
}

/// Writes images as planes of normalized floats: N×H×W×3 bytes become N×3×H×W values. Works on the current rayon pool.
///
/// # Panics
/// If the buffers differ in length, or do not hold images of `side`×`side` pixels.
pub fn normalize(pixels: &[u8], side: usize, out: &mut [f32]) {
    assert_eq!(pixels.len(), out.len(), "a value for each byte");
    let plane = side * side;
    assert_eq!(pixels.len() % (plane * 3), 0, "whole images");
    let (scale, shift) = normalization();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_come_out_normalized() {
        let mut out = [0.0; 12];
        normalize(&[0, 127, 255].repeat(4), 2, &mut out);
        for (channel, byte) in [0.0, 127.0, 255.0].into_iter().enumerate() {
            let expected = ((byte / 255.0 - MEAN[channel]) / STD[channel]) as f32;
            assert!(out[channel * 4..][..4].iter().all(|value| (value - expected).abs() < 1e-6), "{out:?}");
        }
    }
}
