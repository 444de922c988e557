//! Everything but JPEG: PNG, WebP, GIF (its first frame), BMP, TIFF and PNM, through the image crate.

use std::io::{BufRead, Seek, SeekFrom};

use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageReader, Limits};

use super::buffer::make_room;
use super::{colour, tiff, webp};
use crate::images::{ArrayLayout, Axes, Element, Numbers};
use crate::limits::{BYTES_PER_PIXEL, DECODER, READ_AT_ONCE, quote};
use crate::size::Size;

/// What an image is refused with whose decoder wants too much memory.
const TOO_MUCH: &str = "it would take more than 64 MB and 16 bytes a pixel; save it with 8 or 16 bits a colour, and without \
                        what else is in it";

/// Decodes all of an image from a file of `length` bytes into `pixels`; its size, and how it is to be turned, if that is
/// `wanted`.
pub(super) fn decode(
    reader: impl BufRead + Seek,
    length: u64,
    pixels: &mut Vec<u8>,
    wanted: bool,
) -> Result<(Size, Orientation), String> {
    let (mut decoder, size) = open(reader, length)?;
    let orientation = if wanted { decoder.orientation().ok() } else { None };
    // Decoded as the file has it, then made RGB in its place.
    let colours = decoder.color_type();
    let decoded = size.count() as usize * usize::from(colours.bytes_per_pixel());
    make_room(pixels, decoded.max(size.bytes()));
    read(decoder, &mut pixels[..decoded])?;
    to_rgb(colours, pixels, size)?;
    Ok((size, orientation.unwrap_or(Orientation::NoTransforms)))
}

/// The decoder of an image from a file of `length` bytes, which takes no more memory than it may, and the image's size.
pub(super) fn open<'a>(
    mut reader: impl BufRead + Seek + 'a,
    length: u64,
) -> Result<(impl ImageDecoder + 'a, Size), String> {
    if length == 0 {
        return Err("the file is empty".to_owned());
    }
    let start = reader.fill_buf().map_err(|error| error.to_string())?;
    if start.get(4..8) == Some(b"ftyp") {
        return Err("it is an AVIF or HEIF image, which is not supported; convert it to JPEG, PNG or WebP".to_owned());
    }
    let (is_webp, is_tiff) = (webp::is_webp(start), tiff::is_tiff(start));
    if is_webp {
        webp::check(&mut reader, length)?;
    }
    let is_streamed = is_tiff && tiff::check(&mut reader, length)?;
    reader.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    let mut reader = ImageReader::new(reader).with_guessed_format().map_err(|error| error.to_string())?;
    if reader.format().is_none() {
        return Err("it is not an image of a known format (JPEG, PNG, WebP, GIF, BMP, TIFF, PNM)".to_owned());
    }
    // What stands before the pixels: a PNG's profile may inflate, and its texts are kept.
    reader.limits(limits(READ_AT_ONCE));
    let mut decoder = reader.into_decoder().map_err(|error| one_line(&error))?;
    let (width, height) = decoder.dimensions();
    let size = Size { width, height }.check()?;
    let room = (size.count() as usize * usize::from(decoder.color_type().bytes_per_pixel())).max(size.bytes());
    // TIFF's decoder makes a copy, with all the colours that the file has.
    let bits = u64::from(decoder.original_color_type().bits_per_pixel());
    let copy = if is_tiff { size.count() * bits.div_ceil(8) } else { 0 };
    let most = (DECODER + BYTES_PER_PIXEL * size.count()).checked_sub(room as u64);
    let most = most.filter(|most| copy <= *most).ok_or(TOO_MUCH)?;
    // It also compares the length of a strip in the file, although it takes no memory for one that it reads as it comes.
    let compared = if is_streamed { copy + length } else { 0 };
    decoder.set_limits(limits(most + compared)).map_err(|error| one_line(&error))?;
    Ok((decoder, size))
}

/// What an image of so many numbers a pixel, pixel by pixel, is as an array.
pub(super) fn layout(size: Size, element: Element, channels: usize) -> ArrayLayout {
    ArrayLayout { numbers: Numbers::plain(element, channels), axes: Axes::ChannelsLast, size }
}

/// Reads the pixels, as the file has them, into as many bytes.
pub(super) fn read(decoder: impl ImageDecoder, pixels: &mut [u8]) -> Result<(), String> {
    decoder.read_image(pixels).map_err(|error| one_line(&error))
}

fn limits(bytes: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bytes);
    limits
}

