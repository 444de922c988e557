//! Any pickle is a state dict or is refused: in a zip file as torch.save writes it, beside two storages, and in the older
//! format, where the storages and their keys come from the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zip::CompressionMethod;

/// What the older format begins with: its magic number, its version, and a machine that says nothing.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fuzz_target!(|bytes: &[u8]| {
    let entries = [("a/data.pkl", bytes), ("a/data/0", &[0; 64][..]), ("a/data/1", &[1; 16][..])];
    weights_fuzz::check(weights_fuzz::zip(&entries, CompressionMethod::Stored));
    weights_fuzz::check([LEGACY, bytes].concat());
});
