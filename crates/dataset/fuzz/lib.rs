//! What the targets share: memory that is counted, and files in memory for what reads files.

use std::alloc::System;
use std::path::PathBuf;

use cap::Cap;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Memory that any file may take, in bytes.
pub const FREE: usize = 64 << 20;

/// Does `work` with at most `most` bytes of memory; more is a crash. What C libraries take is not counted here, but by
/// libFuzzer's -rss_limit_mb.
pub fn within<T>(most: usize, work: impl FnOnce() -> T) -> T {
    MEMORY.set_limit(MEMORY.allocated() + most).expect("the limit is above what is in use");
    let result = work();
    MEMORY.set_limit(usize::MAX).expect("no limit is above every other");
    result
}

/// A message is one line that is not too long.
pub fn check_words(reason: &str) {
    assert!(!reason.contains('\n') && reason.len() < 2000, "{reason}");
}

/// A folder of this process in memory, made once: a file in it is written anew for each input.
pub fn folder() -> PathBuf {
    let folder = PathBuf::from(format!("/dev/shm/dataset-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("/dev/shm can be written to");
    folder
}

/// The pixels that the largest page of a file declares.
pub fn declared(bytes: &[u8]) -> usize {
    let area = |(width, height): (u32, u32)| (width as usize).saturating_mul(height as usize);
    let Ok(mut decoder) = tiff::decoder::Decoder::new(std::io::Cursor::new(bytes)) else {
        let reader = image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format().ok();
        return reader.and_then(|reader| reader.into_dimensions().ok()).map_or(0, area);
    };
    let mut most = decoder.dimensions().map_or(0, area);
    while decoder.more_images() && decoder.next_image().is_ok() {
        most = most.max(decoder.dimensions().map_or(0, area));
    }
    most
}

/// For a target whose program catches panics of a library: those are no faults, all others are.
pub fn leave_caught_panics() {
    panics::hook(|message| {
        eprintln!("{message}\n{}", std::backtrace::Backtrace::force_capture());
        std::process::abort();
    });
}
