//! The site file: what does not change from job to job and a script cannot say. `check-devices site-init` seeds it.

mod file;
mod init;
mod nodes;
mod queues;

pub(crate) use file::Site;
pub(crate) use init::{SINFO_FORMAT, complete_by_scontrol, partitions_of_sinfo, site_init};
pub(crate) use nodes::{node_kinds, partitions, whole_nodes};
pub(crate) use queues::{queues_of_bqueues, queues_of_qstat};
