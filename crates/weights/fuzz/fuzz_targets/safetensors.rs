//! Any header is that of tensors or is refused: all of the bytes as a file, and as the header of one with 64 bytes of values.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    weights_fuzz::check([&(bytes.len() as u64).to_le_bytes()[..], bytes, &[0; 64]].concat());
    weights_fuzz::check(bytes.to_vec());
});
