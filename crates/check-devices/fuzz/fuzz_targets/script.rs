//! Any batch script is judged without a panic, in bounded time and memory, and gets one of the three exit statuses. What it prints is
//! for nobody (-close_fd_mask=1).

#![no_main]

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use check_devices::Invocation;
use libfuzzer_sys::fuzz_target;

/// In memory, and one for each process.
static SCRIPT: LazyLock<PathBuf> =
    LazyLock::new(|| PathBuf::from(format!("/dev/shm/check-devices-fuzz-{}.sh", std::process::id())));

fuzz_target!(|bytes: &[u8]| {
    // The first byte chooses what is asked of it.
    let flags: &[&str] = match bytes.first().map_or(0, |first| first % 4) {
        0 => &[],
        1 => &["--batch", "64", "--nodes", "2"],
        2 => &["--explain-layout"],
        _ => &["--format", "json", "--slurm", "24.11"],
    };
    fs::write(&*SCRIPT, bytes.get(1..).unwrap_or_default()).expect("/dev/shm is there");
    let words = ["check-devices".into(), SCRIPT.clone().into_os_string()];
    let words = words.into_iter().chain(flags.iter().map(OsString::from));
    if let Ok(invocation) = Invocation::parse(words) {
        assert!(invocation.run_for_status(None) <= 2);
    }
});
