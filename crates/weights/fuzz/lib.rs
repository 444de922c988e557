//! What every target asks of a file: no panic, no memory beyond the limit, and every tensor that comes out has the bytes that
//! its shape says.

use std::alloc::System;
use std::io::{Cursor, Write};

use cap::Cap;
use weights::{Bytes, parse};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Reads `file` with 64 MB and 4 times its size, one of the four being the file itself. More is a crash.
pub fn check(file: Vec<u8>) {
    let most = (64 << 20) + 3 * file.len();
    MEMORY.set_limit(MEMORY.allocated() + most).expect("the limit is above what is in use");
    let state = parse(Bytes::new(file));
    MEMORY.set_limit(usize::MAX).expect("no limit is above every other");
    match state {
        Ok(state) => {
            for (name, tensor) in state.entries() {
                let elements: usize = tensor.shape().iter().product();
                assert_eq!(tensor.bytes().len(), elements * tensor.dtype().size(), "{name}");
                let _ = tensor.to_f32();
            }
        }
        Err(reason) => assert!(!reason.contains('\n') && reason.len() < 2000, "{reason}"),
    }
}

/// A zip file of these entries.
pub fn zip(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).expect("a name of ours");
        zip.write_all(bytes).expect("memory is written to");
    }
    zip.finish().expect("memory is written to").into_inner()
}
