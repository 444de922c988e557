//! Weights from and to files.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use architectures::{Architecture, Distribution, Network, Parameter, Positions, architecture};
use tch::{Device, Kind, Tensor};
use weights::{Dtype, StateDict};

use crate::Backbone;
use crate::names::channels_of;

/// Why weights were not loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read or written, or is none of weights.
    #[error(transparent)]
    File(#[from] weights::Error),
    /// The keys or shapes in the file are not those of the network.
    #[error("{path} does not fit {network}:\n{differences}", path = path.display())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// The network's name.
        network: String,
        /// What differs, key by key.
        differences: Differences,
        /// Whether nothing but the head's shape differs.
        is_head_alone: bool,
    },
}

/// How much of a network a file of weights must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// All keys and shapes, neither more nor less.
    Strict,
    /// All but the head, which stays as it was drawn where its shape is another: for another number of classes.
    Head,
    /// Whatever fits.
    Partial,
}

/// The network of `architecture` that the weights that were `found` are of, with a head for so many `classes`: with learned positions for
/// images of their size.
pub fn network_of(architecture: &Architecture, found: &StateDict, classes: usize) -> Network {
    let network = architecture.network(classes);
    let Some(positions) = network.positions() else { return network };
    let own = found.entries().iter().find(|(key, _)| key == positions.name);
    match own.map(|(_, tensor)| tensor.shape()) {
        Some(&[1, count, _]) if count > positions.others => network.with_positions(count),
        _ => network,
    }
}

/// Makes the learned positions `tensor`, 1×rows×features, be `positions` many, between those that there are: bicubic, as timm does it. What
/// they are not of a square stays. Gives what it did, in words; nothing where nothing need be done, or can be.
fn interpolate(positions: Positions<'_>, tensor: &mut weights::Tensor) -> Option<String> {
    let &[1, count, features] = tensor.shape() else { return None };
    let side = |count: usize| {
        count.checked_sub(positions.others).map(usize::isqrt).filter(|side| side * side + positions.others == count)
    };
    let (from, to) = (side(count)?, side(positions.count)?);
    if from == to || from == 0 || !tensor.dtype().is_float() {
        return None;
    }
    let rows = to_torch(tensor).to_kind(Kind::Float);
    let (others, [from, to, features]) = (positions.others as i64, [from, to, features].map(|side| side as i64));
    let grid = rows.narrow(1, others, from * from).reshape([1, from, from, features]).permute([0, 3, 1, 2]);
    let grid = grid.internal_upsample_bicubic2d_aa([to, to], false, None::<f64>, None::<f64>);
    let grid = grid.permute([0, 2, 3, 1]).reshape([1, to * to, features]);
    *tensor = from_torch(&Tensor::cat(&[rows.narrow(1, 0, others), grid], 1));
    Some(format!("{} is of {from}×{from} patches, and is interpolated to {to}×{to}", positions.name))
}

/// Where a file of weights and a network differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    differences: Vec<Difference>,
    /// What was made to fit, in words.
    adapted: Vec<String>,
}

/// One key: its shape in the file and in the network, where it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Difference {
    key: String,
    file: Option<Vec<usize>>,
    network: Option<Vec<usize>>,
    /// Of a key that the file lacks: the one in it that has its shape, is not the network's, and is called most like it.
    nearest: Option<String>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.differences.is_empty()
    }

    /// Keys that differ.
    pub fn len(&self) -> usize {
        self.differences.len()
    }

    /// What was adapted to images of other channels, or of another size, than it was trained on, in words.
    pub fn adapted(&self) -> &[String] {
        &self.adapted
    }
}

