//! Paths: are they there, can they be written, on what, with how much room.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statfs};

use crate::facts::PathFacts;

/// What is known of `path`; where it does not exist yet, the nearest folder above it counts.
pub(super) fn path_facts(path: &Path) -> PathFacts {
    let existing = nearest(path);
    let system = statfs(&existing).ok();
    PathFacts {
        exists: path.exists(),
        is_directory: path.is_dir(),
        writable: access(&existing, Access::WRITE_OK).is_ok(),
        file_system: system.as_ref().map(|system| file_system(system.f_type as u64)),
        free_bytes: system.map(|system| system.f_bavail.saturating_mul(system.f_bsize as u64)),
    }
}

/// The path itself or the nearest folder above it that exists.
fn nearest(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|ancestor| !ancestor.as_os_str().is_empty() && ancestor.exists());
    found.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Size of the file system of `path` in bytes.
pub(super) fn size_bytes(path: &str) -> Option<u64> {
    let system = statfs(path).ok()?;
    Some((system.f_blocks).saturating_mul(system.f_bsize as u64))
}

/// The name of a file system by the number that the kernel gives it (statfs(2), and the sources of Lustre, GPFS, BeeGFS).
fn file_system(magic: u64) -> String {
    let known = [
        (0x0bd0_0bd0, "lustre"),
        (0x4750_4653, "gpfs"),
        (0x6969, "nfs"),
        (0x1983_0326, "beegfs"),
        (0xff53_4d42, "cifs"),
        (0xfe53_4d42, "smb2"),
        (0x00c3_6400, "ceph"),
        (0xef53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x0102_1994, "tmpfs"),
        (0x794c_7630, "overlay"),
        (0x2fc1_2fc1, "zfs"),
    ];
    let found = known.iter().find(|(number, _)| *number == magic & 0xffff_ffff);
    found.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_yet_is_judged_by_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let facts = path_facts(&folder.path().join("a/b/c"));
        assert!(!facts.exists && facts.writable && facts.free_bytes.is_some(), "{facts:?}");
        assert_eq!(file_system(0x6969), "nfs");
        assert_eq!(file_system(0x1234), "0x1234");
    }
}
