//! A picture file to RGB pixels of a given side.

use std::io::Cursor;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageReader, RgbImage};

/// Anti-aliased bilinear, as Pillow and torchvision resize.
pub(crate) fn bilinear() -> ResizeOptions {
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
}

/// Decodes the bytes of a picture file into `out`: `side`×`side`×3 bytes, the shorter side scaled to `side` and the
/// middle cut out.
///
/// # Errors
/// Why the bytes are no picture.
pub fn decode_square(bytes: &[u8], side: usize, out: &mut [u8]) -> Result<(), String> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    // The decoder's limits refuse pictures that would take more than 512 MiB.
    let picture = reader.decode().map_err(|error| error.to_string())?.into_rgb8();
    square(&picture, side, out)
}

fn square(picture: &RgbImage, side: usize, out: &mut [u8]) -> Result<(), String> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if (width, height) == (side, side) {
        out.copy_from_slice(picture.as_raw());
        return Ok(());
    }
    if width == 0 || height == 0 {
        return Err("it has no pixels".to_owned());
    }
    let shorter = width.min(height) as f64;
    let (left, top) = ((width as f64 - shorter) / 2.0, (height as f64 - shorter) / 2.0);
    let source = ImageRef::new(width as u32, height as u32, picture.as_raw(), PixelType::U8x3);
    let source = source.map_err(|error| error.to_string())?;
    let target = Image::from_slice_u8(side as u32, side as u32, out, PixelType::U8x3);
    let mut target = target.map_err(|error| error.to_string())?;
    let options = bilinear().crop(left, top, shorter, shorter);
    Resizer::new().resize(&source, &mut target, &options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(picture: &RgbImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
        bytes
    }

    #[test]
    fn the_middle_of_the_picture_stays() {
        // Left third red, middle third green, right third blue.
        let picture =
            RgbImage::from_fn(30, 10, |x, _| image::Rgb([[255, 0, 0], [0, 255, 0], [0, 0, 255]][x as usize / 10]));
        let mut out = vec![0; 5 * 5 * 3];
        decode_square(&png(&picture), 5, &mut out).unwrap();
        // At the cut the filter sees the pixels beside it, as a resize of the whole picture would.
        for row in out.chunks(15) {
            assert_eq!(row[3..12], [0, 255, 0, 0, 255, 0, 0, 255, 0], "{out:?}");
        }
    }

    #[test]
    fn a_picture_of_the_right_size_is_untouched() {
        let picture = RgbImage::from_fn(4, 4, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let mut out = vec![0; 48];
        decode_square(&png(&picture), 4, &mut out).unwrap();
        assert_eq!(out, *picture.as_raw());
    }

    #[test]
    fn broken_bytes_have_a_reason() {
        let whole = png(&RgbImage::new(9, 9));
        for bytes in [&b""[..], b"GIF89a", b"no picture at all", &whole[..whole.len() / 2]] {
            assert!(decode_square(bytes, 4, &mut [0; 48]).is_err());
        }
    }
}
