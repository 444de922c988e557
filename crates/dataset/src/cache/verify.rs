//! Checking all of a cache: every image against its checksum.

use std::path::Path;
use std::sync::Mutex;

use rayon::prelude::*;

use super::structure;
use crate::images::MaskTools;
use crate::watch::Counter;
use crate::{Error, Result, Watch};

/// What [`verify`] found.
#[derive(Debug, PartialEq, Eq)]
pub struct Verified {
    /// Images that were compared.
    pub images: usize,
    /// What is wrong, a line each. Empty where all is well.
    pub damaged: Vec<String>,
}

/// Reads all of the cache at `path` and compares every checksum, on the current rayon pool. `watch` is called with the
/// number of images compared.
///
/// # Errors
/// No file, or one that cannot be read; [`Error::Interrupted`].
pub fn verify(path: &Path, watch: &Watch<'_>) -> Result<Verified> {
    if !path.is_file() {
        return Err(Error::Input(format!("{}: no such cache", path.display())));
    }
    let dataset = match structure::read_checked(path, None, None)? {
        structure::Read::Complete(dataset) => dataset,
        structure::Read::Unusable(reason) => return Ok(Verified { images: 0, damaged: vec![reason] }),
    };
    let counter = Counter::new(watch);
    let damaged = Mutex::new(Vec::new());
    for set in [Some(&dataset.train), Some(&dataset.val), dataset.test.as_ref()].into_iter().flatten() {
        let tools = || (Vec::new(), MaskTools::default());
        (0..set.len()).into_par_iter().try_for_each_init(tools, |(scratch, masks), index| {
            for read in [set.stored(index, scratch).map(drop), set.mask(index, masks).map(drop)] {
                match read {
                    Ok(()) => {}
                    Err(Error::Cache { reason, .. }) => {
                        damaged.lock().expect("no thread panics while it holds this").push(reason);
                    }
                    Err(error) => return Err(error),
                }
            }
            counter.one()
        })?;
    }
    let mut damaged = damaged.into_inner().expect("all threads have ended");
    damaged.sort_unstable();
    Ok(Verified { images: counter.done(), damaged })
}
