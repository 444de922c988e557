//! The bytes of an image file to RGB pixels, or to the numbers that stand in it.
//!
//! ```text
//! bytes ── sniff ──> jpeg   libjpeg-turbo: only the rows, the columns and the scale that are asked for
//!              ├───> other  PNG, WebP, GIF, BMP, TIFF, PNM through the image crate: the whole image
//!              ├───> numbers, unchanged: of any type, however many for each pixel
//!              └───> mask     the number of a class for each pixel
//! ```
//!
//! Every image that is made RGB comes out as Pillow's `convert("RGB")` gives it, with these exceptions, each of them meant:
//!
//! - Gray of 16 bits is scaled to 8 bits. Pillow cuts it off at 255, which makes nearly all of it white.
//! - A PNG's text and colour profile are not read, so one that would inflate hugely does no harm, and neither does a
//!   broken one. Pillow refuses such files.
//! - AVIF is refused: it takes a native decoder that few machines have.
//! - An orientation counts where EXIF says it; Pillow also looks for one in a PNG's XMP text.

mod buffer;
mod colour;
pub(crate) mod jpeg;
mod markers;
mod mask;
mod numbers;
mod orientation;
mod other;
mod png_end;
pub(crate) mod tiff;
mod webp;

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use image::metadata::Orientation;

use crate::PixelFormat;
use crate::images::{Axes, Numbers, OnNan};
use crate::resize::{Fit, Pixels, Resample, Window, copy, offset};
use crate::size::Size;
use buffer::make_room;
pub(crate) use mask::{MaskDecoder, RawMask};
pub use numbers::{FirstImage, MOST_PROBED};
use png_end::Ended;

/// Decoded pixels for each pixel of a scaled image, at least, where it must equal what all of the image would give.
pub(crate) const FINE: f64 = 2.0;

/// How images are decoded. Part of a cache's fingerprint: each setting changes pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decoding {
    /// The numbers that files hold and are read as; `None` where they are made red, green and blue of 8 bits.
    pub numbers: Option<Numbers>,
    /// Whether images have the size that a cache of pixels gives them, as far as is known: it keeps the type of their numbers
    /// then, and single precision otherwise.
    pub is_exact: bool,
    /// What a number that is none becomes.
    pub on_nan: OnNan,
    /// The order of the axes of a `.npy` file; `None` where its shape says it.
    pub axes: Option<Axes>,
    /// How an image becomes a square.
    pub fit: Fit,
    /// Turn an image upright as its EXIF orientation says. torchvision's ImageFolder does not.
    pub exif_orientation: bool,
    /// The filter that scales.
    pub resample: Resample,
}

impl Decoding {
    /// What images become.
    pub fn format(&self) -> PixelFormat {
        self.numbers.map_or(PixelFormat::Rgb8, |numbers| PixelFormat::Planes { channels: numbers.channels })
    }
}

