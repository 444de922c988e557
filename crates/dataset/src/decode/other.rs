//! Everything but JPEG: PNG, WebP, GIF (its first frame), BMP, TIFF and PNM, through the image crate.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use super::{MOST_PIXELS, Size, colour};

/// A decoded picture, as it is stored.
pub(super) struct Picture {
    pub size: Size,
    pub pixels: Vec<u8>,
    pub orientation: Orientation,
}

/// Decodes all of a picture.
pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return Err("it is an AVIF or HEIF picture, which is not supported; convert it to JPEG, PNG or WebP".to_owned());
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    if reader.format().is_none() {
        return Err("it is no picture of a known format (JPEG, PNG, WebP, GIF, BMP, TIFF, PNM)".to_owned());
    }
    let mut decoder = reader.into_decoder().map_err(|error| one_line(&error))?;
    let (width, height) = decoder.dimensions();
    let size = Size { width, height }.check()?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_PIXELS * 8); // four channels of 16 bits
    decoder.set_limits(limits).map_err(|error| one_line(&error))?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let picture = DynamicImage::from_decoder(decoder).map_err(|error| one_line(&error))?;
    Ok(Picture { size, pixels: to_rgb(picture), orientation })
}

/// RGB of 8 bits. Transparency is dropped, not blended, as Pillow's `convert("RGB")` does.
fn to_rgb(picture: DynamicImage) -> Vec<u8> {
    use colour::{gray_to_rgb, upper_byte};
    match picture {
        DynamicImage::ImageRgb8(picture) => picture.into_raw(),
        DynamicImage::ImageLuma16(picture) => gray_to_rgb(picture.into_raw().into_iter().map(upper_byte)),
        DynamicImage::ImageLumaA16(picture) => gray_to_rgb(picture.pixels().map(|pixel| upper_byte(pixel[0]))),
        DynamicImage::ImageRgb16(picture) => picture.into_raw().into_iter().map(upper_byte).collect(),
        DynamicImage::ImageRgba16(picture) => {
            picture.pixels().flat_map(|pixel| [0, 1, 2].map(|channel| upper_byte(pixel[channel]))).collect()
        }
        other => other.into_rgb8().into_raw(),
    }
}

fn one_line(error: &image::ImageError) -> String {
    error.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; ")
}
