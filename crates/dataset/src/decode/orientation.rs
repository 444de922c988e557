//! EXIF orientation: images that a camera stored on their side.
//!
//! A window of the upright image is taken from the image as it is stored, scaled, and only then turned: the square
//! that comes out is smaller than the image.

use image::metadata::Orientation;

use crate::resize::Window;
use crate::size::Size;

/// Whether width and height change places.
pub(super) fn turns(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Where a pixel of the upright image lies in the stored one: each as (x, y), in an image that is stored with this
/// width and height. Continuous, so that it serves for corners of windows as for centres of pixels.
fn stored(orientation: Orientation, (x, y): (f64, f64), (width, height): (f64, f64)) -> (f64, f64) {
    match orientation {
        Orientation::NoTransforms => (x, y),
        Orientation::FlipHorizontal => (width - x, y),
        Orientation::Rotate180 => (width - x, height - y),
        Orientation::FlipVertical => (x, height - y),
        Orientation::Rotate90FlipH => (y, x), // transposed
        Orientation::Rotate90 => (y, height - x),
        Orientation::Rotate270FlipH => (width - y, height - x), // transversed
        Orientation::Rotate270 => (width - y, x),
    }
}

/// The window of the stored image that becomes `window` of the `upright` one.
pub(super) fn window_before(orientation: Orientation, window: Window, upright: Size) -> Window {
    let size = upright.turned(turns(orientation));
    let size = (f64::from(size.width), f64::from(size.height));
    let a = stored(orientation, (window.left, window.top), size);
    let b = stored(orientation, (window.left + window.width, window.top + window.height), size);
    Window { left: a.0.min(b.0), top: a.1.min(b.1), width: (a.0 - b.0).abs(), height: (a.1 - b.1).abs() }
}

/// Turns a stored image of this `size` upright into `out`, and says what size it has then.
pub(super) fn apply(orientation: Orientation, size: Size, pixels: &[u8], out: &mut [u8]) -> Size {
    let upright = size.turned(turns(orientation));
    let bounds = (f64::from(size.width), f64::from(size.height));
    let mut out = out.chunks_exact_mut(3);
    for y in 0..upright.height {
        for x in 0..upright.width {
            let (x, y) = stored(orientation, (f64::from(x) + 0.5, f64::from(y) + 0.5), bounds);
            let from = (y as usize * size.width as usize + x as usize) * 3;
            if let Some(out) = out.next() {
                out.copy_from_slice(&pixels[from..from + 3]);
            }
        }
    }
    upright
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, RgbImage};

    #[test]
    fn images_are_turned_as_the_image_crate_turns_them() {
        let image = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 7]));
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let mut expected = DynamicImage::from(image.clone());
            expected.apply_orientation(orientation);
            let mut out = vec![0; image.len()];
            let size = apply(orientation, Size { width: 5, height: 3 }, &image, &mut out);
            assert_eq!((size.width, size.height), (expected.width(), expected.height()), "{exif}");
            assert_eq!(out, expected.into_rgb8().into_raw(), "{exif}");
        }
    }

    #[test]
    fn a_window_and_its_image_turn_together() {
        // The upper left pixel of the upright image, found in the stored one.
        let stored = RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 7]));
        for exif in 1..=8 {
            let orientation = Orientation::from_exif(exif).unwrap();
            let mut upright = DynamicImage::from(stored.clone());
            upright.apply_orientation(orientation);
            let size = Size { width: upright.width(), height: upright.height() };
            let window = Window { left: 1.0, top: 2.0, width: 1.0, height: 1.0 };
            let before = window_before(orientation, window, size);
            assert_eq!((before.width, before.height), (1.0, 1.0));
            let pixel = stored.get_pixel(before.left as u32, before.top as u32);
            assert_eq!(pixel, upright.into_rgb8().get_pixel(1, 2), "{exif}");
        }
    }
}
