//! Images that are made up, with labels that can be learned, and files of them.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Height and width of images that are made up.
pub const SIDE: usize = 12;

/// Arrays of an `.npz` file: name, type, shape, bytes.
pub type Arrays<'a> = [(&'a str, &'a str, Vec<usize>, Vec<u8>)];

/// An array as `numpy.save` writes it.
pub fn npy(descr: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|side| format!("{side}, ")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), bytes].concat()
}

/// Writes arrays as `numpy.savez` does.
///
/// # Panics
/// If the file cannot be written.
pub fn npz(path: &Path, method: CompressionMethod, arrays: &Arrays<'_>) {
    let mut archive = ZipWriter::new(File::create(path).unwrap());
    for (name, descr, shape, bytes) in arrays {
        archive.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
        archive.write_all(&npy(descr, shape, bytes)).unwrap();
    }
    archive.finish().unwrap();
}

/// Numbers that look drawn.
pub fn noise(index: usize) -> f32 {
    let mixed = (index as u32).wrapping_mul(2_654_435_761) ^ 0x9e37_79b9;
    f32::from((mixed.wrapping_mul(mixed | 1) >> 16) as u16) / 65536.0
}

/// `count` images of `channels` channels, N×C×H×W: in each quarter of the image, and each channel, a brightness of its own, with
/// noise. The label is what the quarters say: the brightest one; whether each is bright; how bright each is.
#[derive(Debug)]
pub struct Made {
    /// Channel by channel.
    pub images: Vec<f32>,
    /// The quarter, 0–3.
    pub brightest: Vec<i64>,
    /// Of each quarter, 0 or 1.
    pub bright: Vec<u8>,
    /// Of each quarter, 1000 to 1050.
    pub brightness: Vec<f64>,
}

/// Images that nobody has seen, of this seed.
///
/// # Panics
/// Never.
pub fn made(count: usize, channels: usize, seed: usize) -> Made {
    let mut made = Made { images: Vec::new(), brightest: Vec::new(), bright: Vec::new(), brightness: Vec::new() };
    for image in 0..count {
        let quarter = |quarter: usize| noise(seed * 7919 + image * 4 + quarter);
        for channel in 0..channels {
            for pixel in 0..SIDE * SIDE {
                let (x, y) = (pixel % SIDE, pixel / SIDE);
                let light = quarter(x / (SIDE / 2) + 2 * (y / (SIDE / 2)));
                let speck = noise(seed + (image * channels + channel) * SIDE * SIDE + pixel);
                made.images.push((light * (channel + 1) as f32 + 0.2 * speck) * 100.0);
            }
        }
        let lights = [0, 1, 2, 3].map(quarter);
        let brightest = (0..4).max_by(|&one, &other| lights[one].total_cmp(&lights[other])).unwrap();
        made.brightest.push(brightest as i64);
        made.bright.extend(lights.map(|light| u8::from(light > 0.5)));
        made.brightness.extend(lights.map(|light| 1000.0 + 50.0 * f64::from(light)));
    }
    made
}

/// Numbers as bytes.
pub fn bytes<T: Copy, const N: usize>(numbers: &[T], bytes: fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|&number| bytes(number)).collect()
}
