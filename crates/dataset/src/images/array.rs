//! Images as arrays of numbers, as HDF5, netCDF and NumPy files hold them, read as planes in single precision.

use crate::{PixelFormat, Size};

/// What a number of an array is, in this machine's order of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

/// Calls the macro `numbers` with the type of an element's numbers.
macro_rules! for_element {
    ($element:expr, $numbers:ident) => {
        match $element {
            Element::U8 => $numbers!(u8),
            Element::I8 => $numbers!(i8),
            Element::U16 => $numbers!(u16),
            Element::I16 => $numbers!(i16),
            Element::U32 => $numbers!(u32),
            Element::I32 => $numbers!(i32),
            Element::U64 => $numbers!(u64),
            Element::I64 => $numbers!(i64),
            Element::F32 => $numbers!(f32),
            Element::F64 => $numbers!(f64),
        }
    };
}
pub(super) use for_element;

impl Element {
    /// The bytes of one.
    pub fn width(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Whether it may be no number.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Whether single precision holds each of them, or rounds what was measured no coarser than it is stored.
    pub fn is_pixel(self) -> bool {
        !matches!(self, Self::U32 | Self::I32 | Self::U64 | Self::I64)
    }

    /// As NumPy calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::U64 => "uint64",
            Self::I64 => "int64",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// Calls `take` with each number of `bytes`, in order.
    pub fn each(self, bytes: &[u8], mut take: impl FnMut(f64)) {
        macro_rules! numbers {
            ($number:ty) => {
                for bytes in bytes.as_chunks::<{ size_of::<$number>() }>().0 {
                    take(<$number>::from_ne_bytes(*bytes) as f64);
                }
            };
        }
        for_element!(self, numbers);
    }
}

/// In which order the numbers of an image lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axes {
    /// Pixel by pixel: height×width×channels.
    ChannelsLast,
    /// Plane by plane: channels×height×width.
    ChannelsFirst,
}

/// What each image of an array is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ArrayLayout {
    pub element: Element,
    pub axes: Axes,
    pub channels: usize,
    pub size: Size,
    /// What a number is multiplied with, and what is added then: how netCDF packs, and 1/255 for bytes.
    pub scale: f64,
    pub offset: f64,
    /// The number that stands for none, before it is scaled.
    pub fill: Option<f64>,
}

/// What a number that is none becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNan {
    /// The image is refused.
    #[default]
    Fail,
    /// The mean of its channel.
    Mean,
}

/// What is wrong with an image in which a number is none.
pub(crate) fn not_a_number(channel: usize) -> String {
    format!("channel {channel} has NaN, infinite or missing values; --nan mean takes the mean of the channel there")
}

impl ArrayLayout {
    /// Bytes of an image in the file.
    pub fn bytes(&self) -> usize {
        self.count() * self.element.width()
    }

    /// Numbers of an image.
    pub fn count(&self) -> usize {
        self.size.count() as usize * self.channels
    }

    pub fn format(&self) -> PixelFormat {
        PixelFormat::Planes { channels: self.channels }
    }

    /// Whether an image of it can lack numbers.
    pub fn may_lack(&self) -> bool {
        self.element.is_float() || self.fill.is_some()
    }

    /// Calls `take` with each number of an image of these `bytes`, scaled, plane by plane or pixel by pixel, whichever the file
    /// has, and its channel. One that is none is NaN.
    pub fn each(&self, bytes: &[u8], mut take: impl FnMut(usize, f64)) {
        let &Self { element, axes, channels, size, scale, offset, fill } = self;
        let value = |number: f64| if Some(number) == fill { f64::NAN } else { number * scale + offset };
        match axes {
            Axes::ChannelsFirst => {
                let planes = bytes.chunks_exact(size.count() as usize * element.width());
                for (channel, plane) in planes.enumerate() {
                    element.each(plane, |number| take(channel, value(number)));
                }
            }
            Axes::ChannelsLast => {
                let mut channel = 0;
                element.each(bytes, |number| {
                    take(channel, value(number));
                    channel = if channel + 1 == channels { 0 } else { channel + 1 };
                });
            }
        }
    }

    /// Writes an image of these `bytes` as planes, channels×height×width, each number times `by` and plus `plus` of its channel.
    /// What is none becomes NaN. Gives whether there may be such.
    ///
    /// # Panics
    /// If a buffer does not have an image's size.
    pub fn planes(&self, bytes: &[u8], by: &[f64], plus: &[f64], out: &mut [f32]) -> bool {
        assert_eq!((bytes.len(), out.len()), (self.bytes(), self.count()), "an image");
        if let (Element::F32, Axes::ChannelsFirst, None, [1.0, 0.0]) =
            (self.element, self.axes, self.fill, [self.scale, self.offset])
        {
            return self.planes_of_planes(bytes, by, plus, out);
        }
        macro_rules! numbers {
            ($number:ty) => {
                self.planes_of::<$number, { size_of::<$number>() }>(bytes, by, plus, out, <$number>::from_ne_bytes)
            };
        }
        for_element!(self.element, numbers);
        self.may_lack()
    }

