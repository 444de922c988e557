//! How glibc's allocator treats what libtorch frees.
#![expect(unsafe_code, reason = "calls the C library")]

/// The largest block that may come from the heap, in bytes: as much as glibc accepts.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGEST_ON_HEAP: i32 = 32 << 20;
/// Free bytes at the heap's end that stay with the process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 1 << 30;

/// From here on freed memory mostly stays with this process. By default glibc gives a step's activations back to the
/// kernel and gets them anew in the next step, zeroed page by page: in training of a small ResNet that is a fourteenth of
/// all processor time. The peak stays what it is.
///
/// Does nothing where the user has tuned the allocator (`GLIBC_TUNABLES`, `MALLOC_TRIM_THRESHOLD_`,
/// `MALLOC_MMAP_THRESHOLD_`) or it is not glibc's. To be called once, before threads are started.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let tuned = ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"];
        if tuned.iter().any(|name| std::env::var_os(name).is_some()) {
            return;
        }
        // SAFETY: sets two numbers of the allocator, under its own lock; what it refuses changes nothing.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_ON_HEAP);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        }
    }
}
