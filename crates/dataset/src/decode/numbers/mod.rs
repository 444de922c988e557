//! The bytes of an image file to the numbers that stand in it, of whatever type and however many for each pixel.
//!
//! ```text
//! bytes ── sniff ──> npy    NumPy's header; the numbers as they lie
//!              ├───> fits   cards, and the first image behind them
//!              ├───> tiff   the tiff crate: strips, tiles, planes, pages, any number of samples
//!              ├───> other  PNG, PNM, WebP, GIF, BMP through the image crate: gray to RGBA, 8 or 16 bits
//!              └───> jpeg   libjpeg-turbo: one channel or three
//! ```

mod fits;
mod npy;
mod tiff;

use std::io::{BufRead, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use image::{ColorType, ImageDecoder};

use super::buffer::make_room;
use super::{Decoder, Source, other};
use crate::images::{ArrayLayout, Axes, Element, Numbers};
use crate::limits::{BYTES_PER_PIXEL, DECODER, MOST_CHANNELS};
use crate::planes::{PlaneCropper, Scaling};
use crate::resize::{PlaneResizer, Window};
use crate::size::Size;
use crate::{Decoding, Listing, Normalization, OnNan, Split};
pub(super) use npy::is_npy;

/// Memory for the numbers of an image beyond what its pixels may take, for each byte of its file: what is compressed is
/// seldom a sixteenth of what it was, and then small.
const TIMES_THE_FILE: u64 = 16;

/// Files that are looked at, at most, to find one that says what all are like.
pub const MOST_PROBED: usize = 100;

/// Buffers of an image of numbers.
#[derive(Debug)]
pub(super) struct Buffers {
    /// As the file has them.
    stored: Vec<u8>,
    /// Plane by plane, before and after they are scaled.
    planes: Vec<f32>,
    scaled: Vec<f32>,
    resizer: PlaneResizer,
}

impl Buffers {
    pub fn new(resample: crate::Resample) -> Self {
        let (stored, planes, scaled) = (Vec::new(), Vec::new(), Vec::new());
        Self { stored, planes, scaled, resizer: PlaneResizer::new(resample) }
    }
}

impl Decoder {
    /// Decodes the numbers of an image as its file has them. Where the decoding says what they must be, others are refused.
    ///
    /// # Errors
    /// Why the bytes are no image, or one of other numbers.
    pub(crate) fn numbers(&mut self, source: Source<'_>) -> Result<(ArrayLayout, &[u8]), String> {
        let mut layout = if let Some(bytes) = source.jpeg() {
            let header = self.jpeg.read_header(bytes)?;
            self.jpeg.decompress(&header, super::jpeg::Region::whole(&header), &mut self.numbers.stored)?;
            if header.is_gray {
                thin_out(&mut self.numbers.stored);
            }
            let channels = if header.is_gray { 1 } else { 3 };
            let numbers = Numbers::plain(Element::U8, channels);
            ArrayLayout { numbers, axes: Axes::ChannelsLast, size: header.size }
        } else {
            source.with_reader(|reader, length| {
                read_any(reader, length, Wanted::Pixels(&self.decoding), &mut self.numbers.stored)
            })?
        };
        self.size = Some(layout.size);
        if let Some(wanted) = self.decoding.numbers {
            if (wanted.element, wanted.channels) != (layout.numbers.element, layout.numbers.channels) {
                return Err(format!("it has {}, and {wanted} are read", layout.numbers));
            }
            if wanted.fill != layout.numbers.fill {
                let shown = |fill: Option<f64>| fill.map_or("nothing".to_owned(), |fill| fill.to_string());
                let (own, first) = (shown(layout.numbers.fill), shown(wanted.fill));
                return Err(format!("{own} stands for none in it, and {first} in the others"));
            }
            layout.numbers = wanted;
        }
        Ok((layout, &self.numbers.stored))
    }

    /// Sees whether an image of numbers can be decoded, and has none that is missing where that is a fault.
    pub(super) fn check_numbers(&mut self, source: Source<'_>) -> Result<(), String> {
        let on_nan = self.decoding.on_nan;
        let (layout, bytes) = self.numbers(source)?;
        refuse_missing(&layout, bytes, on_nan)
    }

    /// Decodes what [`center_crop`](Self::center_crop) does, of an image of numbers: plane by plane, as a cache keeps them.
    pub(crate) fn center_crop_numbers(
        &mut self,
        source: Source<'_>,
        resize: usize,
        side: usize,
    ) -> Result<(ArrayLayout, &[u8]), String> {
        let Decoding { on_nan, fit, .. } = self.decoding;
        let (layout, bytes) = self.numbers(source)?;
        refuse_missing(&layout, bytes, on_nan)?;
        let size = Size { width: resize as u32, height: resize as u32 };
        let numbers = layout.numbers.kept(layout.size != size);
        let mut square = std::mem::take(&mut self.square);
        make_room(&mut square, resize * resize * numbers.bytes_per_pixel());
        self.numbers.square(&layout, &fit.square(layout.size, resize, side), resize, &numbers, &mut square);
        self.square = square;
        Ok((ArrayLayout { numbers, axes: Axes::ChannelsFirst, size }, &self.square))
    }

    /// Decodes what [`center_crop_file`](Self::center_crop_file) does, of an image of numbers, and normalizes them: the bytes of
    /// channels×`side`×`side` numbers in single precision, as a batch has them.
    ///
    /// # Errors
    /// Why the file cannot be read, is not an image, or one of other numbers.
    pub fn center_crop_planes(
        &mut self,
        path: &Path,
        (resize, side): (usize, usize),
        normalization: &Normalization,
        out: &mut [u8],
    ) -> Result<(), String> {
        let Decoding { on_nan, resample, fit, .. } = self.decoding;
        self.with_file(path, |decoder, source| {
            let (layout, bytes) = decoder.center_crop_numbers(source, resize, side)?;
            let (window, scaling) = (fit.center(layout.size, resize, side), Scaling::of(normalization));
            let out = bytemuck::cast_slice_mut(out);
            PlaneCropper::new(resample).crop((&layout, bytes), on_nan, &scaling, &window, side, out)
        })
    }

    /// Decodes what [`square_of`](Self::square_of) does, of an image of numbers: plane by plane, as a cache keeps them, into `out`.
    pub(super) fn square_of_numbers(
        &mut self,
        source: Source<'_>,
        resize: usize,
        side: usize,
        out: &mut [u8],
    ) -> Result<(), String> {
        let Decoding { on_nan, is_exact, fit, .. } = self.decoding;
        let (layout, bytes) = self.numbers(source)?;
        refuse_missing(&layout, bytes, on_nan)?;
        let kept = layout.numbers.kept(!is_exact);
        self.numbers.square(&layout, &fit.square(layout.size, resize, side), resize, &kept, out);
        Ok(())
    }
}

impl Buffers {
    /// Writes `window` of the image of this `layout` that was read last, scaled to `resize`×`resize` pixels, as `kept` numbers: where they are of a type without
    /// fractions, what is scaled is rounded, as torchvision does.
    fn square(&mut self, layout: &ArrayLayout, window: &Window, resize: usize, kept: &Numbers, out: &mut [u8]) {
        let Self { stored, planes, scaled, resizer } = self;
        let numbers = layout.numbers;
        // As they stand in the file, but for those that are none.
        let raw = ArrayLayout { numbers: Numbers { scale: 1.0, offset: 0.0, ..numbers }, ..*layout };
        planes.resize(layout.count(), 0.0);
        raw.planes(stored, &vec![1.0; numbers.channels], &vec![0.0; numbers.channels], planes);
        scaled.resize(resize * resize * numbers.channels, 0.0);
        resizer.resize(planes, layout.size, window, resize, scaled);
        kept.write(scaled, out);
    }
}

/// The first image of a listing that can be decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct FirstImage {
    /// Its file.
    pub path: PathBuf,
    /// What it holds.
    pub numbers: Numbers,
    /// How large it is.
    pub size: Size,
}

