//! What this machine has.

/// The number of NVIDIA devices, by the kernel driver's device files.
pub(crate) fn nvidia_devices() -> usize {
    let Ok(entries) = std::fs::read_dir("/dev") else { return 0 };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| is_device(name)).count()
}

/// `nvidia0`, but not `nvidiactl` or `nvidia-uvm`.
fn is_device(name: &str) -> bool {
    let number = name.strip_prefix("nvidia").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_count() {
        for (name, expected) in
            [("nvidia0", true), ("nvidia12", true), ("nvidia", false), ("nvidiactl", false), ("nvidia-uvm", false)]
        {
            assert_eq!(is_device(name), expected, "{name}");
        }
    }
}
