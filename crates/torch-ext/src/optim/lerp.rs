//! Moving averages of weights, all tensors in one call.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::Tensor;

use crate::ffi::{self, handles};
use crate::{Error, Result};

/// Moves each of `targets`, in place, by `weight` of the way (0–1) towards its counterpart in `sources`:
/// `target ← target + weight·(source − target)`. As `torch.Tensor.lerp_`.
///
/// # Errors
/// Lists of different lengths; what libtorch threw: other shapes, kinds that are no floating-point numbers.
pub fn lerp(targets: &[Tensor], sources: &[Tensor], weight: f64) -> Result<()> {
    lerp_unless(targets, sources, weight, None)
}

/// As [`lerp`], where `skip`, a number of single precision beside them, is 0; where it is 1 nothing moves, if all are finite.
///
/// # Errors
/// As [`lerp`].
pub fn lerp_unless(targets: &[Tensor], sources: &[Tensor], weight: f64, skip: Option<&Tensor>) -> Result<()> {
    if targets.len() != sources.len() {
        let what = format!("{} tensors cannot move towards {}", targets.len(), sources.len());
        return Err(Error::State { what });
    }
    if targets.is_empty() {
        return Ok(());
    }
    let (targets, sources) = (handles(targets), handles(sources));
    // SAFETY: all handles are of tensors that live during the call.
    unsafe { ffi::te_lerp(targets.list(), sources.list(), weight, ffi::pointer(skip)) }.check("averaging weights")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_move_a_part_of_the_way() {
        let [target, source] = [[1.0f32, 2.0], [3.0, -2.0]].map(|values| Tensor::from_slice(&values));
        let source = source.set_requires_grad(true);
        lerp(std::slice::from_ref(&target), std::slice::from_ref(&source), 0.25).unwrap();
        assert_eq!(Vec::<f32>::try_from(&target).unwrap(), [1.5, 1.0]);
        assert_eq!(Vec::<f32>::try_from(&source.detach()).unwrap(), [3.0, -2.0]);
        assert!(lerp(&[target.shallow_clone()], &[], 0.5).is_err());
        assert!(lerp(&[target], &[Tensor::from_slice(&[1.0f32; 3])], 0.5).is_err());
        lerp(&[], &[], 0.5).unwrap();
    }

    #[test]
    fn nothing_moves_where_it_is_to_be_skipped() {
        for (skip, expected) in [(0.0f32, [1.5, 1.0]), (1.0, [1.0, 2.0])] {
            let [target, source] = [[1.0f32, 2.0], [3.0, -2.0]].map(|values| Tensor::from_slice(&values));
            let lists = (std::slice::from_ref(&target), std::slice::from_ref(&source));
            lerp_unless(lists.0, lists.1, 0.25, Some(&Tensor::from_slice(&[skip]))).unwrap();
            assert_eq!(Vec::<f32>::try_from(&target).unwrap(), expected);
        }
    }
}