/// Where an image file is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// All of it in memory.
    Memory(&'a [u8]),
    /// On the disk, and no JPEG: it is large, and its decoder reads what it needs.
    Disk(&'a File),
}

impl<'a> Source<'a> {
    /// A file as it was read ([`crate::file::read`]): into `bytes`, or, where it is large, open.
    pub fn of(on_disk: Option<&'a File>, bytes: &'a [u8]) -> Self {
        on_disk.map_or(Self::Memory(bytes), Self::Disk)
    }

    /// Whether it is an array of NumPy.
    fn is_npy(self) -> bool {
        let is_npy = |reader: &mut dyn ReadSeek, _| Ok(reader.fill_buf().is_ok_and(numbers::is_npy));
        self.with_reader(is_npy).unwrap_or(false)
    }

    /// Calls `read` with what reads the file, and its length.
    fn with_reader<T>(self, read: impl FnOnce(&mut dyn ReadSeek, u64) -> Result<T, String>) -> Result<T, String> {
        match self {
            Self::Memory(bytes) => {
                let length = bytes.len() as u64;
                let read_at = |piece: &mut [u8], at: u64| {
                    piece.copy_from_slice(bytes.get(at as usize..)?.get(..piece.len())?);
                    Some(())
                };
                match png_end::lacking(length, read_at) {
                    [] => read(&mut Cursor::new(bytes), length),
                    end => read(&mut Ended::new(Cursor::new(bytes), length, end), length + end.len() as u64),
                }
            }
            Self::Disk(file) => {
                let words = |error: std::io::Error| error.to_string();
                let length = file.metadata().map_err(words)?.len();
                let mut reader = BufReader::new(file);
                reader.rewind().map_err(words)?;
                match png_end::lacking(length, |piece, at| file.read_exact_at(piece, at).ok()) {
                    [] => read(&mut reader, length),
                    end => read(&mut Ended::new(reader, length, end), length + end.len() as u64),
                }
            }
        }
    }

    fn jpeg(self) -> Option<&'a [u8]> {
        match self {
            Self::Memory(bytes) if jpeg::is_jpeg(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// What decoders read from.
trait ReadSeek: BufRead + Seek {}

impl<T: BufRead + Seek> ReadSeek for T {}

/// A decoder with its buffers, for one thread.
#[derive(Debug)]
pub struct Decoder {
    decoding: Decoding,
    jpeg: jpeg::Decompressor,
    resizer: crate::resize::Resizer,
    /// The decoded image, or the part of it that was asked for.
    pixels: Vec<u8>,
    /// An image before or after it is turned upright.
    turned: Vec<u8>,
    /// A square before its middle is cut out.
    square: Vec<u8>,
    /// The file of an image that is decoded from its path.
    file: Vec<u8>,
    numbers: numbers::Buffers,
    /// Of the last image, upright.
    size: Option<Size>,
}

impl Decoder {
    /// A decoder that decodes in this way.
    ///
    /// # Panics
    /// If there is no memory for one.
    pub fn new(decoding: Decoding) -> Self {
        let resizer = crate::resize::Resizer::new(decoding.resample);
        let (pixels, turned, square, file) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let numbers = numbers::Buffers::new(decoding.resample);
        let size = None;
        Self { decoding, jpeg: jpeg::Decompressor::new(), resizer, pixels, turned, square, file, numbers, size }
    }

    /// Decodes a whole image: its size and its pixels, height×width×3 bytes.
    ///
    /// # Errors
    /// Why the bytes are no image, in one line without the file's name.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<(Size, &[u8]), String> {
        self.decode_source(Source::Memory(bytes))
    }

    /// The same, wherever the file is.
    pub(crate) fn decode_source(&mut self, source: Source<'_>) -> Result<(Size, &[u8]), String> {
        let (size, orientation) = if let Some(bytes) = source.jpeg() {
            let header = self.jpeg.read_header(bytes)?;
            self.jpeg.decompress(&header, jpeg::Region::whole(&header), &mut self.pixels)?;
            (header.size, self.orientation_of(header.exif))
        } else {
            self.decode_other(source)?
        };
        if orientation == Orientation::NoTransforms {
            return Ok((size, &self.pixels));
        }
        make_room(&mut self.turned, size.bytes());
        let upright = orientation::apply(orientation, size, &self.pixels, &mut self.turned);
        Ok((upright, &self.turned))
    }

    /// Decodes what torchvision's `Resize(resize)` and `CenterCrop(side)` make of an image, into `out` (`side`²×3
    /// bytes): Pillow's bits, unless a JPEG is at least four times as large, which is decoded at half its size or less.
    ///
    /// # Errors
    /// Why the bytes are no image, in one line without the file's name.
    pub fn center_crop(&mut self, bytes: &[u8], resize: usize, side: usize, out: &mut [u8]) -> Result<(), String> {
        self.center_crop_of(Source::Memory(bytes), resize, side, out)
    }

    /// The same of the image file at `path`.
    ///
    /// # Errors
    /// Why it cannot be read or is not an image, in one line without the file's name.
    pub fn center_crop_file(&mut self, path: &Path, resize: usize, side: usize, out: &mut [u8]) -> Result<(), String> {
        self.with_file(path, |decoder, source| decoder.center_crop_of(source, resize, side, out))
    }

    /// Calls `decode` with the image file at `path`.
    fn with_file<T>(
        &mut self,
        path: &Path,
        decode: impl FnOnce(&mut Self, Source<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut bytes = std::mem::take(&mut self.file);
        let read = crate::file::read_image(path, &mut bytes);
        let decoded = read.and_then(|on_disk| decode(self, Source::of(on_disk.as_ref(), &bytes)));
        self.file = bytes;
        decoded
    }

    pub(crate) fn center_crop_of(
        &mut self,
        source: Source<'_>,
        resize: usize,
        side: usize,
        out: &mut [u8],
    ) -> Result<(), String> {
        if resize == side {
            return self.square_of(source, resize, side, out);
        }
        // As a cache of pixels does it: the same bits with and without one.
        let mut square = std::mem::take(&mut self.square);
        make_room(&mut square, resize * resize * 3);
        let decoded = self.square_of(source, resize, side, &mut square);
        if decoded.is_ok() {
            let start = offset(resize as f64, side as f64) as usize;
            let size = Size { width: resize as u32, height: resize as u32 };
            copy(&square, size, start, start, side, out);
        }
        self.square = square;
        decoded
    }

    /// Decodes the square of an image whose middle `side`×`side` pixels [`center_crop`](Self::center_crop) gives, into
    /// `out`: `resize`²×3 bytes, or the numbers that are read.
    pub(crate) fn square_of(
        &mut self,
        source: Source<'_>,
        resize: usize,
        side: usize,
        out: &mut [u8],
    ) -> Result<(), String> {
        if self.decoding.numbers.is_some() {
            return self.square_of_numbers(source, resize, side, out);
        }
        let fit = self.decoding.fit;
        self.decode_window(source, FINE, |size| fit.square(size, resize, side), resize, out)
    }

    /// Decodes an image for nothing but to see whether it can be decoded.
    ///
    /// # Errors
    /// Why not, in one line without the file's name.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.check_source(Source::Memory(bytes))
    }

    /// The size, upright, of the image that was decoded or checked last.
    pub fn size(&self) -> Option<Size> {
        self.size
    }

    pub(crate) fn check_source(&mut self, source: Source<'_>) -> Result<(), String> {
        if self.decoding.numbers.is_some() {
            return self.check_numbers(source);
        }
        let Some(bytes) = source.jpeg() else {
            let (size, orientation) = self.decode_other(source)?;
            self.size = Some(size.turned(orientation::turns(orientation)));
            return Ok(());
        };
        let header = self.jpeg.read_header(bytes)?;
        self.size = Some(header.size.turned(orientation::turns(self.orientation_of(header.exif))));
        // All data are read, but few pixels are made of them.
        self.jpeg.decompress(&header, jpeg::Region::coarse(&header), &mut self.pixels)
    }

    /// Decodes all of an image that is not a JPEG; how it is to be turned.
    fn decode_other(&mut self, source: Source<'_>) -> Result<(Size, Orientation), String> {
        let wanted = self.decoding.exif_orientation;
        let decoded = source.with_reader(|reader, length| other::decode(reader, length, &mut self.pixels, wanted));
        decoded.or_else(|reason| {
            let decoded = self.decode_tiff(source).map(|size| (size, Orientation::NoTransforms));
            decoded.map_err(|_| reason)
        })
    }

    /// Decodes the window that `choose` picks for an image of the size that it is given, scaled to `side`×`side`
    /// pixels, into `out` (`side`²×3 bytes). A JPEG may be scaled down while it is decoded, to no fewer than `detail`
    /// decoded pixels for each pixel of the output.
    ///
    /// # Errors
    /// Why the bytes are no image, in one line without the file's name.
    pub(crate) fn decode_window(
        &mut self,
        source: Source<'_>,
        detail: f64,
        choose: impl FnOnce(Size) -> Window,
        side: usize,
        out: &mut [u8],
    ) -> Result<(), String> {
        let orientation;
        if let Some(bytes) = source.jpeg() {
            let header = self.jpeg.read_header(bytes)?;
            orientation = self.orientation_of(header.exif);
            let turned = orientation::turns(orientation);
            let upright = header.size.turned(turned);
            self.size = Some(upright);
            let window = orientation::window_before(orientation, choose(upright), upright);
            let region = jpeg::Region::around(&header, &window, side, detail, self.decoding.resample);
            self.jpeg.decompress(&header, region, &mut self.pixels)?;
            let pixels = Pixels { turned, ..region.pixels(&self.pixels) };
            self.resizer.resize(&pixels, &region.window(&window), side, out);
        } else {
            let size;
            (size, orientation) = self.decode_other(source)?;
            let turned = orientation::turns(orientation);
            let upright = size.turned(turned);
            self.size = Some(upright);
            let window = orientation::window_before(orientation, choose(upright), upright);
            let pixels = Pixels { turned, ..Pixels::whole(&self.pixels, size) };
            self.resizer.resize(&pixels, &window, side, out);
        }
        if orientation != Orientation::NoTransforms {
            self.turned.clear();
            self.turned.extend_from_slice(out);
            let size = Size { width: side as u32, height: side as u32 };
            orientation::apply(orientation, size, &self.turned, out);
        }
        Ok(())
    }

    fn orientation_of(&self, exif: Option<&[u8]>) -> Orientation {
        let wanted = exif.filter(|_| self.decoding.exif_orientation);
        wanted.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
    }
}
