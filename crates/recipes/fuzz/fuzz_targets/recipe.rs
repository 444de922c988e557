//! Any text is a recipe or is refused with its line: no panic, and no memory beyond 64 MB and 64 times its size.

#![no_main]

use std::alloc::System;

use cap::Cap;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let most = MEMORY.allocated() + (64 << 20) + 64 * text.len();
    MEMORY.set_limit(most).expect("the limit is above what is in use");
    let lines = text.lines().count() + 1;
    match recipes::entries("r.toml", &text) {
        Ok(entries) => assert!(entries.is_sorted_by_key(|entry| entry.line) && entries.iter().all(|entry| entry.line <= lines)),
        Err(reason) => assert!(reason.starts_with("r.toml:") && !reason.contains('\n'), "{reason}"),
    }
    MEMORY.set_limit(usize::MAX).expect("no limit is above every other");
});