    /// The common case, at the speed of memory. The mean is subtracted in two parts, so that single precision loses nothing of
    /// large numbers that hardly differ.
    fn planes_of_planes(&self, bytes: &[u8], by: &[f64], plus: &[f64], out: &mut [f32]) -> bool {
        let pixels = self.size.count() as usize;
        let planes = out.chunks_exact_mut(pixels).zip(bytes.chunks_exact(pixels * size_of::<f32>()));
        let mut reached = 0;
        for (channel, (out, bytes)) in planes.enumerate() {
            let mean = -plus[channel] / by[channel];
            let (upper, by) = (mean as f32, by[channel] as f32);
            let lower = (mean - f64::from(upper)) as f32;
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = ((f32::from_ne_bytes(*bytes) - upper) - lower) * by;
                // An exponent of ones alone reaches the sign when one is added to it.
                reached |= (out.to_bits() & 0x7f80_0000) + 0x0080_0000;
            }
        }
        reached & 0x8000_0000 != 0
    }

    fn planes_of<T: Number, const WIDTH: usize>(
        &self,
        bytes: &[u8],
        by: &[f64],
        plus: &[f64],
        out: &mut [f32],
        read: fn([u8; WIDTH]) -> T,
    ) {
        let (pixels, channels) = (self.size.count() as usize, self.channels);
        let numbers = bytes.as_chunks::<WIDTH>().0;
        for (channel, plane) in out.chunks_exact_mut(pixels).enumerate() {
            // In double precision, and rounded once, so that a file of large numbers that hardly differ loses none of it.
            let (by, plus) = (by[channel], plus[channel]);
            let (scale, shift) = (self.scale * by, self.offset * by + plus);
            let value = |bytes: &[u8; WIDTH]| {
                let number = read(*bytes).number();
                (number * scale + shift) as f32
            };
            let filled = |bytes: &[u8; WIDTH], fill: f64| match read(*bytes).number() {
                number if number == fill => f32::NAN,
                _ => value(bytes),
            };
            let (first, step) = match self.axes {
                Axes::ChannelsFirst => (channel * pixels, 1),
                Axes::ChannelsLast => (channel, channels),
            };
            match (self.fill, step) {
                (None, 1) => plane.iter_mut().zip(&numbers[first..]).for_each(|(out, bytes)| *out = value(bytes)),
                (None, _) => {
                    let own = numbers[first..].iter().step_by(step);
                    plane.iter_mut().zip(own).for_each(|(out, bytes)| *out = value(bytes));
                }
                (Some(fill), _) => {
                    let own = numbers[first..].iter().step_by(step);
                    plane.iter_mut().zip(own).for_each(|(out, bytes)| *out = filled(bytes, fill));
                }
            }
        }
    }
}

trait Number: Copy {
    fn number(self) -> f64;
}

macro_rules! number {
    ($($number:ty),*) => {
        $(impl Number for $number {
            fn number(self) -> f64 {
                self as f64
            }
        })*
    };
}
number!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_give_the_same_planes() {
        let size = Size { width: 3, height: 2 };
        let first: Vec<u16> = (0..12).map(|value| value * 1000).collect(); // two planes
        let last: Vec<u16> = (0..6).flat_map(|pixel| [first[pixel], first[6 + pixel]]).collect();
        let bytes = |numbers: &[u16]| numbers.iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<u8>>();
        let layout = ArrayLayout {
            element: Element::U16,
            axes: Axes::ChannelsFirst,
            channels: 2,
            size,
            scale: 0.5,
            offset: 10.0,
            fill: Some(3000.0),
        };
        let mut planes = [[0.0f32; 12]; 2];
        layout.planes(&bytes(&first), &[1.0, 2.0], &[0.0, -20.0], &mut planes[0]);
        let last_layout = ArrayLayout { axes: Axes::ChannelsLast, ..layout };
        last_layout.planes(&bytes(&last), &[1.0, 2.0], &[0.0, -20.0], &mut planes[1]);
        assert_eq!(planes.map(|plane| plane.map(f32::to_bits))[0], planes[1].map(f32::to_bits));
        assert_eq!((planes[0][1], planes[0][6], planes[0][3].is_nan()), (510.0, 6000.0, true));
        let mut seen = Vec::new();
        last_layout.each(&bytes(&last), |channel, value| seen.push((channel, value)));
        assert_eq!((seen[0], seen[1], seen[3]), ((0, 10.0), (1, 3010.0), (1, 3510.0)));
        assert!(seen[6].1.is_nan());
    }
}
