//! The site file: what does not change from job to job and a script cannot say. `check-devices site-init` seeds it.

mod file;
mod init;

pub(crate) use file::Site;
pub(crate) use init::{SINFO_FORMAT, partitions_of_sinfo, site_init};
