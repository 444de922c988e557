//! Masks as images: the number of a class at each pixel, and a colour for each number.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use png::{BitDepth, ColorType, Compression, Encoder, EncodingError};

/// The class of a pixel that has none.
const NONE: u8 = 255;

/// The colours of PASCAL VOC's masks, which many programs give classes: bits 0, 3, 6 … of a number make red, the next ones green
/// and blue, the lowest first in the colour's highest bit.
pub fn colour(number: u8) -> [u8; 3] {
    let bit = |at: u8| if at < 8 { number >> at & 1 } else { 0 };
    [0, 1, 2].map(|channel| (0..3).fold(0, |value, step| value | bit(3 * step + channel) << (7 - step)))
}

/// A PNG of `width`×`height` numbers: of up to 255 with a palette, larger ones as gray of 16 bits.
///
/// # Errors
/// What the encoder says; `numbers` that are not as many.
pub fn mask_png(numbers: &[u16], width: u32, height: u32) -> Result<Vec<u8>, EncodingError> {
    let bytes: Option<Vec<u8>> = numbers.iter().map(|&number| u8::try_from(number).ok()).collect();
    match bytes {
        Some(bytes) => indexed(&bytes, width, height, false),
        None => {
            let mut png = Vec::new();
            let mut encoder = Encoder::new(&mut png, width, height);
            encoder.set_color(ColorType::Grayscale);
            encoder.set_depth(BitDepth::Sixteen);
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
            encoder.write_header()?.write_image_data(&bytes)?;
            Ok(png)
        }
    }
}

/// A square mask of `side`×`side` classes as a `data:` URI with a PNG that can lie over an image: class 0, which is mostly what lies
/// behind everything, is left transparent, and so are pixels without a class. `None` where `classes` are not as many.
pub fn mask_overlay(classes: &[u8], side: usize) -> Option<String> {
    let side = u32::try_from(side).ok()?;
    let png = indexed(classes, side, side, true).ok()?;
    Some(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png)))
}

fn indexed(numbers: &[u8], width: u32, height: u32, is_overlay: bool) -> Result<Vec<u8>, EncodingError> {
    let mut png = Vec::new();
    let mut encoder = Encoder::new(&mut png, width, height);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Balanced);
    encoder.set_palette((0..=255).flat_map(colour).collect::<Vec<_>>());
    if is_overlay {
        encoder
            .set_trns((0..=255).map(|number| if number == 0 || number == NONE { 0 } else { 255 }).collect::<Vec<_>>());
    }
    encoder.write_header()?.write_image_data(numbers)?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_pascal_voc() {
        let first = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]];
        assert_eq!([0, 1, 2, 3, 4].map(colour), first);
        assert_eq!([15, 20, 255].map(colour), [[192, 128, 128], [0, 64, 128], [224, 224, 192]]);
    }

    #[test]
    fn numbers_are_kept() {
        let decoded = |png: &[u8]| {
            let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
            decoder.set_transformations(png::Transformations::IDENTITY);
            let mut reader = decoder.read_info().unwrap();
            let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut bytes).unwrap();
            (reader.output_color_type(), bytes)
        };
        let png = mask_png(&[0, 1, 2, 255, 7, 9], 3, 2).unwrap();
        assert_eq!(decoded(&png), ((ColorType::Indexed, BitDepth::Eight), vec![0, 1, 2, 255, 7, 9]));
        let png = mask_png(&[0, 300], 2, 1).unwrap();
        assert_eq!(decoded(&png), ((ColorType::Grayscale, BitDepth::Sixteen), vec![0, 0, 1, 44]));
        assert!(mask_png(&[0, 1], 2, 2).is_err());
        let uri = mask_overlay(&[0, 1, 2, 255], 2).unwrap();
        let png = BASE64_STANDARD.decode(uri.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let pixels = image::load_from_memory(&png).unwrap().to_rgba8().into_raw();
        assert_eq!(pixels, [0, 0, 0, 0, 128, 0, 0, 255, 0, 128, 0, 255, 224, 224, 192, 0]);
        assert_eq!(mask_overlay(&[0; 5], 2), None);
    }
}
