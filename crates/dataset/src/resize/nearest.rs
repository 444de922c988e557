//! Scaling masks: each pixel is the nearest one, as Pillow's `NEAREST` has it. Classes have no mean.

use super::Window;
use crate::size::Size;

/// Writes `window` of a mask of this size, scaled to `side`×`side` pixels, into `out`.
///
/// # Panics
/// If there are not as many classes as the sizes say.
pub(crate) fn nearest(mask: &[u8], size: Size, window: &Window, side: usize, out: &mut [u8]) {
    let (width, height) = (size.width as usize, size.height as usize);
    assert_eq!((mask.len(), out.len()), (width * height, side * side), "a class for each pixel");
    let columns: Vec<_> = places(window.left, window.width, side, width).collect();
    for (out, row) in out.chunks_exact_mut(side).zip(places(window.top, window.height, side, height)) {
        let row = &mask[row * width..][..width];
        out.iter_mut().zip(&columns).for_each(|(out, &column)| *out = row[column]);
    }
}

/// Where along an axis of so many pixels each of `side` pixels comes from. Added up as Pillow does: where a place lies on the border
/// of two pixels, what is rounded away decides.
fn places(start: f64, length: f64, side: usize, pixels: usize) -> impl Iterator<Item = usize> {
    let scale = length / side as f64;
    let places = std::iter::successors(Some(start + scale * 0.5), move |place| Some(place + scale));
    places.take(side).map(move |place| (place as usize).min(pixels - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pillow_agrees() {
        // Pillow 13: Image.fromarray(...).resize((side, side), NEAREST, box), each value weighted with its place.
        let size = Size { width: 37, height: 23 };
        let mask: Vec<u8> = (0..37 * 23u32).map(|pixel| ((pixel * pixel * 5 + pixel * 37) >> 3 & 127) as u8).collect();
        let whole = Window::whole(size);
        let part = |left, top, width, height| Window { left, top, width, height };
        for (window, side, expected) in [
            (whole, 16, PILLOW[0]),
            (whole, 64, PILLOW[1]),
            (part(3.0, 2.0, 20.0, 17.0), 16, PILLOW[2]),
            (part(0.5, 7.25, 30.5, 11.0), 33, PILLOW[3]),
        ] {
            let mut out = vec![0; side * side];
            nearest(&mask, size, &window, side, &mut out);
            let sum: u64 = out.iter().zip(1..).map(|(&value, place)| u64::from(value) * place).sum();
            assert_eq!(sum, expected, "{window:?} to {side}");
        }
    }

    const PILLOW: [u64; 4] = [2_133_844, 537_227_945, 2_076_256, 37_436_002];
}
