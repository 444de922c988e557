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

    /// The tensors whose names begin with `prefix` (and a dot), without it.
    ///
    /// # Errors
    /// No tensor with such a name.
    pub fn under(self, prefix: &str) -> Checked<Self> {
        let dotted = if prefix.is_empty() || prefix.ends_with('.') { prefix.to_owned() } else { format!("{prefix}.") };
        let names: Vec<_> = self.entries.iter().take(4).map(|(name, _)| quote(name)).collect();
        let stripped = |(name, tensor): (String, Tensor)| Some((name.strip_prefix(&dotted)?.to_owned(), tensor));
        let entries: Vec<_> = self.entries.into_iter().filter_map(stripped).collect();
        if entries.is_empty() {
            let names = names.join(", ");
            return Err(format!("no name begins with --weights-prefix {}; there are: {names}", quote(prefix)));
        }
        Ok(Self { entries, metadata: self.metadata })
    }

    /// The same with other names and other shapes of as many values, where `renamed` gives them.
    #[must_use]
    pub fn renamed(self, renamed: impl Fn(&str, &[usize]) -> Option<(String, Vec<usize>)>) -> Self {
        let rename = |(name, tensor): (String, Tensor)| match renamed(&name, tensor.shape()) {
            Some((name, shape)) => (name, tensor.reshaped(shape)),
            None => (name, tensor),
        };
        Self { entries: self.entries.into_iter().map(rename).collect(), metadata: self.metadata }
    }

    /// What stands before `name` in the names that end in it, each with its dot, in the order of the file.
    pub fn prefixes_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let prefix =
            move |(own, _): &'a (String, Tensor)| own.strip_suffix(name).filter(|prefix| prefix.ends_with('.'));
        self.entries.iter().filter_map(prefix)
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
