//! The shared memory of a node, through which its ranks talk.

use std::fmt;

use mpi::Abi;

/// Where every MPI puts it.
const FOLDER: &str = "/dev/shm";

/// What is free there, and what ranks take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedMemory {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that the ranks of a node may take.
    pub needed: u64,
    /// Whether MPI crashes where it is too small, instead of going another way.
    pub is_vital: bool,
}

impl SharedMemory {
    /// Whether it does not suffice.
    pub fn is_too_small(&self) -> bool {
        self.free < self.needed
    }
}

impl fmt::Display for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(f, "{FOLDER} has {:.0} MiB free", mebibytes(self.free))?;
        if self.is_too_small() {
            write!(
                f,
                ", and the ranks of this node need up to {:.0} MiB of it: make it larger (docker run --shm-size=1g; mount -o \
                 remount,size=1g {FOLDER}), or remove what fills it",
                mebibytes(self.needed)
            )?;
        }
        Ok(())
    }
}

/// What is free on this node for `ranks` of an MPI with this interface, which calls itself `version`; `None` where there is no
/// such folder.
pub fn shared_memory(abi: Abi, version: &str, ranks: usize) -> Option<SharedMemory> {
    let status = rustix::fs::statvfs(FOLDER).ok()?;
    let (of_each, is_vital) = of_rank(abi, version);
    let needed = if ranks > 1 { of_each * ranks as u64 } else { 0 };
    Some(SharedMemory { free: status.f_bavail * status.f_frsize, needed, is_vital })
}

/// What a rank takes at most, as tried out on 1 to 8 of them, and whether the MPI cannot do without.
fn of_rank(abi: Abi, version: &str) -> (u64, bool) {
    const MIB: u64 = 1 << 20;
    match abi {
        // Touches less, but looks whether so much is there; else it says so at length, and goes on without.
        Abi::OpenMpi => (4 * MIB, false),
        Abi::Mpich | Abi::Standard if version.contains("Intel(R) MPI") => (2 * MIB, false),
        // Reserves it without asking, and ends by a signal when it is touched (MPICH 5.0).
        Abi::Mpich | Abi::Standard => (12 * MIB, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_is_said_with_what_to_do() {
        let small = SharedMemory { free: 16 << 20, needed: 24 << 20, is_vital: true };
        assert!(small.is_too_small());
        let text = small.to_string();
        assert!(text.starts_with("/dev/shm has 16 MiB free, and the ranks of this node need up to 24 MiB"), "{text}");
        let enough = SharedMemory { free: 64 << 20, ..small };
        assert_eq!(enough.to_string(), "/dev/shm has 64 MiB free");
        // One rank talks to nobody.
        assert_eq!(shared_memory(Abi::Mpich, "MPICH Version: 5.0.2", 1).map(|memory| memory.needed), Some(0));
    }
}