/// Most keys that are shown.
const MOST_SHOWN: usize = 12;

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = |shape: &Option<Vec<usize>>| match shape.as_deref() {
            None => "missing".to_owned(),
            Some([]) => "one value".to_owned(),
            Some(sides) => sides.iter().map(usize::to_string).collect::<Vec<_>>().join("×"),
        };
        // Names of both sides, however many there are of either.
        let (of_network, of_file): (Vec<_>, Vec<_>) = self.differences.iter().partition(|row| row.network.is_some());
        let most = MOST_SHOWN - of_file.len().min(MOST_SHOWN / 2);
        let shown: Vec<_> = of_network.iter().take(most).copied().collect();
        let shown: Vec<_> = shown.iter().chain(&of_file).take(MOST_SHOWN).copied().collect();
        let headings = ["key", "in the file", "in the network", "called most like it in the file"];
        let row = |row: &&Difference| {
            let nearest = row.nearest.clone().unwrap_or_default();
            [row.key.clone(), shape(&row.file), shape(&row.network), nearest]
        };
        let rows: Vec<_> = std::iter::once(headings.map(str::to_owned)).chain(shown.iter().map(row)).collect();
        let columns = if shown.iter().any(|row| row.nearest.is_some()) { headings.len() } else { headings.len() - 1 };
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        for (index, row) in rows.iter().enumerate() {
            let cells = row[..columns].iter().enumerate().map(|(column, cell)| format!("  {cell:0$}", width(column)));
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{}", cells.collect::<String>().trim_end())?;
        }
        match self.differences.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, "\n  … and {more} more"),
        }
    }
}

/// Says of each key that the file lacks which of those that are only in the file is called most like it, of its shape, each of one
/// key. Gives those that are left.
fn name_nearest(differences: &mut [Difference], unexpected: Vec<(Vec<usize>, String)>) -> Vec<(Vec<usize>, String)> {
    let mut by_shape: HashMap<&[usize], Vec<usize>> = HashMap::new();
    for (index, (shape, _)) in unexpected.iter().enumerate() {
        by_shape.entry(shape).or_default().push(index);
    }
    let mut taken = HashSet::new();
    for difference in differences.iter_mut().filter(|difference| difference.file.is_none()) {
        let Some(candidates) = difference.network.as_deref().and_then(|shape| by_shape.get_mut(shape)) else {
            continue;
        };
        // Of those that are as near the first, as they are in the file.
        let near = |place: &usize| (alike(&difference.key, &unexpected[candidates[*place]].1), Reverse(*place));
        let Some(place) = (0..candidates.len()).max_by_key(near) else { continue };
        let index = candidates.remove(place);
        difference.nearest = Some(unexpected[index].1.clone());
        taken.insert(index);
    }
    let left = unexpected.into_iter().enumerate().filter(|(index, _)| !taken.contains(index));
    left.map(|(_, own)| own).collect()
}

/// How many bytes two names have in common at their beginnings and ends.
fn alike(one: &str, other: &str) -> usize {
    let start = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let end = one.bytes().rev().zip(other.bytes().rev()).take_while(|(one, other)| one == other).count();
    (start + end).min(one.len()).min(other.len())
}

impl Backbone {
    /// Replaces parameters and buffers by those of a file of weights (`.pth`, `.safetensors`, `.npz`), of any type. Gives
    /// the differences that `matching` allowed. Nothing is changed on an error.
    ///
    /// Counts of batches that BatchNorm has seen may be missing, as in files of old, and tables that follow from the architecture. Keys that a
    /// published file has under an older name are renamed.
    ///
    /// # Errors
    /// An unreadable file, or the missing, unexpected and misshapen keys that `matching` does not allow.
    pub fn load(&self, path: &Path, matching: Matching) -> Result<Differences, WeightsError> {
        self.load_found(weights::read(path)?, path, matching)
    }

    /// The same of weights that were `found` in the file `path`.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for those of reading.
    pub fn load_found(&self, found: StateDict, path: &Path, matching: Matching) -> Result<Differences, WeightsError> {
        self.take(found, path, matching)
    }

