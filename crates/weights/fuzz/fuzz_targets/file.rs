//! Any bytes are weights or are refused: no panic, no memory beyond what the file could hold, and every tensor that
//! comes out has the bytes that its shape says.
//!
//! `cargo +nightly fuzz run -s none file -- -max_len=4096 -malloc_limit_mb=64` in `crates/weights`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weights::{Bytes, parse};

fuzz_target!(|bytes: &[u8]| {
    let Ok(state) = parse(Bytes::new(bytes.to_vec())) else { return };
    for (name, tensor) in state.entries() {
        let elements: usize = tensor.shape().iter().product();
        assert_eq!(tensor.bytes().len(), elements * tensor.dtype().size(), "{name}");
        let _ = tensor.to_f32();
    }
});
