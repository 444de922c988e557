//! Any bytes are an image of numbers or are refused: no panic, no memory beyond 64 MB, 16 bytes for each pixel that they declare,
//! and 48 times their size.

#![no_main]

use std::cell::RefCell;

use dataset::{Decoder, Decoding, Numbers, OnNan};
use dataset_fuzz::{FREE, check_words, declared, within};
use libfuzzer_sys::{Corpus, fuzz_target};

const MOST_PIXELS: usize = 4 << 20;

thread_local! {
    static DECODER: RefCell<Decoder> = RefCell::new(Decoder::new(Decoding {
        numbers: Numbers::new("uint16", 2, 1.0, 0.0, Some(7.0)),
        on_nan: OnNan::Fail,
        ..Decoding::default()
    }));
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let pixels = declared(bytes);
    if pixels > MOST_PIXELS || bytes.starts_with(&[0xff, 0xd8]) {
        return Corpus::Reject; // JPEG files are the target `image`'s
    }
    DECODER.with_borrow_mut(|decoder| {
        within(FREE + 16 * pixels + 48 * bytes.len(), || {
            let _ = decoder.check(bytes).map_err(|reason| check_words(&reason));
            let mut out = [0; 9 * 9 * 2 * 4];
            let _ = decoder.center_crop(bytes, 9, 9, &mut out).map_err(|reason| check_words(&reason));
        });
    });
    Corpus::Keep
});