    /// The network of `architecture` with the weights in the file `path`, all of them, for as many classes and images of as many
    /// channels as they are of.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn of_weights(architecture: &Architecture, path: &Path, device: Device) -> Result<Self, WeightsError> {
        Self::of_state_dict(architecture, weights::read(path)?, path, device)
    }

    /// The same of weights that were `found` in the file `path`.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for those of reading.
    pub fn of_state_dict(
        architecture: &Architecture,
        found: StateDict,
        path: &Path,
        device: Device,
    ) -> Result<Self, WeightsError> {
        let channels = channels_of(architecture, &found);
        let network = network_of(architecture, &found, 1).with_channels(channels);
        let head = network.parameters().into_iter().find(|parameter| parameter.node == network.head());
        let head = head.and_then(|head| {
            let (_, tensor) = found.entries().iter().find(|(key, _)| *key == head.name)?;
            // A tensor with another side of zero has no bytes, and could claim any number of classes.
            tensor.shape().split_first().filter(|(_, rest)| Some(*rest) == head.shape.get(1..))
        });
        let classes = head.map(|(&classes, _)| classes).filter(|&classes| classes > 0);
        let backbone =
            Self::new(network_of(architecture, &found, classes.unwrap_or(1)).with_channels(channels), device);
        backbone.take(found, path, Matching::Strict)?;
        Ok(backbone)
    }

    fn take(&self, found: StateDict, path: &Path, matching: Matching) -> Result<Differences, WeightsError> {
        let known = architecture(self.network().name()).ok();
        let today = |key: String| known.and_then(|known| known.renamed(&key)).unwrap_or(key);
        let entries = found.into_entries().into_iter();
        let has_auxiliary = !self.network().auxiliary().is_empty();
        let leaves_out = |key: &str| !has_auxiliary && known.is_some_and(|known| known.leaves_out(key));
        let entries = entries.filter(|(key, _)| !leaves_out(key));
        let mut found: Vec<_> = entries.map(|(key, tensor)| (today(key), tensor)).collect();
        let adapted = if matching == Matching::Strict { Vec::new() } else { self.adapt(&mut found) };
        let (copies, differences) = self.compare(found);
        // An auxiliary head is a head with all of its layers.
        let (heads, is_of_output) = (self.network().heads(), self.network().is_of_output());
        let is_head = |key: &str| {
            let found = self.parameters().iter().find(|parameter| parameter.name == key);
            found.is_some_and(|parameter| heads.contains(&parameter.node) || !is_of_output[parameter.node.index()])
        };
        let is_of_head = |difference: &Difference| difference.network.is_some() && is_head(&difference.key);
        let is_allowed = |difference: &Difference| match matching {
            Matching::Strict => false,
            Matching::Head => is_of_head(difference),
            Matching::Partial => true,
        };
        if copies.is_empty() || !differences.iter().all(is_allowed) {
            return Err(WeightsError::Misfit {
                path: path.to_owned(),
                network: self.network().name().to_owned(),
                is_head_alone: !copies.is_empty() && differences.iter().all(is_of_head),
                differences: Differences { differences, adapted },
            });
        }
        tch::no_grad(|| {
            for (mut tensor, source) in copies {
                tensor.copy_(&to_torch(&source));
            }
        });
        if matching != Matching::Strict {
            self.calm(&differences);
        }
        Ok(Differences { differences, adapted })
    }

    /// Makes the weights of new heads no larger than PyTorch draws those of a linear layer, ±1/√inputs. EfficientNets draw theirs by how many
    /// classes there are: of a thousand that is little, of two it would be twenty times the features' noise, which no short training forgets.
    fn calm(&self, new: &[Difference]) {
        let heads = self.network().heads();
        let of_heads =
            self.parameters().iter().zip(self.tensors()).filter(|(parameter, _)| heads.contains(&parameter.node));
        for (parameter, tensor) in of_heads.filter(|(parameter, _)| new.iter().any(|row| row.key == parameter.name)) {
            let inputs: usize = parameter.shape.iter().skip(1).product();
            let largest = 1.0 / (inputs as f64).sqrt();
            match parameter.initial {
                Distribution::Uniform { bound } if parameter.shape.len() > 1 && bound > largest => {
                    let _ = tch::no_grad(|| tensor.shallow_clone().g_mul_scalar_(largest / bound));
                }
                _ => {}
            }
        }
    }

    /// Makes weights that see images of other channels see these: their sum for one channel, else one after the other, again and
    /// again, scaled so that what comes out is as large (as timm does it); and learned positions of images of another size be those of
    /// this one. Says so.
    fn adapt(&self, found: &mut [(String, weights::Tensor)]) -> Vec<String> {
        let (inputs, channels) = (self.network().input_weights(), self.network().channels());
        let mut adapted = Vec::new();
        if let Some(positions) = self.network().positions() {
            let own = found.iter_mut().find(|(key, _)| key == positions.name);
            adapted.extend(own.and_then(|(_, tensor)| interpolate(positions, tensor)));
        }
        for (key, tensor) in found.iter_mut().filter(|(key, _)| inputs.contains(key)) {
            let &[_, of, _, _] = tensor.shape() else { continue };
            if of == 0 || of == channels || !tensor.dtype().is_float() {
                continue;
            }
            let weight = to_torch(tensor);
            let weight = match channels {
                1 => weight.to_kind(Kind::Float).sum_dim_intlist(1, true, Kind::Float),
                _ => {
                    let repeated = weight.to_kind(Kind::Float).repeat([1, channels.div_ceil(of) as i64, 1, 1]);
                    repeated.narrow(1, 0, channels as i64) * (of as f64 / channels as f64)
                }
            };
            *tensor = from_torch(&weight);
            adapted.push(format!("{key} is of images of {of} channels, and is adapted to {channels}"));
        }
        adapted
    }

    /// The tensors of `found` that fit, each with its place, and what does not.
    fn compare(&self, found: Vec<(String, weights::Tensor)>) -> (Vec<(Tensor, weights::Tensor)>, Vec<Difference>) {
        let unexpected: Vec<_> = found.iter().map(|(key, _)| key.clone()).collect();
        let mut found: HashMap<_, _> = found.into_iter().collect();
        let (mut copies, mut differences) = (Vec::new(), Vec::new());
        for (Parameter { name, shape, role, .. }, (_, tensor)) in self.parameters().iter().zip(self.state()) {
            match found.remove(name) {
                None if role.is_dispensable() => {}
                Some(source) if source.shape() == shape => copies.push((tensor, source)),
                source => differences.push(Difference {
                    key: name.clone(),
                    file: source.map(|source| source.shape().to_vec()),
                    network: Some(shape.clone()),
                    nearest: None,
                }),
            }
        }
        let unexpected = unexpected.into_iter().filter_map(|key| Some((found.remove(&key)?.shape().to_vec(), key)));
        let left = name_nearest(&mut differences, unexpected.collect());
        let of_file = |(shape, key)| Difference { key, file: Some(shape), network: None, nearest: None };
        differences.extend(left.into_iter().map(of_file));
        (copies, differences)
    }

    /// All parameters and buffers as a file has them, in the order of the original's state dict.
    pub fn export(&self) -> Vec<(String, weights::Tensor)> {
        self.state().into_iter().map(|(name, tensor)| (name, from_torch(&tensor))).collect()
    }

    /// Writes all parameters and buffers as a safetensors file, which says nothing of itself.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        Ok(weights::write_safetensors(path, &self.export(), &BTreeMap::new())?)
    }
}