impl Listing {
    /// The first image that can be decoded, and what it holds; `None` where nothing is lost when images are made red, green and
    /// blue of 8 bits, unless they are to stay `unchanged` all the same.
    ///
    /// # Errors
    /// A file that cannot be read; where they are to stay unchanged, no image that can be decoded.
    pub fn numbers(&self, decoding: Decoding, unchanged: bool) -> crate::Result<Option<FirstImage>> {
        let mut decoder = Decoder::new(Decoding { numbers: None, ..decoding });
        let (mut bytes, mut first) = (Vec::new(), None);
        let samples = Split::ALL.into_iter().flat_map(|split| self.split(split));
        let files = self.files();
        for sample in samples.take(MOST_PROBED) {
            let path = files.path(&sample.path);
            let probed = match files.read(&sample.path, sample.size, sample.member, &mut bytes) {
                Ok(on_disk) => decoder.probe(Source::of(on_disk.as_ref(), &bytes), unchanged),
                Err(crate::Error::Image { reason, .. }) => Err(reason),
                Err(error) => return Err(error),
            };
            match probed {
                Ok(found) => return Ok(found.map(|(numbers, size)| FirstImage { path, numbers, size })),
                Err(reason) => first = first.or(Some((path, reason))),
            }
        }
        match first {
            Some((path, reason)) if unchanged => Err(crate::Error::Image { path, reason }),
            _ => Ok(None), // whoever reads them all says what is wrong
        }
    }

