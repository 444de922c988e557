//! Which part of an image is scaled.

use crate::size::Size;

/// A part of an image, in its pixels. Windows may begin and end between pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// From the image's left edge.
    pub left: f64,
    /// From the image's upper edge.
    pub top: f64,
    /// To the right.
    pub width: f64,
    /// Downwards.
    pub height: f64,
}

impl Window {
    /// All of an image.
    pub fn whole(size: Size) -> Self {
        Self { left: 0.0, top: 0.0, width: size.width.into(), height: size.height.into() }
    }

    /// The square of an image that becomes `resize`×`resize` pixels when its shorter side is scaled to `resize`, and whose
    /// own middle `side`×`side` is what torchvision's `Resize(resize)` followed by `CenterCrop(side)` takes of the image.
    /// `side` is at most `resize`.
    ///
    /// Exactly that, because Pillow's filter gives a pixel of a scaled window the same weights as in the scaled image.
    pub fn square(size: Size, resize: usize, side: usize) -> Self {
        let (width, height) = (f64::from(size.width), f64::from(size.height));
        let (shorter, longer) = (size.width.min(size.height) as usize, size.width.max(size.height) as usize);
        let longer = (resize as u64 * longer as u64 / shorter as u64) as f64; // cut off, as torchvision does
        let (scaled_width, scaled_height) =
            if size.width <= size.height { (resize as f64, longer) } else { (longer, resize as f64) };
        let (scale_x, scale_y) = (width / scaled_width, height / scaled_height);
        let inside = offset(resize as f64, side as f64);
        let place = |scaled: f64| offset(scaled, side as f64) - inside;
        let resize = resize as f64;
        Self {
            left: place(scaled_width) * scale_x,
            top: place(scaled_height) * scale_y,
            width: resize * scale_x,
            height: resize * scale_y,
        }
    }
}

impl Window {
    /// What torchvision's `Resize(resize)` followed by `CenterCrop(side)` takes of an image. `side` is at most `resize`.
    pub fn center(size: Size, resize: usize, side: usize) -> Self {
        let square = Self::square(size, resize, side);
        let (scale_x, scale_y) = (square.width / resize as f64, square.height / resize as f64);
        let (start, side) = (offset(resize as f64, side as f64), side as f64);
        Self {
            left: square.left + start * scale_x,
            top: square.top + start * scale_y,
            width: side * scale_x,
            height: side * scale_y,
        }
    }
}

/// How an image becomes a square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// Its shorter side is scaled, and the middle cut out.
    #[default]
    Crop,
    /// All of it is scaled, whatever its sides are: every pixel counts.
    Squash,
}

impl Fit {
    const ALL: [Self; 2] = [Self::Crop, Self::Squash];

    /// `crop` or `squash`: what caches and model cards call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crop => "crop",
            Self::Squash => "squash",
        }
    }

    /// That of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fit| fit.name() == name)
    }

    /// What of an image becomes `resize`×`resize` pixels, of whose middle `side`×`side` will be cut out.
    pub(crate) fn square(self, size: Size, resize: usize, side: usize) -> Window {
        match self {
            Self::Crop => Window::square(size, resize, side),
            Self::Squash => Window::whole(size),
        }
    }

    /// What of an image becomes those `side`×`side` pixels.
    pub(crate) fn center(self, size: Size, resize: usize, side: usize) -> Window {
        match self {
            Self::Crop => Window::center(size, resize, side),
            Self::Squash => {
                let (width, height) = (f64::from(size.width), f64::from(size.height));
                let (start, share) = (offset(resize as f64, side as f64), side as f64 / resize as f64);
                let start = start / resize as f64;
                Window { left: start * width, top: start * height, width: share * width, height: share * height }
            }
        }
    }
}

/// Where the middle `side` pixels of `length` begin, as torchvision's `CenterCrop` has them.
pub(crate) fn offset(length: f64, side: f64) -> f64 {
    ((length - side) / 2.0).round_ties_even() // Python's round
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    #[test]
    fn evaluation_windows_are_torchvisions() {
        // (size, resize, side, width of the scaled image, torchvision's offsets in it)
        let cases = [
            (size(500, 375), 256, 224, (341.0, 256.0), (58.0, 16.0)), // 58.5 rounds to even
            (size(375, 500), 256, 224, (256.0, 341.0), (16.0, 58.0)),
            (size(768, 512), 256, 224, (384.0, 256.0), (80.0, 16.0)),
            (size(500, 282), 256, 224, (453.0, 256.0), (114.0, 16.0)), // 114.5
            (size(32, 32), 32, 32, (32.0, 32.0), (0.0, 0.0)),
            (size(3, 2), 8, 8, (12.0, 8.0), (2.0, 0.0)),
        ];
        for (size, resize, side, scaled, offset) in cases {
            let window = Window::center(size, resize, side);
            let scale = (f64::from(size.width) / scaled.0, f64::from(size.height) / scaled.1);
            let expected = Window {
                left: offset.0 * scale.0,
                top: offset.1 * scale.1,
                width: side as f64 * scale.0,
                height: side as f64 * scale.1,
            };
            let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
            assert!(near(window.left, expected.left) && near(window.top, expected.top), "{size:?}: {window:?}");
            assert!(near(window.width, expected.width) && near(window.height, expected.height), "{size:?}: {window:?}");
        }
    }

    proptest! {
        #[test]
        fn a_square_holds_the_middle_where_its_own_middle_is(
            width in 1u32..3000, height in 1u32..3000, resize in 1usize..300, part in 0.0..1.0,
        ) {
            let (image, side) = (size(width, height), (resize as f64 * part) as usize + 1);
            let (square, middle) = (Window::square(image, resize, side), Window::center(image, resize, side));
            prop_assert!(square.left >= 0.0 && square.top >= 0.0, "{square:?}");
            prop_assert!(square.left + square.width <= f64::from(width) + 1e-6, "{square:?}");
            prop_assert!(square.top + square.height <= f64::from(height) + 1e-6, "{square:?}");
            let scale = square.width / resize as f64;
            let longer = (resize as u64 * u64::from(width.max(height)) / u64::from(width.min(height))) as f64;
            let (scaled, expected) = if width >= height { (longer, middle.left) } else { (resize as f64, middle.left) };
            prop_assert!((offset(scaled, side as f64) * scale - expected).abs() < 1e-6);
        }

        #[test]
        fn a_window_of_the_middle_lies_inside(width in 1u32..3000, height in 1u32..3000, resize in 1usize..300) {
            let window = Window::center(size(width, height), resize, resize.div_ceil(2));
            prop_assert!(window.left >= 0.0 && window.top >= 0.0);
            prop_assert!(window.left + window.width <= f64::from(width) + 1e-6);
            prop_assert!(window.top + window.height <= f64::from(height) + 1e-6);
        }
    }
}
