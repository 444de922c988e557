//! How large an image is, and may be.

use crate::limits::MOST_PIXELS;

/// Width and height, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// Bytes of such an image in RGB.
    pub(crate) fn bytes(self) -> usize {
        self.width as usize * self.height as usize * 3
    }

    /// Pixels of such an image.
    pub(crate) fn count(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    pub(crate) fn turned(self, turned: bool) -> Self {
        if turned { Self { width: self.height, height: self.width } } else { self }
    }

    /// Refuses a mask of this size where its image has another.
    pub(crate) fn refuse_other_than(self, image: Self) -> Result<(), String> {
        if self == image {
            return Ok(());
        }
        let is_turned = (self.width, self.height) == (image.height, image.width);
        let hint = if is_turned { "; --exif-orientation turns images upright" } else { "" };
        let Self { width, height } = image;
        Err(format!("it has {}×{} pixels, and the image {width}×{height}{hint}", self.width, self.height))
    }

    pub(crate) fn check(self) -> Result<Self, String> {
        let Self { width, height } = self;
        if width == 0 || height == 0 {
            return Err(format!("it has no pixels ({width}×{height})"));
        }
        if self.count() > MOST_PIXELS {
            return Err(format!(
                "{width}×{height} pixels are too many (a decompression bomb?), at most {MOST_PIXELS} are decoded; make the \
                 image smaller"
            ));
        }
        Ok(self)
    }
}
