//! What the images of a set are made of.

/// What the images of a set are made of, from the file to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// Red, green and blue, a byte each: pixel by pixel, normalized on the device.
    Rgb8,
    /// Numbers of so many channels: plane by plane, in single precision, normalized as soon as they are read.
    Planes {
        /// How many there are.
        channels: usize,
    },
}

impl PixelFormat {
    /// The channels of an image.
    pub fn channels(self) -> usize {
        match self {
            Self::Rgb8 => 3,
            Self::Planes { channels } => channels,
        }
    }

    /// Bytes that an image of `side`×`side` pixels takes in a batch.
    pub fn bytes(self, side: usize) -> usize {
        match self {
            Self::Rgb8 => side * side * 3,
            Self::Planes { channels } => side * side * channels * size_of::<f32>(),
        }
    }
}
