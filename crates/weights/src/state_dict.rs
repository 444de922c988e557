//! Named tensors, in the order of the file.

use std::collections::HashSet;

use crate::error::Checked;
use crate::limits::quote;
use crate::tensor::Tensor;

/// Named tensors, in the order of the file. No name is there twice.
#[derive(Clone, Debug, Default)]
pub struct StateDict(Vec<(String, Tensor)>);

impl StateDict {
    /// These tensors; a name that is there twice is refused.
    pub(crate) fn new(entries: Vec<(String, Tensor)>) -> Checked<Self> {
        let mut seen = HashSet::new();
        match entries.iter().find(|(name, _)| !seen.insert(name.as_str())) {
            Some((name, _)) => Err(format!("the key {} is there twice", quote(name))),
            None => Ok(Self(entries)),
        }
    }

    /// The tensors by name.
    pub fn entries(&self) -> &[(String, Tensor)] {
        &self.0
    }

    /// The tensors by name.
    pub fn into_entries(self) -> Vec<(String, Tensor)> {
        self.0
    }

    /// Without the `module.` that DistributedDataParallel puts before every key, and the `_orig_mod.` of torch.compile, in
    /// either order.
    pub(crate) fn without_wrapper(mut self) -> Checked<Self> {
        for prefix in ["module.", "_orig_mod.", "module."] {
            if !self.0.is_empty() && self.0.iter().all(|(name, _)| name.starts_with(prefix)) {
                for (name, _) in &mut self.0 {
                    name.drain(..prefix.len());
                }
            }
        }
        Self::new(self.0)
    }
}
