//! MPI's own words for its errors.
#![expect(unsafe_code, reason = "MPI_Error_string")]

use std::ffi::{c_char, c_int};

use mpi::ffi;

use crate::error::{Error, Result};
use crate::stop;

/// Turns MPI's return code into an error with MPI's own text.
pub(crate) fn check(call: &'static str, code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(()); // MPI_SUCCESS is 0 by the standard
    }
    stop::mark_broken();
    let mut text = [0u8; 1024]; // longer than MPI_MAX_ERROR_STRING of the MPIs at hand (256 and 512)
    let mut length = 0;
    // SAFETY: `text` is longer than MPI's longest error text.
    let known = unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast::<c_char>(), &mut length) } == 0;
    let message = if known {
        String::from_utf8_lossy(&text[..(length as usize).min(text.len())]).into_owned()
    } else {
        format!("error code {code}")
    };
    Err(Error::Mpi { call, message })
}
