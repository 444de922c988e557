//! Images as arrays of numbers, as HDF5, netCDF and NumPy files hold them, read as planes in single precision.

use std::fmt;

use crate::limits::MOST_CHANNELS;
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
pub(crate) use for_element;

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

    /// That of this name.
    pub fn named(name: &str) -> Option<Self> {
        const ALL: [Element; 10] = [
            Element::U8,
            Element::I8,
            Element::U16,
            Element::I16,
            Element::U32,
            Element::I32,
            Element::U64,
            Element::I64,
            Element::F32,
            Element::F64,
        ];
        ALL.into_iter().find(|element| element.name() == name)
    }

    /// The type as NumPy writes it in a file: `<u2`.
    ///
    /// # Errors
    /// One that is not read.
    pub fn of_descr(descr: &str) -> Result<Self, String> {
        Ok(match descr {
            "|u1" | "|b1" => Self::U8,
            "|i1" => Self::I8,
            "<u2" => Self::U16,
            "<i2" => Self::I16,
            "<u4" => Self::U32,
            "<i4" => Self::I32,
            "<u8" => Self::U64,
            "<i8" => Self::I64,
            "<f4" => Self::F32,
            "<f8" => Self::F64,
            other => {
                let shown: String = other.chars().take(20).flat_map(char::escape_debug).collect();
                return Err(format!("has values of type '{shown}', which is not read; save it as float32, say"));
            }
        })
    }

    /// This number, as one of this type is; `None` where none can be it.
    pub fn holds(self, number: f64) -> Option<f64> {
        macro_rules! numbers {
            ($number:ty) => {
                (number as $number) as f64
            };
        }
        let nearest = for_element!(self, numbers);
        // What is written in decimal digits is rounded to single precision, as the numbers were.
        (self.is_float() || nearest == number).then_some(nearest)
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

/// What the numbers of images are, whatever the size of each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    pub(crate) element: Element,
    /// How many each pixel has.
    pub channels: usize,
    /// What a number is multiplied with, and what is added then: how netCDF packs, and 1/255 for bytes.
    pub scale: f64,
    /// What is added to a number that was multiplied.
    pub offset: f64,
    /// The number that stands for none, before it is scaled.
    pub fill: Option<f64>,
}

impl Numbers {
    /// Those of `channels` of this type as a file has them: bytes become 0–1, as everywhere; others stay what they are.
    pub(crate) fn plain(element: Element, channels: usize) -> Self {
        let scale = if element == Element::U8 { 1.0 / 255.0 } else { 1.0 };
        Self { element, channels, scale, offset: 0.0, fill: None }
    }

    /// Those of this type, as NumPy calls it; `None` where it is none that is read.
    pub fn new(type_name: &str, channels: usize, scale: f64, offset: f64, fill: Option<f64>) -> Option<Self> {
        let element = Element::named(type_name).filter(|element| element.is_pixel())?;
        Some(Self { element, channels, scale, offset, fill })
    }