/// RGB of 8 bits. Transparency is dropped, not blended, as Pillow's `convert("RGB")` does.
fn to_rgb(colours: ColorType, pixels: &mut Vec<u8>, size: Size) -> Result<(), String> {
    use colour::{narrow, of_float, upper_byte, widen};
    let of_16 =
        |pixel: &[u8], channel: usize| upper_byte(u16::from_ne_bytes([pixel[2 * channel], pixel[2 * channel + 1]]));
    let of_32 = |pixel: &[u8], channel: usize| {
        of_float(pixel[4 * channel..].first_chunk().map_or(0.0, |bytes| f32::from_ne_bytes(*bytes)))
    };
    let rgb_of_16 = |pixel: &[u8]| [0, 1, 2].map(|channel| of_16(pixel, channel));
    let rgb_of_32 = |pixel: &[u8]| [0, 1, 2].map(|channel| of_32(pixel, channel));
    let count = size.count() as usize;
    match colours {
        ColorType::L8 => widen::<1>(pixels, count, |pixel| [pixel[0]; 3]),
        ColorType::La8 => widen::<2>(pixels, count, |pixel| [pixel[0]; 3]),
        ColorType::Rgb8 => {}
        ColorType::Rgba8 => narrow::<4>(pixels, |pixel| [pixel[0], pixel[1], pixel[2]]),
        ColorType::L16 => widen::<2>(pixels, count, |pixel| [of_16(pixel, 0); 3]),
        ColorType::La16 => narrow::<4>(pixels, |pixel| [of_16(pixel, 0); 3]),
        ColorType::Rgb16 => narrow::<6>(pixels, |pixel| rgb_of_16(pixel)),
        ColorType::Rgba16 => narrow::<8>(pixels, |pixel| rgb_of_16(pixel)),
        ColorType::Rgb32F => narrow::<12>(pixels, |pixel| rgb_of_32(pixel)),
        ColorType::Rgba32F => narrow::<16>(pixels, |pixel| rgb_of_32(pixel)),
        other => return Err(format!("its pixels are {other:?}, which is not supported; convert it to RGB")),
    }
    pixels.truncate(size.bytes());
    Ok(())
}

fn one_line(error: &ImageError) -> String {
    if matches!(error, ImageError::Limits(_)) {
        return TOO_MUCH.to_owned();
    }
    quote(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageBuffer};

    /// Every kind of pixel that a file can have is made RGB as the image crate makes it, or as Pillow where they differ.
    #[test]
    fn pixels_of_every_kind() {
        let (width, height) = (5, 3);
        let value = |x: u32, y: u32, channel: u32| (x * 51 + y * 80 + channel * 7) % 256;
        let eight = |x, y, channel| value(x, y, channel) as u8;
        let sixteen = |x, y, channel| (value(x, y, channel) * 257) as u16;
        let float = |x, y, channel| value(x, y, channel) as f32 / 200.0 - 0.1;
        let images: Vec<DynamicImage> = vec![
            ImageBuffer::from_fn(width, height, |x, y| image::Luma([eight(x, y, 0)])).into(),
            ImageBuffer::from_fn(width, height, |x, y| image::LumaA([0, 1].map(|c| eight(x, y, c)))).into(),
            ImageBuffer::from_fn(width, height, |x, y| image::Rgb([0, 1, 2].map(|c| eight(x, y, c)))).into(),
            ImageBuffer::from_fn(width, height, |x, y| image::Rgba([0, 1, 2, 3].map(|c| eight(x, y, c)))).into(),
            ImageBuffer::from_fn(width, height, |x, y| image::Luma([sixteen(x, y, 0)])).into(),
            ImageBuffer::from_fn(width, height, |x, y| image::LumaA([0, 1].map(|c| sixteen(x, y, c)))).into(),
            ImageBuffer::from_fn(width, height, |x, y| image::Rgb([0, 1, 2].map(|c| sixteen(x, y, c)))).into(),
            ImageBuffer::from_fn(width, height, |x, y| image::Rgba([0, 1, 2, 3].map(|c| sixteen(x, y, c)))).into(),
            ImageBuffer::from_fn(width, height, |x, y| image::Rgb([0, 1, 2].map(|c| float(x, y, c)))).into(),
            ImageBuffer::from_fn(width, height, |x, y| image::Rgba([0, 1, 2, 3].map(|c| float(x, y, c)))).into(),
        ];
        for image in images {
            let colours = image.color();
            let mut pixels = image.as_bytes().to_vec();
            pixels.resize(pixels.len().max((width * height * 3) as usize), 0);
            to_rgb(colours, &mut pixels, Size { width, height }).unwrap();
            assert_eq!(pixels, image.into_rgb8().into_raw(), "{colours:?}");
        }
    }
}
