//! Files that are broken, by accident or on purpose: no panic, no memory without bound, one line of words.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use dataset::{Contents, Decoder, Decoding, Listing, Numbers, OnBadImage, Spec, cache, unwatched};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tiff::encoder::colortype::{Gray16, Gray32Float};
use tiff::encoder::{Compression, DeflateLevel, TiffEncoder};
use tiff::tags::Tag;

/// Counts the largest block that was asked for.
struct Counting;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the allocator's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The images are a few kilobytes; a PNG's or a BMP's header may ask for what an image of this format can have.
const MOST_BYTES: usize = 1 << 30;

fn images() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension != "md"));
    files.sort();
    files
        .iter()
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect()
}

/// Files of numbers: a name, what they hold, their bytes, and the bytes of a pixel that is scaled.
fn numbers() -> Vec<(&'static str, Numbers, Vec<u8>, usize)> {
    let pixels: Vec<u16> = (0..60 * 50).map(|value| value * 13).collect();
    let bytes: Vec<u8> = pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
    let text = "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 50, 30), }";
    let npy = [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), &bytes].concat();
    let mut pages = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut pages).unwrap();
    for page in pixels.chunks(60 * 25) {
        let mut image = encoder.new_image::<Gray16>(60, 25).unwrap();
        image.encoder().write_tag(Tag::Unknown(42113), "65535").unwrap();
        image.write_data(page).unwrap();
    }
    let compression = Compression::Deflate(DeflateLevel::Fast);
    let mut packed = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new_big(&mut packed).unwrap().with_compression(compression);
    let floats: Vec<f32> = (0..60 * 50).map(|value| value as f32 / 7.0).collect();
    encoder.write_image::<Gray32Float>(60, 50, &floats).unwrap();
    let of = |name, channels, fill| Numbers::new(name, channels, 1.0, 0.0, fill).unwrap();
    vec![
        ("npy", of("uint16", 2, None), npy, 8),
        ("pages", of("uint16", 2, Some(65535.0)), pages.into_inner(), 8),
        ("packed", of("float32", 1, None), packed.into_inner(), 4),
    ]
}

/// What happens to a file.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Vec<(Index, u8)>),
    CutOff(Index),
    Repeat(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => proptest::collection::vec((any::<Index>(), any::<u8>()), 1..8).prop_map(Damage::Flip),
        1 => any::<Index>().prop_map(Damage::CutOff),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ]
}

fn apply(damage: &Damage, bytes: &mut Vec<u8>) {
    match damage {
        Damage::Flip(flips) => flips.iter().for_each(|(place, value)| *place.get_mut(bytes) = *value),
        Damage::CutOff(place) => bytes.truncate(place.index(bytes.len())),
        Damage::Repeat(from, to) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            bytes.extend_from_within(from.min(to)..from.max(to));
        }
    }
}

fn decode_in_every_way(decoder: &mut Decoder, bytes: &[u8]) {
    let one_line = |reason: &str| assert!(!reason.contains('\n') && reason.len() < 300, "{reason}");
    match decoder.decode(bytes) {
        Ok((size, pixels)) => assert_eq!(pixels.len(), size.width as usize * size.height as usize * 3),
        Err(reason) => one_line(&reason),
    }
    let mut out = vec![0; 8 * 8 * 3];
    let _ = decoder.center_crop(bytes, 9, 8, &mut out).map_err(|reason| one_line(&reason));
    let _ = decoder.check(bytes).map_err(|reason| one_line(&reason));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_images(image in select(images()), damage in damage(), upright: bool) {
        let mut decoder = Decoder::new(Decoding { exif_orientation: upright, ..Decoding::default() });
        let (name, mut bytes) = image;
        decode_in_every_way(&mut decoder, &bytes);
        prop_assert!(decoder.decode(&bytes).is_ok(), "{}", name);
        let whole = bytes.clone();
        apply(&damage, &mut bytes);
        decode_in_every_way(&mut decoder, &bytes);
        prop_assert!(decoder.decode(&whole).is_ok(), "a broken file breaks no other");
        prop_assert!(LARGEST.load(Ordering::Relaxed) < MOST_BYTES);
    }

    #[test]
    fn damaged_numbers(image in select(numbers()), damage in damage()) {
        let mut decoder = Decoder::new(Decoding { numbers: Some(image.1), ..Decoding::default() });
        let mut bytes = image.2.clone();
        let mut out = vec![0; 4 * 4 * 64];
        let size = 4 * 4 * image.3;
        prop_assert!(decoder.center_crop(&bytes, 4, 4, &mut out[..size]).is_ok(), "{}", image.0);
        apply(&damage, &mut bytes);
        for reason in [decoder.check(&bytes), decoder.center_crop(&bytes, 4, 4, &mut out[..size])] {
            let _ = reason.map_err(|reason| assert!(!reason.contains('\n') && reason.len() < 600, "{reason}"));
        }
        prop_assert!(decoder.check(&image.2).is_ok(), "a broken file breaks no other");
        prop_assert!(LARGEST.load(Ordering::Relaxed) < MOST_BYTES);
    }

    #[test]
    fn noise(bytes in proptest::collection::vec(any::<u8>(), 0..400), start in select(vec![
        &b""[..], b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF\x40\0\0\0WEBPVP8 ", b"P6\n",
    ])) {
        let mut decoder = Decoder::new(Decoding::default());
        decode_in_every_way(&mut decoder, &[start, &bytes].concat());
    }
}

fn small_cache(contents: Contents) -> (tempfile::TempDir, Listing, Spec, PathBuf, Vec<u8>) {
    let root = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        for class in ["ant", "bee"] {
            let folder = root.path().join(split).join(class);
            fs::create_dir_all(&folder).unwrap();
            for (name, bytes) in images() {
                fs::write(folder.join(name), bytes).unwrap();
            }
        }
    }
    let listing = Listing::scan(root.path(), None).unwrap();
    let spec = Spec { contents, decoding: Decoding::default(), masks: None };
    let path = root.path().join("cache.h5");
    cache::build(&listing, &spec, &path, OnBadImage::Fail, &unwatched).unwrap();
    let bytes = fs::read(&path).unwrap();
    (root, listing, spec, path, bytes)
}

#[test]
fn damaged_caches() {
    for contents in [Contents::Pixels { side: 8, crop: 8 }, Contents::Encoded] {
        let (_root, listing, spec, path, whole) = small_cache(contents);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 400,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        runner
            .run(&damage(), |damage| {
                let mut bytes = whole.clone();
                apply(&damage, &mut bytes);
                fs::remove_file(&path).unwrap();
                fs::write(&path, &bytes).unwrap();
                // Whatever these say, they say it: nothing panics, and a wrong image is never right.
                let _ = cache::explain(&path, &listing, &spec);
                let verified = cache::verify(&path, &unwatched).unwrap();
                let opened = cache::open(&path, &spec.fingerprint(&listing), spec.decoding).unwrap();
                prop_assert_eq!(bytes == whole, verified.damaged.is_empty());
                if let cache::Found::Current(dataset) = opened {
                    prop_assert_eq!(dataset.train.len(), listing.train.len());
                }
                prop_assert!(LARGEST.load(Ordering::Relaxed) < MOST_BYTES);
                Ok(())
            })
            .unwrap();
    }
}
