//! What of the machine is a rank's: its device, its cores, its random numbers.

pub(crate) mod cores;
pub mod device;
pub(crate) mod seed;
