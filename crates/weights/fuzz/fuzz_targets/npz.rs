//! Any array is a tensor or is refused: all of the bytes as a zip file, and as an array in one, stored and deflated, and as
//! the deflated bytes of one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zip::CompressionMethod;

fuzz_target!(|bytes: &[u8]| {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        weights_fuzz::check(weights_fuzz::zip(&[("w.npy", bytes)], method));
    }
    // The same entry, said to be deflated: method 8 in both of its records.
    let mut zip = weights_fuzz::zip(&[("w.npy", bytes)], CompressionMethod::Stored);
    let directory = zip.len() - 22 - 46 - "w.npy".len();
    zip[8] = 8;
    zip[directory + 10] = 8;
    weights_fuzz::check(zip);
    weights_fuzz::check(bytes.to_vec());
});
