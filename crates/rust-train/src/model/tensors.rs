//! Named tensors: libtorch's, and as files have them.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use tch::Tensor;

/// Named tensors on their way to or from a file.
pub(crate) type Tensors = Vec<(String, weights::Tensor)>;

/// Copies of tensors as files have them.
pub(crate) fn copies(tensors: &[(String, Tensor)]) -> Tensors {
    tensors.iter().map(|(name, tensor)| (name.clone(), backbones::from_torch(tensor))).collect()
}

/// The tensors of a file, as libtorch's.
pub(crate) fn tensors(copies: &Tensors) -> Vec<(String, Tensor)> {
    copies.iter().map(|(name, tensor)| (name.clone(), backbones::to_torch(tensor))).collect()
}

/// Puts `found` into the tensors of the same names.
///
/// # Errors
/// Another set of names, or another shape; nothing has changed then.
pub(crate) fn restore(state: &[(String, Tensor)], found: &Tensors) -> anyhow::Result<()> {
    let by_name: BTreeMap<_, _> = found.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    ensure!(by_name.len() == state.len(), "{} tensors where there are {}", by_name.len(), state.len());
    let pairs = state.iter().map(|(name, tensor)| {
        let found = by_name.get(name.as_str()).with_context(|| format!("{name} is missing"))?;
        let same = found.shape().iter().map(|&side| side as i64).eq(tensor.size());
        ensure!(same, "{name} is {:?} where {:?} is needed", found.shape(), tensor.size());
        Ok((tensor, *found))
    });
    for (tensor, found) in pairs.collect::<anyhow::Result<Vec<_>>>()? {
        tensor.detach().f_copy_(&backbones::to_torch(found))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn tensors_fit_by_name_and_shape_or_nothing_changes() {
        let zeros = |name: &str, shape: &[i64]| [(name.to_owned(), Tensor::zeros(shape, (Kind::Float, Device::Cpu)))];
        let found = copies(&[("weight".to_owned(), Tensor::full([2, 3], 7.0, (Kind::Float, Device::Cpu)))]);
        let model = zeros("weight", &[2, 3]);
        restore(&model, &found).unwrap();
        assert_eq!(model[0].1.double_value(&[1, 2]), 7.0);
        for (name, shape, words) in [("weight", [3, 2], "weight is [2, 3]"), ("bias", [2, 3], "bias is missing")] {
            assert!(restore(&zeros(name, &shape), &found).unwrap_err().to_string().contains(words));
        }
    }
}
