//! Bytes to the floats that a network sees.

use rayon::prelude::*;

/// Writes images as planes of floats: N×H×W×3 bytes become N×3×H×W values, (byte / 255 − mean) / deviation for each
/// channel. Works on the current rayon pool.
///
/// # Panics
/// If the buffers differ in length, or do not hold images of `side`×`side` pixels.
pub fn normalize(pixels: &[u8], side: usize, mean: [f32; 3], deviation: [f32; 3], out: &mut [f32]) {
    assert_eq!(pixels.len(), out.len(), "a value for each byte");
    let plane = side * side;
    assert_eq!(pixels.len() % (plane * 3), 0, "whole images");
    let scale = deviation.map(|deviation| 1.0 / (255.0 * deviation));
    let offset: [f32; 3] = std::array::from_fn(|channel| -mean[channel] / deviation[channel]);
    out.par_chunks_mut(plane * 3).zip(pixels.par_chunks(plane * 3)).for_each(|(out, pixels)| {
        let (red, rest) = out.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let planes = red.iter_mut().zip(green).zip(blue);
        for (pixel, ((red, green), blue)) in pixels.as_chunks::<3>().0.iter().zip(planes) {
            *red = f32::from(pixel[0]) * scale[0] + offset[0];
            *green = f32::from(pixel[1]) * scale[1] + offset[1];
            *blue = f32::from(pixel[2]) * scale[2] + offset[2];
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_planes() {
        let pixels = [0, 255, 51, 255, 0, 102, 0, 0, 0, 51, 51, 51];
        let mut out = [9.0; 12];
        normalize(&pixels, 2, [0.5, 0.0, 0.0], [0.5, 1.0, 0.1], &mut out);
        let expected = [-1.0, 1.0, -1.0, -0.6, 1.0, 0.0, 0.0, 0.2, 2.0, 4.0, 0.0, 2.0];
        assert!(out.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{out:?}");
    }
}
