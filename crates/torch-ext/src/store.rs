//! c10d's TCPStore: where the ranks of NCCL find each other.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::time::Duration;

use crate::Result;
use crate::ffi;
use crate::process_group::no_object;

/// Keys and values that one rank serves and all can read and write. Rank 0 opens it on a free port; MPI carries the
/// address to the others: nobody has to choose a port in a script.
///
/// ```
/// # use std::time::Duration;
/// # use torch_ext::Store;
/// let timeout = Duration::from_secs(10);
/// let server = Store::serve("localhost", timeout)?;
/// let client = Store::connect("localhost", server.port(), timeout)?;
/// server.set("answer", b"42")?;
/// assert_eq!(client.get("answer")?, b"42");
/// # Ok::<(), torch_ext::Error>(())
/// ```
#[derive(Debug)]
pub struct Store(NonNull<ffi::Store>);

impl Store {
    /// Opens a store on a free port of this host, which others know as `host`.
    ///
    /// # Errors
    /// What libtorch threw: no port could be opened.
    pub fn serve(host: &str, timeout: Duration) -> Result<Self> {
        Self::new(host, 0, true, timeout)
    }

    /// Connects to the store that `host` serves on `port`, and tries so for `timeout`.
    ///
    /// # Errors
    /// What libtorch threw: nobody answered in time, say.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self> {
        Self::new(host, port, false, timeout)
    }

    fn new(host: &str, port: u16, is_server: bool, timeout: Duration) -> Result<Self> {
        let host = text(host);
        let mut raw = ptr::null_mut();
        let timeout = timeout.as_millis() as i64;
        // SAFETY: `host` lives during the call; `out` is written before a null message comes back.
        unsafe { ffi::te_store_new(host.as_ptr(), port, is_server, timeout, &mut raw) }.check("TCPStore")?;
        Ok(Self(NonNull::new(raw).ok_or_else(|| no_object("TCPStore"))?))
    }

    /// The port that it listens on, or is connected to.
    pub fn port(&self) -> u16 {
        // SAFETY: the store lives during the call.
        unsafe { ffi::te_store_port(self.raw()) }
    }

    /// Sets `key` to `value`, for all.
    ///
    /// # Errors
    /// What libtorch threw: the server is gone, say.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = text(key);
        // SAFETY: key and value live during the call.
        unsafe { ffi::te_store_set(self.raw(), key.as_ptr(), value.as_ptr(), value.len()) }.check("TCPStore.set")
    }

    /// The value of `key`, once somebody has set it. For values of up to 64 KiB.
    ///
    /// # Errors
    /// A longer value, or what libtorch threw: nobody has set it in time, say.
    pub fn get(&self, key: &str) -> Result<Vec<u8>> {
        let key = text(key);
        let mut value = vec![0; 64 << 10];
        let mut length = 0;
        // SAFETY: the key lives during the call; at most the capacity of `value` is written.
        unsafe { ffi::te_store_get(self.raw(), key.as_ptr(), value.as_mut_ptr(), value.len(), &mut length) }
            .check("TCPStore.get")?;
        value.truncate(length);
        Ok(value)
    }

    pub(crate) fn raw(&self) -> *mut ffi::Store {
        self.0.as_ptr()
    }
}

fn text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `te_store_new` and is freed once; a process group holds its own reference.
        unsafe { ffi::te_store_free(self.0.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_arrives_whole_or_not_at_all() {
        let store = Store::serve("localhost", Duration::from_secs(10)).unwrap();
        for length in [0, 1, 64 << 10] {
            store.set("value", &vec![7; length]).unwrap();
            assert_eq!(store.get("value").unwrap(), vec![7; length]);
        }
        store.set("value", &vec![7; (64 << 10) + 1]).unwrap();
        let error = store.get("value").unwrap_err();
        assert!(error.to_string().contains("the value of value has 65537 bytes, more than 65536"), "{error}");
    }

    #[test]
    fn nobody_home_is_an_error_in_time() {
        let start = std::time::Instant::now();
        let error = Store::connect("localhost", 9, Duration::from_secs(2)).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(30), "{error}");
        assert!(error.to_string().starts_with("TCPStore: "), "{error}");
    }
}
