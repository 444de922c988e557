//! Moving pixels: shear, translation and rotation, to the nearest pixel and black where nothing was, as Pillow's
//! `transform(AFFINE, NEAREST)`.

use crate::{IGNORED, Mask};

/// Where the pixel at (x, y) of the output comes from: x′ = ax + by + c, y′ = dx + ey + f.
pub(super) type Affine = [f64; 6];

pub(super) fn shear_x(level: f64) -> Affine {
    [1.0, level, 0.0, 0.0, 1.0, 0.0]
}

pub(super) fn shear_y(level: f64) -> Affine {
    [1.0, 0.0, 0.0, level, 1.0, 0.0]
}

/// Moves the image by so many pixels to the right and down.
pub(super) fn translation(right: f64, down: f64) -> Affine {
    [1.0, 0.0, -right, 0.0, 1.0, -down]
}

/// Turns the image about its centre, counter-clockwise.
pub(super) fn rotation(degrees: f64, side: usize) -> Affine {
    let (sin, cos) = (-degrees.to_radians()).sin_cos();
    let center = side as f64 / 2.0;
    [cos, sin, center - cos * center - sin * center, -sin, cos, center + sin * center - cos * center]
}

/// Moves the pixels of an image of `side`×`side` pixels in place.
pub(super) fn apply(affine: Affine, pixels: &mut [u8], side: usize, scratch: &mut Vec<u8>) {
    scratch.clear();
    scratch.extend_from_slice(pixels);
    nearest(affine, scratch.as_chunks::<3>().0, pixels.as_chunks_mut::<3>().0, side, [0; 3]);
}

/// Moves the classes of a mask in place; beyond the edge there is none.
pub(super) fn apply_to_mask(affine: Affine, mask: &mut Mask<'_>) {
    mask.scratch.clear();
    mask.scratch.extend_from_slice(mask.classes);
    nearest(affine, mask.scratch, mask.classes, mask.side, IGNORED);
}

/// Gives each pixel of `out` the nearest one of `source`, or what is `beyond` its edge.
fn nearest<T: Copy>([a, b, c, d, e, f]: Affine, source: &[T], out: &mut [T], side: usize, beyond: T) {
    let limit = side as f64;
    for (y, row) in out.chunks_exact_mut(side).enumerate() {
        let y = y as f64 + 0.5;
        for (x, out) in row.iter_mut().enumerate() {
            let x = x as f64 + 0.5;
            let (from_x, from_y) = (a * x + b * y + c, d * x + e * y + f);
            let inside = (0.0..limit).contains(&from_x) && (0.0..limit).contains(&from_y);
            *out = if inside { source[from_y as usize * side + from_x as usize] } else { beyond };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pillow_agrees() {
        // The sums of Pillow's images, each byte weighted with its place.
        let cases = [
            ("shear x", shear_x(0.3), 238_493_666),
            ("shear y", shear_y(-0.2), 296_867_220),
            ("translation", translation(-5.0, 0.0), 251_587_232),
            ("rotation", rotation(30.0, 32), 256_773_054),
            ("rotation back", rotation(-75.0, 32), 269_413_402),
        ];
        for (name, affine, expected) in cases {
            let mut pixels: Vec<u8> =
                (0..32 * 32 * 3u32).map(|i| (i * i * 5 + i * 37 + 11) >> 3).map(|value| value as u8 & 127).collect();
            apply(affine, &mut pixels, 32, &mut Vec::new());
            let sum: u64 = pixels.iter().zip(1..).map(|(&value, place)| u64::from(value) * place).sum();
            assert_eq!(sum, expected, "{name}");
        }
    }
}
