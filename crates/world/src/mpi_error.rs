//! MPI's own words for its errors.

use std::ffi::c_int;

use crate::error::{Error, Result};
use crate::stop;

/// Turns MPI's return code into an error with MPI's own text.
pub(crate) fn check(call: &'static str, code: c_int) -> Result<()> {
    mpi::check(call, code).map_err(failed)
}

/// After an error of MPI no collective is possible.
pub(crate) fn failed(mpi::Error { call, message }: mpi::Error) -> Error {
    stop::mark_broken();
    Error::Mpi { call, message }
}
