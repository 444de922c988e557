//! Pixels of other kinds to RGB of 8 bits, with Pillow's arithmetic.

/// Adobe's inverted CMYK, as it stands in JPEG files, to RGB.
pub(super) fn inverted_cmyk_to_rgb(cmyk: &[u8], rgb: &mut [u8]) {
    for (pixel, out) in cmyk.as_chunks::<4>().0.iter().zip(rgb.as_chunks_mut::<3>().0) {
        let white = pixel[3]; // 255 − black
        for (out, &inverted) in out.iter_mut().zip(pixel) {
            *out = white.saturating_sub(product(255 - inverted, white));
        }
    }
}

/// a·b / 255, rounded.
fn product(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// Makes RGB of pixels of `N` bytes each, no more than RGB has, in their place: the first `count` times `N` bytes become
/// the first `count` times 3.
pub(super) fn widen<const N: usize>(pixels: &mut [u8], count: usize, rgb: impl Fn(&[u8; N]) -> [u8; 3]) {
    // From the end on, so that nothing is overwritten before it is read.
    for index in (0..count).rev() {
        if let Some(pixel) = pixels[index * N..].first_chunk().map(&rgb) {
            pixels[index * 3..][..3].copy_from_slice(&pixel);
        }
    }
}

/// The same for pixels of more bytes than RGB has, all of them.
pub(super) fn narrow<const N: usize>(pixels: &mut [u8], rgb: impl Fn(&[u8; N]) -> [u8; 3]) {
    for index in 0..pixels.len() / N {
        if let Some(pixel) = pixels[index * N..].first_chunk().map(&rgb) {
            pixels[index * 3..][..3].copy_from_slice(&pixel);
        }
    }
}

/// A colour from 0 to 1; what is none counts as white, as in the image crate.
pub(super) fn of_float(value: f32) -> u8 {
    let value = if value.is_nan() { 1.0 } else { value.clamp(0.0, 1.0) };
    (value * 255.0).round() as u8
}

/// The upper byte of a sample of 16 bits, which is what Pillow keeps of 16-bit colours.
pub(super) fn upper_byte(value: u16) -> u8 {
    (value >> 8) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_rounded(a: u8, b: u8) {
            let exact = (f64::from(a) * f64::from(b) / 255.0).round();
            prop_assert_eq!(f64::from(product(a, b)), exact);
        }
    }

    #[test]
    fn inks() {
        // Stored inverted: 255 is no ink.
        let cases = [
            ([255, 255, 255, 255], [255, 255, 255]),
            ([255, 255, 255, 0], [0, 0, 0]),
            ([0, 255, 255, 255], [0, 255, 255]),
            ([128, 255, 0, 200], [100, 200, 0]),
        ];
        for (cmyk, rgb) in cases {
            let mut out = [0; 3];
            inverted_cmyk_to_rgb(&cmyk, &mut out);
            assert_eq!(out, rgb, "{cmyk:?}");
        }
    }
}
