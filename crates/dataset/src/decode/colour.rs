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

/// Gray to RGB.
pub(super) fn gray_to_rgb(gray: impl Iterator<Item = u8>) -> Vec<u8> {
    gray.flat_map(|value| [value; 3]).collect()
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
