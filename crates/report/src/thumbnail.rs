//! Small images inside a page.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::png::PngEncoder;
use image::imageops::{FilterType, resize};
use image::{ExtendedColorType, ImageEncoder, RgbImage};

/// Larger images are scaled down to this side, in pixels.
const LARGEST_SIDE: u32 = 96;

/// A square image of `side`×`side`×3 bytes, RGB, as a `data:` URI with a PNG. `None` where `pixels` are not as many.
pub fn thumbnail(pixels: &[u8], side: usize) -> Option<String> {
    if pixels.len() != side * side * 3 {
        return None;
    }
    let mut image = RgbImage::from_raw(side as u32, side as u32, pixels.to_vec())?;
    if side as u32 > LARGEST_SIDE {
        image = resize(&image, LARGEST_SIDE, LARGEST_SIDE, FilterType::Triangle);
    }
    let (width, height) = image.dimensions();
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(&image, width, height, ExtendedColorType::Rgb8).ok()?;
    Some(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_come_back_out_of_the_uri() {
        let decode = |uri: &str| {
            let png = BASE64_STANDARD.decode(uri.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
            image::load_from_memory(&png).unwrap().to_rgb8()
        };
        let pixels: Vec<u8> = (0..8 * 8 * 3).map(|byte| byte as u8).collect();
        assert_eq!(decode(&thumbnail(&pixels, 8).unwrap()).into_raw(), pixels);
        let large = decode(&thumbnail(&[7; 224 * 224 * 3], 224).unwrap());
        assert_eq!((large.dimensions(), large.get_pixel(5, 90).0), ((96, 96), [7, 7, 7]));
        assert_eq!(thumbnail(&pixels, 9), None);
    }
}
