//! Lustre keeps a file on one of its servers' disks unless it is told to spread it over several (striping): all nodes of a job would read
//! the cache from that one.

use std::path::Path;

/// As `statfs` calls it, in Lustre's sources.
const LUSTRE: u64 = 0x0bd0_0bd0;
/// What a single disk of a server gives in some seconds.
const LARGE: u64 = 4 << 30;
/// Most disks that are worth naming.
const MOST_STRIPES: u64 = 16;

/// Says how a cache of so many bytes is to be spread, where its folder is on Lustre.
pub(super) fn say(folder: &Path, bytes: u64) {
    let Ok(system) = rustix::fs::statfs(folder) else { return };
    if let Some(hint) = hint(folder, system.f_type as u64, bytes) {
        log::info!("{hint}");
    }
}

fn hint(folder: &Path, file_system: u64, bytes: u64) -> Option<String> {
    let (folder, gigabytes) = (folder.display(), bytes / 1_000_000_000);
    let stripes = (bytes / LARGE).clamp(2, MOST_STRIPES);
    (file_system & 0xffff_ffff == LUSTRE && bytes >= LARGE).then(|| {
        format!(
            "{folder} is on Lustre, and the cache takes {gigabytes} GB: where `lfs getstripe -d {folder}` says a stripe count of 1, all \
             nodes read it from one disk; to spread it, stop, `lfs setstripe -c {stripes} {folder}`, and start again"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_caches_on_lustre_alone() {
        let folder = Path::new("/scratch/me");
        let of = |file_system, gigabytes: u64| hint(folder, file_system, gigabytes << 30);
        assert_eq!((of(0xef53, 200), of(LUSTRE, 3)), (None, None));
        assert!(of(LUSTRE, 200).unwrap().contains("lfs setstripe -c 16 /scratch/me"));
        assert!(of(LUSTRE, 9).unwrap().contains("takes 9 GB: where `lfs getstripe -d /scratch/me`"));
    }
}