    /// Whether some images, from all parts of the listing, have this size, as far as they can be decoded.
    pub fn have_size(&self, size: Size, decoding: Decoding) -> bool {
        const LOOKED_AT: usize = 16;
        let samples: Vec<_> = Split::ALL.into_iter().flat_map(|split| self.split(split)).collect();
        let (mut decoder, mut bytes, files) = (Decoder::new(decoding), Vec::new(), self.files());
        samples.iter().step_by(samples.len().div_ceil(LOOKED_AT).max(1)).all(|sample| {
            let Ok(on_disk) = files.read(&sample.path, sample.size, sample.member, &mut bytes) else {
                return true;
            };
            decoder.numbers(Source::of(on_disk.as_ref(), &bytes)).map_or(true, |(layout, _)| layout.size == size)
        })
    }
}

impl Decoder {
    /// What numbers an image has; `None` where they are as well red, green and blue of 8 bits.
    fn probe(&mut self, source: Source<'_>, unchanged: bool) -> Result<Option<(Numbers, Size)>, String> {
        if source.jpeg().is_some() && !unchanged {
            return Ok(None);
        }
        let ArrayLayout { numbers, size, .. } = self.numbers(source)?.0;
        let Numbers { element, channels, fill, .. } = numbers;
        let may_be_photograph = element == Element::U8 && channels <= 4 && fill.is_none() && !source.is_npy();
        let is_photograph =
            may_be_photograph && (channels % 2 == 1 || source.has_alpha()) && self.decode_source(source).is_ok();
        Ok(if is_photograph && !unchanged { None } else { Some((numbers, size)) })
    }

    /// Decodes a TIFF as RGB of 8 bits that the image crate does not know: one with a palette, or gray with transparency.
    pub(super) fn decode_tiff(&mut self, source: Source<'_>) -> Result<Size, String> {
        let Self { numbers: Buffers { stored, .. }, pixels, decoding, .. } = self;
        let layout = source.with_reader(|mut reader, length| {
            let is_tiff = super::tiff::is_tiff(reader.fill_buf().map_err(|error| error.to_string())?);
            let wanted = Wanted::Pixels(decoding);
            if is_tiff { tiff::read(&mut reader, length, wanted, true, stored) } else { Err(String::new()) }
        })?;
        let ArrayLayout { numbers: Numbers { element, channels, .. }, size, .. } = layout;
        if element != Element::U8 || layout.axes != Axes::ChannelsLast || channels > 3 {
            return Err("it is no image of 8-bit colours".to_owned());
        }
        make_room(pixels, size.bytes());
        for (pixel, samples) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(stored.chunks_exact(channels)) {
            *pixel = if channels == 3 { [samples[0], samples[1], samples[2]] } else { [samples[0]; 3] };
        }
        Ok(size)
    }
}

impl Source<'_> {
    /// Whether what stands behind the colours of an image is transparency: of a TIFF it may be a channel of its own.
    pub(super) fn has_alpha(self) -> bool {
        let looked = self.with_reader(|mut reader, length| {
            let is_tiff = super::tiff::is_tiff(reader.fill_buf().map_err(|error| error.to_string())?);
            let pages = if is_tiff { super::tiff::check_pages(&mut reader, length)? } else { return Ok(true) };
            Ok(pages[0].has_alpha)
        });
        looked.unwrap_or(false)
    }
}

