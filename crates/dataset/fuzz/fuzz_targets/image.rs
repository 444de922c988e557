//! Any bytes are an image or are refused, decoded as training, evaluation and a cache decode them: no panic, no memory
//! beyond 64 MB and 16 bytes for each pixel that they declare.
//!
//! Images that declare more than four million pixels are left out: they take longer, and no other way.

#![no_main]

use std::cell::RefCell;
use std::io::Cursor;

use dataset::{Decoder, Decoding};
use dataset_fuzz::{FREE, check_words, within};
use image::ImageReader;
use libfuzzer_sys::{Corpus, fuzz_target};

const MOST_PIXELS: usize = 4 << 20;

thread_local! {
    static DECODER: RefCell<Decoder> =
        RefCell::new(Decoder::new(Decoding { exif_orientation: true, ..Decoding::default() }));
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let pixels = declared(bytes);
    if pixels > MOST_PIXELS {
        return Corpus::Reject;
    }
    DECODER.with_borrow_mut(|decoder| {
        within(FREE + 16 * pixels, || {
            match decoder.decode(bytes) {
                Ok((size, rgb)) => {
                    assert_eq!(rgb.len(), size.width as usize * size.height as usize * 3);
                    assert!(rgb.len() <= pixels * 3);
                }
                Err(reason) => check_words(&reason),
            }
            let mut out = [0; 8 * 8 * 3];
            let _ = decoder.center_crop(bytes, 9, 8, &mut out).map_err(|reason| check_words(&reason));
            let _ = decoder.check(bytes).map_err(|reason| check_words(&reason));
        });
    });
    Corpus::Keep
});

/// The pixels that the bytes declare: what the reader of their format says; of a JPEG, the largest frame anywhere in it.
fn declared(bytes: &[u8]) -> usize {
    if bytes.starts_with(&[0xff, 0xd8]) {
        let frames = bytes.windows(9).filter(|part| part[0] == 0xff && matches!(part[1], 0xc0..=0xcf));
        let side = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
        return frames.map(|frame| side(frame[5], frame[6]) * side(frame[7], frame[8])).max().unwrap_or(0);
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let sides = reader.ok().and_then(|reader| reader.into_dimensions().ok());
    sides.map_or(0, |(width, height)| (width as usize).saturating_mul(height as usize))
}