const KINDS: [(Dtype, Kind); 10] = [
    (Dtype::Bool, Kind::Bool),
    (Dtype::U8, Kind::Uint8),
    (Dtype::I8, Kind::Int8),
    (Dtype::I16, Kind::Int16),
    (Dtype::I32, Kind::Int),
    (Dtype::I64, Kind::Int64),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
];

/// The same values as a tensor of libtorch, on the CPU.
///
/// # Panics
/// If libtorch cannot have so much memory.
pub fn to_torch(tensor: &weights::Tensor) -> Tensor {
    let kind = KINDS.iter().find(|(dtype, _)| *dtype == tensor.dtype()).expect("every type has its kind").1;
    let shape: Vec<_> = tensor.shape().iter().map(|&side| side as i64).collect();
    Tensor::from_data_size(tensor.bytes(), &shape, kind)
}

/// The same values as a file of weights has them: a copy.
///
/// # Panics
/// If the tensor's type is none that files of weights have (complex numbers, say).
pub fn from_torch(tensor: &Tensor) -> weights::Tensor {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let dtype = KINDS.iter().find(|(_, kind)| *kind == tensor.kind()).expect("a network's kinds are all known").0;
    let shape: Vec<_> = tensor.size().iter().map(|&side| side as usize).collect();
    let mut bytes = vec![0; tensor.numel() * dtype.size()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    weights::Tensor::from_bytes(dtype, &shape, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Naming, fitting, rooted};
    use std::collections::BTreeMap;

    fn backbone(name: &str, classes: usize) -> Backbone {
        Backbone::new(architecture(name).unwrap().network(classes), Device::Cpu)
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let original = backbone("cifar_resnet20", 10);
        let (safetensors, pth) = (folder.path().join("w.safetensors"), folder.path().join("w.pth"));
        original.save(&safetensors).unwrap();
        weights::write_pth(&pth, &original.export(), 1).unwrap();
        for path in [&safetensors, &pth] {
            let copy = backbone("cifar_resnet20", 10);
            assert!(copy.load(path, Matching::Strict).unwrap().is_empty());
            for ((name, left), (_, right)) in original.state().iter().zip(copy.state()) {
                assert!(left.equal(&right), "{name}");
            }
            assert!(copy.trained().iter().all(|(_, tensor)| tensor.requires_grad() && tensor.kind() == Kind::Float));
        }
    }

    #[test]
    fn another_head_is_refused_or_left_as_it_was_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let original = backbone("cifar_resnet20", 10);
        original.save(&path).unwrap();
        let other = backbone("cifar_resnet20", 7);
        let before: Vec<_> = other.state().iter().map(|(_, tensor)| tensor.copy()).collect();
        let error = other.load(&path, Matching::Strict).unwrap_err().to_string();
        let table = "  key            in the file  in the network\n  linear.weight  10×64        7×64\n  linear.bias    10           7";
        assert!(error.ends_with(&format!("does not fit cifar_resnet20:\n{table}")), "{error}");
        assert!(before.iter().zip(other.state()).all(|(left, (_, right))| left.equal(&right)));
        assert_eq!(other.load(&path, Matching::Head).unwrap().len(), 2);
        let state = other.state();
        let [head, first] =
            ["linear.weight", "conv1.weight"].map(|name| state.iter().position(|(key, _)| key == name).unwrap());
        assert!(state[head].1.equal(&before[head]));
        assert!(state[first].1.equal(&original.state()[first].1));
    }

    #[test]
    fn what_does_not_fit_is_shown_with_the_names_of_both() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let known = backbone("resnet18", 3);
        let renamed =
            known.export().into_iter().map(|(name, tensor)| (name.replace(".downsample.", ".shortcut."), tensor));
        let queue =
            ["x", "y"].map(|name| (name.to_owned(), from_torch(&Tensor::zeros([2, 2], (Kind::Float, Device::Cpu)))));
        weights::write_safetensors(&path, &renamed.chain(queue).collect::<Vec<_>>(), &BTreeMap::new()).unwrap();
        let error = known.load(&path, Matching::Strict).unwrap_err().to_string();
        let lines: Vec<_> = error.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "key in the file in the network called most like it in the file");
        assert_eq!(lines[2], "layer2.0.downsample.0.weight missing 128×64×1×1 layer2.0.shortcut.0.weight");
        assert_eq!(lines[5], "layer2.0.downsample.1.running_mean missing 128 layer2.0.shortcut.1.running_mean");
        assert_eq!(lines[12..], ["x 2×2 missing", "y 2×2 missing", "… and 8 more"]);
    }

    #[test]
    fn another_network_fits_only_in_part_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        backbone("cifar_resnet20", 10).save(&path).unwrap();
        let deeper = backbone("cifar_resnet32", 10);
        assert!(deeper.load(&path, Matching::Head).is_err());
        assert_eq!(deeper.load(&path, Matching::Partial).unwrap().len(), 60);
        assert!(backbone("lenet", 10).load(&path, Matching::Partial).is_err(), "nothing in common");
        std::fs::write(&path, b"no weights").unwrap();
        assert!(matches!(deeper.load(&path, Matching::Partial), Err(WeightsError::File(_))));
    }

    #[test]
    fn names_of_old_are_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let original = backbone("densenet121", 10);
        let old = original.export().into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked"));
        let old: Vec<_> = old
            .map(|(name, tensor)| {
                let name = if name.contains("denselayer") {
                    name.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1")
                } else {
                    name
                };
                (name, tensor)
            })
            .collect();
        weights::write_safetensors(&path, &old, &BTreeMap::new()).unwrap();
        assert!(backbone("densenet121", 10).load(&path, Matching::Strict).unwrap().is_empty());
    }

    #[test]
    fn a_new_head_is_no_larger_than_a_linear_layers() {
        let file = tempfile::NamedTempFile::with_suffix(".safetensors").unwrap();
        backbone("efficientnet_lite0", 1000).save(file.path()).unwrap();
        let size = |of: &Backbone| {
            let head = of.state().into_iter().find(|(name, _)| name == "classifier.1.weight").unwrap().1;
            head.abs().max().double_value(&[])
        };
        let two = backbone("efficientnet_lite0", 2);
        assert!(size(&two) > 0.6, "as its authors draw it: {}", size(&two));
        two.load(file.path(), Matching::Head).unwrap();
        assert!((0.02..1.0 / 1280.0_f64.sqrt()).contains(&size(&two)), "{}", size(&two));
        let thousand = backbone("efficientnet_lite0", 1000);
        thousand.load(file.path(), Matching::Head).unwrap();
        assert!(size(&thousand) > 1.01 / 1280.0_f64.sqrt(), "what was loaded stays: {}", size(&thousand));
    }

    #[test]
    fn a_head_of_an_old_name_counts_its_classes_behind_a_prefix_too() {
        let known = architecture("efficientnet_lite0").unwrap();
        let original = backbone("efficientnet_lite0", 7);
        let layers = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"];
        let blocks = (0..16).flat_map(|block| layers.map(|layer| format!("_blocks.{block}.{layer}")));
        let old = blocks.chain(["_conv_stem", "_bn0", "_conv_head", "_bn1", "_fc"].map(str::to_owned));
        let old: HashMap<_, _> = old.filter_map(|old| Some((known.renamed(&format!("{old}."))?, old))).collect();
        for prefix in ["", "net.backbone."] {
            let entries = original.export().into_iter().map(|(name, tensor)| {
                let (layer, rest) = name.rsplit_once('.').unwrap();
                (format!("{prefix}{}.{rest}", old[&format!("{layer}.")]), tensor)
            });
            let file = tempfile::NamedTempFile::with_suffix(".pth").unwrap();
            weights::write_pth(file.path(), &entries.collect::<Vec<_>>(), 1).unwrap();
            let found = weights::read(file.path()).unwrap();
            assert_eq!(fitting(&found).iter().map(|known| known.name).collect::<Vec<_>>(), ["efficientnet_lite0"]);
            let (found, naming) = rooted(&known, found).unwrap();
            assert_eq!(naming.prefix.as_deref().unwrap_or(""), prefix);
            let loaded = Backbone::of_state_dict(&known, found, file.path(), Device::Cpu).unwrap();
            assert_eq!(loaded.network().classes(), 7);
            assert!(loaded.state().iter().zip(original.state()).all(|((_, own), (_, first))| *own == first));
        }
    }

    #[test]
    fn weights_of_three_channels_see_others_as_timm_has_it() {
        let file = tempfile::NamedTempFile::with_suffix(".safetensors").unwrap();
        let three = backbone("cifar_resnet20", 4);
        three.save(file.path()).unwrap();
        let known = architecture("cifar_resnet20").unwrap();
        let weight = |of: &Backbone| of.state()[0].1.detach().copy();
        for channels in [1usize, 2, 5, 12] {
            let other = Backbone::new(known.network(4).with_channels(channels), Device::Cpu);
            assert!(other.load(file.path(), Matching::Strict).is_err());
            let differences = other.load(file.path(), Matching::Head).unwrap();
            let said = format!("conv1.weight is of images of 3 channels, and is adapted to {channels}");
            assert_eq!(differences.adapted(), [said]);
            assert!(differences.is_empty());
            let (own, all) = (weight(&three), weight(&other));
            let expected: Vec<Tensor> = (0..channels as i64).map(|channel| own.select(1, channel % 3)).collect();
            let expected = match channels {
                1 => own.sum_dim_intlist(1, true, Kind::Float),
                _ => Tensor::stack(&expected, 1) * (3.0 / channels as f64),
            };
            assert!((all - expected).abs().max().double_value(&[]) < 1e-6);
            other.save(file.path()).unwrap();
            let again = Backbone::of_weights(&known, file.path(), Device::Cpu).unwrap();
            assert_eq!((again.network().channels(), again.network().classes()), (channels, 4));
            three.save(file.path()).unwrap();
        }
    }

    #[test]
    fn what_stands_before_all_names_is_taken_away() {
        let lenet = architecture("lenet").unwrap();
        let own = backbone("lenet", 3);
        let state = |prefix: &'static str| {
            own.state().into_iter().map(move |(name, tensor)| (format!("{prefix}{name}"), from_torch(&tensor)))
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |entries: Vec<(String, weights::Tensor)>| {
            weights::write_pth(file.path(), &entries, 1).unwrap();
            rooted(&lenet, weights::read(file.path()).unwrap())
        };
        let other = || [("queue".to_owned(), from_torch(&Tensor::zeros([2, 2], (Kind::Float, Device::Cpu))))];
        let (found, Naming { prefix, .. }) = read(state("student.backbone.").chain(other()).collect()).unwrap();
        assert_eq!((prefix.as_deref(), found.entries().len()), (Some("student.backbone."), own.state().len()));
        assert_eq!(
            fitting(&weights::read(file.path()).unwrap()).iter().map(|known| known.name).collect::<Vec<_>>(),
            ["lenet"]
        );
        let copy = backbone("lenet", 3);
        copy.load_found(found, file.path(), Matching::Strict).unwrap();
        assert!(copy.state().iter().zip(own.state()).all(|(one, other)| one.1.equal(&other.1)));
        // Another head.
        let body = state("encoder.").filter(|(name, _)| !own.head().iter().any(|head| name.ends_with(head.as_str())));
        let (_, Naming { prefix, .. }) = read(body.chain(other()).collect()).unwrap();
        assert_eq!(prefix.as_deref(), Some("encoder."));
        let error = read(state("encoder_q.").chain(state("encoder_k.")).collect()).unwrap_err();
        assert_eq!(
            error,
            "2 networks of the kind lie in it, under encoder_q., encoder_k.; --weights-prefix names one of them"
        );
        // Nothing is taken away from what fits, or from what is of another network.
        assert_eq!(read(state("").chain(other()).collect()).unwrap().1, Naming::default());
        assert_eq!(read(other().into()).unwrap().1, Naming::default());
    }

    /// With another head, below a prefix, and without what timm computes.
    /// torch 2.11: `timm.layers.resample_abs_pos_embed(positions, [3, 3], num_prefix_tokens=1)` of a class token's and 2×2 positions.
    #[test]
    fn positions_of_another_size_are_interpolated_as_in_timm() {
        let name = "vit_tiny_patch16_224";
        let network = |side| architecture(name).unwrap().network(3).with_image_side(side);
        let (small, large) = (Backbone::new(network(32), Device::Cpu), Backbone::new(network(48), Device::Cpu));
        let mut state = small.state();
        let positions = state.iter_mut().find(|(key, _)| key == "encoder.pos_embedding").unwrap();
        let values = Tensor::arange(5, (Kind::Float, Device::Cpu)).view([1, 5, 1]).repeat([1, 1, 192]);
        positions.1 = values;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("small.safetensors");
        let entries: Vec<_> = state.iter().map(|(key, tensor)| (key.clone(), from_torch(tensor))).collect();
        weights::write_safetensors(&path, &entries, &BTreeMap::new()).unwrap();
        assert!(large.load(&path, Matching::Strict).is_err());
        let differences = large.load(&path, Matching::Head).unwrap();
        assert_eq!(differences.adapted(), ["encoder.pos_embedding is of 2×2 patches, and is interpolated to 3×3"]);
        let got = large.state().into_iter().find(|(key, _)| key == "encoder.pos_embedding").unwrap().1;
        let got = Vec::<f32>::try_from(got.detach().select(2, 7).flatten(0, -1)).unwrap();
        let expected = [
            0.0,
            0.802_632_1,
            1.368_421_4,
            1.934_211_1,
            1.934_210_8,
            2.5,
            3.065_789_7,
            3.065_79,
            3.631_579_2,
            4.197_369,
        ];
        assert!(got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-5), "{got:?}");
        // By itself it is what it is.
        let again =
            Backbone::of_state_dict(&architecture(name).unwrap(), weights::read(&path).unwrap(), &path, Device::Cpu)
                .unwrap();
        assert_eq!(again.network().positions().unwrap().count, 5);
    }

    #[test]
    fn timms_names_are_understood() {
        for name in ["mobilenet_v2", "swin_t", "convnextv2_atto"] {
            let known = architecture(name).unwrap();
            let own = backbone(name, 3);
            let timm = |prefix: &'static str| {
                let named = move |(name, tensor): (String, weights::Tensor)| {
                    let weight = known.timm_weight(&name, tensor.shape())?;
                    Some((format!("{prefix}{}", weight.name), tensor.reshaped(weight.shape)))
                };
                own.export().into_iter().filter_map(named).collect::<Vec<_>>()
            };
            let file = tempfile::NamedTempFile::new().unwrap();
            for prefix in ["", "model."] {
                weights::write_pth(file.path(), &timm(prefix), 1).unwrap();
                let (found, naming) = rooted(&known, weights::read(file.path()).unwrap()).unwrap();
                let expected = Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty());
                assert_eq!(naming, Naming { prefix: expected, is_timm: true });
                let again = Backbone::of_state_dict(&known, found, file.path(), Device::Cpu).unwrap();
                assert!(again.state().iter().zip(own.state()).all(|(one, other)| one.1.equal(&other.1)), "{name}");
            }
            let other = backbone(name, 5);
            let (found, _) = rooted(&known, weights::read(file.path()).unwrap()).unwrap();
            assert_eq!(
                other.load_found(found, file.path(), Matching::Head).unwrap().len(),
                2,
                "weight and bias of the head"
            );
        }
        let fitting = |name: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            let known = architecture(name).unwrap();
            let named = |(name, tensor): (String, weights::Tensor)| {
                let weight = known.timm_weight(&name, tensor.shape())?;
                Some((weight.name, tensor.reshaped(weight.shape)))
            };
            let entries: Vec<_> = backbone(name, 3).export().into_iter().filter_map(named).collect();
            weights::write_safetensors(file.path(), &entries, &BTreeMap::new()).unwrap();
            fitting(&weights::read(file.path()).unwrap()).iter().map(|known| known.name).collect::<Vec<_>>()
        };
        assert_eq!(fitting("mobilenet_v2"), ["mobilenet_v2"]);
    }
}
