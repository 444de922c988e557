//! Do the nodes share a folder?

use std::fs;
use std::path::Path;

use crate::error::{Failure, Result};
use crate::{Reduction, Scope, World};

impl World {
    /// Finds out who has to go first for files in `folder`: rank 0 alone where all nodes see the same folder, else one
    /// rank of each node. Collective.
    ///
    /// Rank 0 makes a file with a name that nobody can have seen before, the other nodes look for it, and it goes
    /// again. On one node nothing is touched.
    ///
    /// # Errors
    /// A folder that rank 0 cannot make or write to, known to all ranks.
    pub fn scope_of(&self, folder: &Path) -> Result<Scope> {
        if self.nodes() == 1 {
            return Ok(Scope::World);
        }
        let probe = self.from_rank_zero("probing whether the nodes share a folder", || {
            let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
            let name = format!(".shared-{}-{random:016x}", std::process::id());
            let made = fs::create_dir_all(folder).and_then(|()| fs::write(folder.join(&name), []));
            made.map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
            Ok(name.into_bytes())
        })?;
        let probe = folder.join(String::from_utf8_lossy(&probe).as_ref());
        // One look a node: a thousand ranks need not ask the same.
        let mut seen = [u8::from(self.local_rank() != 0 || probe.exists())];
        self.control().all_reduce(&mut seen, Reduction::Min)?;
        if self.rank() == 0 {
            let _ = fs::remove_file(&probe); // an empty file that stays does no harm
        }
        Ok(if seen[0] == 1 { Scope::World } else { Scope::Node })
    }
}