    /// The type of a number, as NumPy calls it.
    pub fn type_name(&self) -> &'static str {
        self.element.name()
    }

    pub(crate) fn bytes_per_pixel(&self) -> usize {
        self.channels * self.element.width()
    }

    /// Whether they are what files have that say nothing of their unit.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = Self::plain(self.element, self.channels);
        (self.scale, self.offset) == (plain.scale, plain.offset)
    }

    /// Whether an image of them can lack some.
    pub(crate) fn may_lack(&self) -> bool {
        self.element.is_float() || self.fill.is_some()
    }

    /// What is kept of them when images are scaled: single precision, where a mean of counts may lie between two of them, and
    /// NaN stands for none. Where nothing is scaled, they are kept as they are, but for double precision.
    pub(crate) fn kept(self, is_scaled: bool) -> Self {
        match self.element {
            Element::F64 => {
                Self { element: Element::F32, fill: self.fill.and_then(|fill| Element::F32.holds(fill)), ..self }
            }
            _ if is_scaled => Self { element: Element::F32, fill: None, ..self },
            _ => self,
        }
    }

    /// Writes numbers, as they are before they are scaled, as ones of this type: rounded, and none as what stands for it.
    ///
    /// # Panics
    /// If there is not room for all of them.
    pub(crate) fn write(&self, numbers: &[f32], out: &mut [u8]) {
        let fill = self.fill;
        macro_rules! numbers {
            ($number:ty) => {{
                let none = fill.unwrap_or(f64::NAN) as $number;
                let round = |number: f32| if self.element.is_float() { number } else { number.round_ties_even() };
                let out = out.as_chunks_mut::<{ size_of::<$number>() }>().0;
                assert_eq!(out.len(), numbers.len(), "a place for each number");
                for (out, &number) in out.iter_mut().zip(numbers) {
                    *out = (if number.is_nan() { none } else { round(number) as $number }).to_ne_bytes();
                }
            }};
        }
        for_element!(self.element, numbers);
    }

    /// One that is scaled as normalization sees it; NaN for one that is none.
    fn value(&self, number: f64) -> f64 {
        if Some(number) == self.fill { f64::NAN } else { number * self.scale + self.offset }
    }

    /// For settings: `uint16x12`, and in words of their own what is not as usual: `scale=0.5 offset=10 missing=-9999`.
    pub fn to_words(&self) -> String {
        let Self { element, channels, scale, offset, fill } = *self;
        let usual = Self::plain(element, channels);
        let mut words = format!("{}x{channels}", element.name());
        for (name, value) in [
            ("scale", Some(scale).filter(|&scale| scale != usual.scale)),
            ("offset", Some(offset).filter(|&offset| offset != usual.offset)),
            ("missing", fill),
        ] {
            words += &value.map_or(String::new(), |value| format!(" {name}={value}"));
        }
        words
    }

    /// The other way round.
    pub fn of_words(words: &str) -> Option<Self> {
        let mut words = words.split(' ');
        let (element, channels) = words.next()?.split_once('x')?;
        let element = Element::named(element).filter(|element| element.is_pixel())?;
        let channels = channels.parse().ok().filter(|channels| (1..=MOST_CHANNELS).contains(channels))?;
        let mut numbers = Self::plain(element, channels);
        for word in words {
            let (name, value) = word.split_once('=')?;
            let value = value.parse::<f64>().ok()?;
            match name {
                "scale" => numbers.scale = value,
                "offset" => numbers.offset = value,
                "missing" => numbers.fill = Some(value),
                _ => return None,
            }
        }
        Some(numbers)
    }
}

impl fmt::Display for Numbers {
    /// For people: `12 channels of uint16`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { element, channels, scale, offset, fill } = self;
        write!(formatter, "{channels} channel{} of {}", if *channels == 1 { "" } else { "s" }, element.name())?;
        if *scale != Self::plain(*element, 1).scale || *offset != 0.0 {
            write!(formatter, ", times {scale} plus {offset}")?;
        }
        fill.map_or(Ok(()), |fill| write!(formatter, ", of which {fill} stands for none"))
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

impl Axes {
    const BOTH: [Self; 2] = [Self::ChannelsLast, Self::ChannelsFirst];

    /// For settings, behind others.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::ChannelsLast => " nhwc",
            Self::ChannelsFirst => " nchw",
        }
    }

    /// Settings without the suffix, and what it says.
    pub(crate) fn of_suffix(settings: &str) -> (&str, Option<Self>) {
        let said = Self::BOTH.into_iter().find_map(|axes| Some((settings.strip_suffix(axes.suffix())?, Some(axes))));
        said.unwrap_or((settings, None))
    }

    /// The order of an image's axes that these lengths suggest: the channels are the last of 1, 3 or 4, or else the axis beside
    /// which the others are a square, or else the shorter of the first and the last.
    pub(crate) fn of_shape([one, two, three]: [usize; 3]) -> Self {
        let is_first = match three {
            1 | 3 | 4 => false,
            _ if (one == two) != (two == three) => two == three,
            _ => one < three,
        };
        if is_first { Self::ChannelsFirst } else { Self::ChannelsLast }
    }
}

/// What each image of an array is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ArrayLayout {
    pub numbers: Numbers,
    pub axes: Axes,
    pub size: Size,
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

impl OnNan {
    /// For settings, behind others: nothing where it is a fault.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Fail => "",
            Self::Mean => " nan=mean",
        }
    }

    /// Settings without the suffix, and what it says.
    pub(crate) fn of_suffix(settings: &str) -> (&str, Self) {
        settings.strip_suffix(Self::Mean.suffix()).map_or((settings, Self::Fail), |settings| (settings, Self::Mean))
    }
}

/// What is wrong with an image in which a number is none.
pub(crate) fn not_a_number(channel: usize) -> String {
    format!("channel {channel} has NaN, infinite or missing values; --nan mean takes the mean of the channel there")
}

impl ArrayLayout {
    /// Bytes of an image in the file.
    pub fn bytes(&self) -> usize {
        self.count() * self.numbers.element.width()
    }

    /// Numbers of an image.
    pub fn count(&self) -> usize {
        self.size.count() as usize * self.numbers.channels
    }

    pub fn format(&self) -> PixelFormat {
        PixelFormat::Planes { channels: self.numbers.channels }
    }

