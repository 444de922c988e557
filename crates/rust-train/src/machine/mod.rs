//! What of the machine is a rank's: its device, its cores, its kernels, its threads, its random numbers.

pub(crate) mod cores;
pub mod device;
pub(crate) mod fingerprint;
pub(crate) mod kernels;
pub(crate) mod seed;
pub(crate) mod workers;
