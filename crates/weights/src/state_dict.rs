//! Named tensors, in the order of the file.

use std::collections::{BTreeMap, HashSet};

use archives::{Checked, quote};

use crate::tensor::Tensor;

/// Named tensors, in the order of the file. No name is there twice.
#[derive(Clone, Debug, Default)]
pub struct StateDict {
    entries: Vec<(String, Tensor)>,
    metadata: BTreeMap<String, String>,
}

impl StateDict {
    /// These tensors; a name that is there twice is refused.
    pub(crate) fn new(entries: Vec<(String, Tensor)>) -> Checked<Self> {
        let mut seen = HashSet::new();
        match entries.iter().find(|(name, _)| !seen.insert(name.as_str())) {
            Some((name, _)) => Err(format!("the key {} is there twice", quote(name))),
            None => Ok(Self { entries, metadata: BTreeMap::new() }),
        }
    }

    /// The same, with what the file says of itself.
    pub(crate) fn with_metadata(self, metadata: BTreeMap<String, String>) -> Self {
        Self { metadata, ..self }
    }

    /// What a safetensors file says of itself, beside its tensors; other formats say nothing.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensors by name.
    pub fn entries(&self) -> &[(String, Tensor)] {
        &self.entries
    }

    /// The tensors by name.
    pub fn into_entries(self) -> Vec<(String, Tensor)> {
        self.entries
    }

    /// Without the `module.` that DistributedDataParallel puts before every key, and the `_orig_mod.` of torch.compile, in
    /// either order.
    pub(crate) fn without_wrapper(mut self) -> Checked<Self> {
        for prefix in ["module.", "_orig_mod.", "module."] {
            if !self.entries.is_empty() && self.entries.iter().all(|(name, _)| name.starts_with(prefix)) {
                for (name, _) in &mut self.entries {
                    name.drain(..prefix.len());
                }
            }
        }
        Ok(Self::new(self.entries)?.with_metadata(self.metadata))
    }
}