/// Refuses an image in which numbers are none, where that is a fault.
fn refuse_missing(layout: &ArrayLayout, bytes: &[u8], on_nan: OnNan) -> Result<(), String> {
    if on_nan == OnNan::Mean || !layout.numbers.may_lack() {
        return Ok(());
    }
    let mut missing = None;
    layout.each(bytes, |channel, number| {
        if !(number as f32).is_finite() && missing.is_none() {
            missing = Some(channel);
        }
    });
    missing.map_or(Ok(()), |channel| Err(crate::images::not_a_number(channel)))
}

/// Of gray pixels, as red, green and blue, one each.
fn thin_out(pixels: &mut Vec<u8>) {
    let count = pixels.len() / 3;
    (0..count).for_each(|pixel| pixels[pixel] = pixels[3 * pixel]);
    pixels.truncate(count);
}

/// What a file is read for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// The numbers of an image, which are decoded so.
    Pixels(&'a Decoding),
    /// The number of a class at each pixel of its first page: of any type, and for a colour of a palette its index.
    Classes,
}

impl Wanted<'_> {
    /// Refuses images that are too large, take too much memory for a file of `length` bytes, or are of a type that is not wanted.
    fn refuse(self, layout: &ArrayLayout, length: u64) -> Result<(), String> {
        let Numbers { channels, element, .. } = layout.numbers;
        if let (Self::Pixels(_), false) = (self, element.is_pixel()) {
            return Err(format!(
                "its values are {}; uint8, uint16, int16, float32 and float64 are read: save it as one of them",
                element.name()
            ));
        }
        if channels == 0 || channels > MOST_CHANNELS {
            return Err(format!("images of {channels} channels are not read"));
        }
        let pixels = layout.size.check()?.count();
        // As they are stored, and as planes.
        let bytes = pixels.checked_mul((channels * (element.width() + size_of::<f32>())) as u64);
        let most = DECODER + BYTES_PER_PIXEL / 2 * pixels * channels.min(4) as u64 + TIMES_THE_FILE * length;
        match bytes {
            Some(bytes) if bytes <= most => Ok(()),
            _ => {
                let Size { width, height } = layout.size;
                Err(format!("{length} bytes are too few for {width}×{height} pixels of {channels} channels"))
            }
        }
    }
}

/// Reads a file of `length` bytes that is no JPEG.
pub(super) fn read_any(
    mut reader: &mut (impl BufRead + Seek + ?Sized),
    length: u64,
    wanted: Wanted<'_>,
    out: &mut Vec<u8>,
) -> Result<ArrayLayout, String> {
    let start = reader.fill_buf().map_err(|error| error.to_string())?;
    let (is_npy, is_fits, is_tiff) = (is_npy(start), fits::is_fits(start), super::tiff::is_tiff(start));
    if is_npy {
        return npy::read(&mut reader, length, wanted, out);
    }
    if is_fits {
        return fits::read(&mut reader, length, wanted, out);
    }
    if is_tiff {
        return tiff::read(&mut reader, length, wanted, false, out);
    }
    let (decoder, size) = other::open(reader, length)?;
    let colours = decoder.color_type();
    let (element, channels) = match colours {
        ColorType::L8 => (Element::U8, 1),
        ColorType::La8 => (Element::U8, 2),
        ColorType::Rgb8 => (Element::U8, 3),
        ColorType::Rgba8 => (Element::U8, 4),
        ColorType::L16 => (Element::U16, 1),
        ColorType::La16 => (Element::U16, 2),
        ColorType::Rgb16 => (Element::U16, 3),
        ColorType::Rgba16 => (Element::U16, 4),
        other => return Err(format!("its pixels are {other:?}, which is not read")),
    };
    let layout = other::layout(size, element, channels);
    make_room(out, layout.bytes());
    other::read(decoder, out)?;
    Ok(layout)
}

fn rewind(reader: &mut impl Seek) -> Result<(), String> {
    reader.seek(SeekFrom::Start(0)).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