    /// Calls `take` with each number of an image of these `bytes`, scaled, plane by plane or pixel by pixel, whichever the file
    /// has, and its channel. One that is none is NaN.
    pub fn each(&self, bytes: &[u8], mut take: impl FnMut(usize, f64)) {
        let &Self { numbers, axes, size } = self;
        let (element, channels) = (numbers.element, numbers.channels);
        match axes {
            Axes::ChannelsFirst => {
                let planes = bytes.chunks_exact(size.count() as usize * element.width());
                for (channel, plane) in planes.enumerate() {
                    element.each(plane, |number| take(channel, numbers.value(number)));
                }
            }
            Axes::ChannelsLast => {
                let mut channel = 0;
                element.each(bytes, |number| {
                    take(channel, numbers.value(number));
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
        let numbers = self.numbers;
        if let (Element::F32, Axes::ChannelsFirst, None, [1.0, 0.0]) =
            (numbers.element, self.axes, numbers.fill, [numbers.scale, numbers.offset])
        {
            return self.planes_of_planes(bytes, by, plus, out);
        }
        macro_rules! numbers {
            ($number:ty) => {
                self.planes_of::<$number, { size_of::<$number>() }>(bytes, by, plus, out, <$number>::from_ne_bytes)
            };
        }
        for_element!(numbers.element, numbers);
        numbers.may_lack()
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
        let (pixels, Numbers { channels, .. }) = (self.size.count() as usize, self.numbers);
        let numbers = bytes.as_chunks::<WIDTH>().0;
        for (channel, plane) in out.chunks_exact_mut(pixels).enumerate() {
            // In double precision, and rounded once, so that a file of large numbers that hardly differ loses none of it.
            let (by, plus) = (by[channel], plus[channel]);
            let (scale, shift) = (self.numbers.scale * by, self.numbers.offset * by + plus);
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
            match (self.numbers.fill, step) {
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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_in_words_and_back(
            scale in prop_oneof![Just(1.0), Just(1.0 / 255.0), any::<f64>().prop_filter("a number", |x| !x.is_nan())],
            offset in prop_oneof![Just(0.0), -1e9..1e9],
            fill in proptest::option::of(-1e39..1e39),
            channels in 1usize..1025,
            element in proptest::sample::select(vec![Element::U8, Element::U16, Element::I16, Element::F32, Element::F64]),
        ) {
            let numbers = Numbers { element, channels, scale, offset, fill };
            prop_assert_eq!(Numbers::of_words(&numbers.to_words()), Some(numbers));
        }

        #[test]
        fn any_words_are_numbers_or_none(words in "\\PC{0,40}") {
            let _ = Numbers::of_words(&words);
        }
    }

    #[test]
    fn what_is_kept_of_scaled_numbers() {
        let numbers = Numbers { fill: Some(7.0), ..Numbers::plain(Element::I16, 1) };
        let mut out = [0; 10];
        numbers.write(&[1.5, 2.5, -40000.0, f32::NAN, 40000.0], &mut out);
        let values: Vec<i16> = out.as_chunks::<2>().0.iter().map(|bytes| i16::from_ne_bytes(*bytes)).collect();
        assert_eq!(values, [2, 2, i16::MIN, 7, i16::MAX]); // to even, as torchvision rounds
        assert_eq!(Numbers::plain(Element::F64, 2).kept(false), Numbers::plain(Element::F32, 2));
        let kept = Numbers { fill: Some(7.0), ..Numbers::plain(Element::U8, 2) }.kept(true);
        assert_eq!((kept.element, kept.fill, kept.scale), (Element::F32, None, 1.0 / 255.0));
        let cases = [(Element::U16, -9999.0, None), (Element::I16, -9999.0, Some(-9999.0)), (Element::U8, 255.5, None)];
        for (element, number, held) in cases {
            assert_eq!(element.holds(number), held);
        }
        assert_eq!(Element::F32.holds(-3.40282e38), Some(f64::from(-3.40282e38_f32)));
    }

    #[test]
    fn both_orders_give_the_same_planes() {
        let size = Size { width: 3, height: 2 };
        let first: Vec<u16> = (0..12).map(|value| value * 1000).collect(); // two planes
        let last: Vec<u16> = (0..6).flat_map(|pixel| [first[pixel], first[6 + pixel]]).collect();
        let bytes = |numbers: &[u16]| numbers.iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<u8>>();
        let numbers = Numbers { element: Element::U16, channels: 2, scale: 0.5, offset: 10.0, fill: Some(3000.0) };
        let layout = ArrayLayout { numbers, axes: Axes::ChannelsFirst, size };
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
