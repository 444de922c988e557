//! What comes out of an image file is what Pillow makes of it.
//!
//! Wants the photographs and the odd images of `../shared/data`, beside the repository; says so where they are absent.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use dataset::{Decoder, Decoding, Listing, Size};
use sha2::{Digest, Sha256};

fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

/// The rows of a table with tabs, by the names in its first line.
fn table(path: &Path) -> Vec<HashMap<String, String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t').map(str::to_owned));
    let names: Vec<_> = lines.next().unwrap().collect();
    lines.map(|values| names.iter().cloned().zip(values).collect()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn means(pixels: &[u8]) -> [f64; 3] {
    let mut sums = [0u64; 3];
    for pixel in pixels.chunks_exact(3) {
        sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u64::from(value));
    }
    sums.map(|sum| sum as f64 / (pixels.len() / 3) as f64)
}

fn numbers(text: &str) -> Vec<f64> {
    text.split(',').map(|number| number.parse().unwrap()).collect()
}

/// The largest difference between two lists of numbers.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn photographs() {
    let (Some(photos), Some(reference)) = (shared("photos"), shared("photos.reference.tsv")) else { return };
    let mut decoder = Decoder::new(Decoding::default());
    let (mut equal, mut equal_crops, mut worst, mut worst_crop) = (0, 0, 0.0f64, 0.0f64);
    let rows = table(&reference);
    for row in &rows {
        let path = photos.join(&row["file"]);
        let bytes = std::fs::read(&path).unwrap();
        let (size, pixels) = decoder.decode(&bytes).unwrap();
        let expected = (row["width"].parse().unwrap(), row["height"].parse().unwrap());
        assert_eq!((size.width, size.height), expected, "{}", row["file"]);
        if hex(&Sha256::digest(pixels)) == row["sha256_rgb8"] {
            equal += 1;
        } else {
            worst = worst.max(difference(&means(pixels), &numbers(&row["mean_rgb"])));
        }

        let mut crop = vec![0; 224 * 224 * 3];
        decoder.center_crop(&bytes, 256, 224, &mut crop).unwrap();
        equal_crops += usize::from(hex(&Sha256::digest(&crop)) == row["sha256_crop224_rgb8"]);
        worst_crop = worst_crop.max(difference(&means(&crop), &numbers(&row["mean_rgb_crop224"])));
        for (name, x, y) in [("crop_px_0_0", 0, 0), ("crop_px_112_112", 112, 112), ("crop_px_223_223", 223, 223)] {
            let pixel: Vec<_> = crop[(y * 224 + x) * 3..][..3].iter().copied().map(f64::from).collect();
            let difference = difference(&pixel, &numbers(&row[name]));
            assert!(difference <= 4.0, "{}: {name} differs by {difference}", row["file"]);
        }
    }
    eprintln!(
        "{} photographs: {equal} decoded and {equal_crops} cropped as Pillow does bit for bit; the mean colours differ \
         by at most {worst:.3} and {worst_crop:.3}",
        rows.len()
    );
    // libjpeg-turbo's versions agree on nearly all files.
    assert!(equal * 10 >= rows.len() * 9 && worst < 1.0, "{equal} of {} are equal", rows.len());
    assert!(equal_crops * 100 >= equal * 99 && worst_crop < 0.5, "{equal_crops} of {equal} are equal: {worst_crop}");
}

/// What we make of an odd image, where it is not what Pillow makes of it, and why.
const BETTER: &[(&str, &str)] = &[
    ("pillow__png_decompression_dos.png", "the image is one pixel, and its text chunk is never inflated"),
    ("pillow__hopper.avif", "AVIF is refused, with a word on what to do"),
    ("pillow__unknown_compression_method.png", "only its colour profile is broken, and we do not read that"),
    ("image__basi0g16.png", "gray of 16 bits is scaled; Pillow cuts it off at 255"),
];

#[test]
fn odd_images() {
    let (Some(images), Some(manifest)) = (shared("odd-images"), shared("odd-images.manifest.tsv")) else { return };
    let mut decoder = Decoder::new(Decoding::default());
    let mut wrong = Vec::new();
    for row in table(&manifest) {
        let name = &row["file"];
        let decoded = decoder.decode(&std::fs::read(images.join(name)).unwrap());
        let found = match &decoded {
            Ok((Size { width, height }, pixels)) => format!("{width}×{height}, {:.3?}", means(pixels)),
            Err(reason) => reason.clone(),
        };
        eprintln!("{name}: {found}");
        if let Err(reason) = &decoded {
            assert!(!reason.contains('\n') && reason.len() < 200, "{name}: not one line: {reason}");
        }
        if BETTER.iter().any(|(better, _)| better == name) {
            continue;
        }
        let same = match &decoded {
            Err(_) => row["pillow_decodes"] == "no",
            Ok((Size { width, height }, pixels)) => {
                row["pillow_decodes"] == "yes"
                    && format!("{width}x{height}") == row["size"]
                    && difference(&means(pixels), &numbers(&row["mean_rgb_after_convert"])) < 0.5
            }
        };
        if !same {
            wrong.push(format!("{name}: {found}, and Pillow: {row:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn better_than_pillow() {
    let Some(images) = shared("odd-images") else { return };
    let mut decoder = Decoder::new(Decoding::default());
    let mut decode = |name: &str| {
        let (size, pixels) = decoder.decode(&std::fs::read(images.join(name)).unwrap())?;
        Ok::<_, String>((size, means(pixels)))
    };
    let (size, _) = decode("pillow__png_decompression_dos.png").unwrap();
    assert_eq!(size, Size { width: 1, height: 1 });
    // A ramp from black to white: its mean is gray, not white.
    let (_, [red, green, blue]) = decode("image__basi0g16.png").unwrap();
    assert!(red == green && green == blue && (60.0..200.0).contains(&red), "{red}");
    assert!(decode("pillow__hopper.avif").unwrap_err().contains("convert it to JPEG"));
}

#[test]
fn upright_images() {
    let Some(images) = shared("odd-images") else { return };
    let upright = Decoding { exif_orientation: true, ..Decoding::default() };
    let mut decoder = Decoder::new(upright);
    let mut decode = |name: &str| {
        let (size, pixels) = decoder.decode(&std::fs::read(images.join(name)).unwrap()).unwrap();
        (size, pixels.to_vec())
    };
    let (size, _) = decode("exif-orientation-examples__Portrait_8.jpg");
    assert_eq!(size, Size { width: 1200, height: 1800 });
    let (size, _) = decode("exif-orientation-examples__Landscape_0.jpg"); // 0 is no orientation
    assert_eq!(size, Size { width: 1800, height: 1200 });
    // Three times the same face, stored in three ways: upright they are alike.
    let (_, plain) = decode("pillow__hopper.jpg");
    for turned in
        ["pillow__hopper_orientation_3.jpg", "pillow__hopper_orientation_5.jpg", "pillow__hopper_orientation_7.jpg"]
    {
        let (_, pixels) = decode(turned);
        let total: u64 = plain.iter().zip(&pixels).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = total as f64 / plain.len() as f64;
        assert!(mean < 6.0, "{turned}: {mean}");
    }
}

#[test]
fn every_photograph_of_a_folder_is_listed() {
    let Some(folder) = shared("photos/hymenoptera") else { return };
    let listing = Listing::scan(&folder, None).unwrap();
    assert_eq!((listing.classes.len(), listing.train.len() + listing.val.len()), (2, 240));
}
