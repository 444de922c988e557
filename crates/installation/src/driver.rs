//! The GPU's driver.

use std::fs;

/// The release of NVIDIA's driver, as the kernel has it: "580.65.06"; `None` where none is loaded.
pub fn driver() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    release(&text).map(str::to_owned)
}

/// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:25:13 UTC 2025".
fn release(text: &str) -> Option<&str> {
    let is_release = |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    text.lines().next()?.split_whitespace().find(is_release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_of_both_modules() {
        let closed =
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version: 12";
        assert_eq!(release(closed), Some("535.183.01"));
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)";
        assert_eq!(release(open), Some("580.65.06"));
        assert_eq!(release(""), None);
    }
}
