//! Weights from and to files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{TchError, Tensor};

use crate::Backbone;

/// Why weights were not loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read or written as safetensors.
    #[error("{path}: cannot be read or written as safetensors", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TchError,
    },
    /// The keys or shapes in the file are not those of the network.
    #[error("{path} does not fit {network}: {differences}", path = path.display())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// The network's name.
        network: String,
        /// What differs, key by key.
        differences: String,
    },
}

impl Backbone {
    /// Replaces all parameters and buffers by those of a safetensors file. Strict: the keys and shapes must be exactly
    /// the network's. Nothing is changed on an error.
    ///
    /// # Errors
    /// An unreadable file, or the missing, unexpected and misshapen keys.
    pub fn load(&self, path: &Path) -> Result<(), WeightsError> {
        let file = |source| WeightsError::File { path: path.to_owned(), source };
        let mut found: BTreeMap<String, Tensor> = Tensor::read_safetensors(path).map_err(file)?.into_iter().collect();
        let mut differences = Vec::new();
        let mut copies = Vec::new();
        for (name, tensor) in self.state() {
            match found.remove(&name) {
                None => differences.push(format!("{name} is missing")),
                Some(source) if source.size() != tensor.size() => {
                    differences.push(format!("{name} is {:?} instead of {:?}", source.size(), tensor.size()));
                }
                Some(source) => copies.push((tensor, source)),
            }
        }
        differences.extend(found.keys().map(|name| format!("{name} is unexpected")));
        if !differences.is_empty() {
            let shown = differences.iter().take(8).cloned().collect::<Vec<_>>().join("; ");
            let more = differences.len().saturating_sub(8);
            let more = if more == 0 { String::new() } else { format!("; and {more} more") };
            let network = self.network().name().to_owned();
            let differences = shown + &more;
            return Err(WeightsError::Misfit { path: path.to_owned(), network, differences });
        }
        tch::no_grad(|| {
            for (mut tensor, source) in copies {
                tensor.copy_(&source);
            }
        });
        Ok(())
    }

    /// Writes all parameters and buffers as a safetensors file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let state: Vec<_> = self
            .state()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.detach().to_device(tch::Device::Cpu).contiguous()))
            .collect();
        let written = Tensor::write_safetensors(&state, path);
        written.map_err(|source| WeightsError::File { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn backbone(classes: usize) -> Backbone {
        Backbone::new(architectures::architecture("cifar_resnet20").unwrap().network(classes), Device::Cpu)
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let (original, copy) = (backbone(10), backbone(10));
        original.save(&path).unwrap();
        copy.load(&path).unwrap();
        for ((name, left), (_, right)) in original.state().iter().zip(copy.state()) {
            assert!(left.equal(&right), "{name}");
        }
        assert!(copy.trained().iter().all(|(_, tensor)| tensor.requires_grad() && tensor.kind() == Kind::Float));
    }

    #[test]
    fn what_does_not_fit_is_listed_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        backbone(10).save(&path).unwrap();
        let other = backbone(7);
        let before: Vec<_> = other.state().iter().map(|(_, tensor)| tensor.copy()).collect();
        let error = other.load(&path).unwrap_err().to_string();
        assert!(error.contains("linear.weight is [10, 64] instead of [7, 64]; linear.bias is [10]"), "{error}");
        assert!(before.iter().zip(other.state()).all(|(left, (_, right))| left.equal(&right)));
        std::fs::write(&path, b"no safetensors").unwrap();
        assert!(matches!(other.load(&path), Err(WeightsError::File { .. })));
    }
}
