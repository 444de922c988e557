//! Any bytes are weights or are refused.
//!
//! `scripts/fuzz weights/file`. There is no unsafe code but a mapping to need a sanitizer.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| weights_fuzz::check(bytes.to_vec()));
