//! A branch that is scaled, and added to what it branched off from.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::Tensor;

use crate::Result;
use crate::ffi::{self, handles, new_tensor};

/// `sum + x · factor`, in one pass over memory; shapes are broadcast. Under autocast, too, each is read as it is, and the value has the
/// largest of their types. Its gradient cannot be differentiated again.
///
/// # Errors
/// What libtorch threw: shapes that do not fit.
pub fn scaled_sum(sum: &Tensor, x: &Tensor, factor: &Tensor) -> Result<Tensor> {
    let handles = handles([sum, x, factor]);
    // SAFETY: the handles are of tensors that live during the call.
    new_tensor("a scaled sum", |out| unsafe { ffi::te_scaled_sum(handles.list(), out) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Autocast, Precision};
    use tch::{Device, Kind};

    #[test]
    fn what_is_drawn_has_no_gradient_and_frozen_branches_have_none() {
        let numbers = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
        for (place, frozen) in [[2].as_slice(), &[1], &[0, 2], &[0, 1]].into_iter().enumerate() {
            let leaves = [[2, 3], [2, 3], [2, 1]].map(|shape| numbers(&shape).set_requires_grad(true));
            frozen.iter().for_each(|&leaf: &usize| drop(leaves[leaf].set_requires_grad(false)));
            (scaled_sum(&leaves[0], &leaves[1], &leaves[2]).unwrap() * 2.0).sum(Kind::Float).backward();
            for (leaf, expected) in [(0, 2.0), (1, 2.0), (2, 6.0)] {
                assert_eq!(leaves[leaf].grad().defined(), !frozen.contains(&leaf), "{place}");
                assert!(frozen.contains(&leaf) || leaves[leaf].grad().eq(expected).all().int64_value(&[]) == 1);
            }
        }
    }

    #[test]
    fn its_value_and_gradients_are_those_of_a_product_and_a_sum() {
        let numbers = |shape: &[i64], kind: Kind| {
            let count = shape.iter().product::<i64>();
            Tensor::arange(count, (Kind::Float, Device::Cpu)).sin().view(shape).to_kind(kind).set_requires_grad(true)
        };
        let image = [4, 6, 5, 5];
        let cases: [[&[i64]; 3]; 5] = [
            [&image, &image, &[4, 6, 1, 1]],
            [&image, &image, &[4, 1, 1, 1]],
            [&[4, 5, 6], &[4, 5, 6], &[1, 1, 6]],
            [&[1, 6, 5, 5], &image, &[6, 1, 1]],
            [&image, &[4, 6, 1, 1], &image],
        ];
        // A stream in single precision and a branch in bf16, as under autocast; as they lie in memory, and moved about.
        let kinds = [(Kind::Float, false), (Kind::BFloat16, false), (Kind::BFloat16, true)];
        for ([sum, x, factor], (kind, is_moved)) in cases.iter().flat_map(|shapes| kinds.map(|kind| (shapes, kind))) {
            let leaves = || [numbers(sum, Kind::Float), numbers(x, kind), numbers(factor, Kind::Float)];
            let (one, other) = (leaves(), leaves());
            let moved =
                |x: &Tensor| if is_moved { x.transpose(0, 1).contiguous().transpose(0, 1) } else { x.shallow_clone() };
            let _autocast = Autocast::enter(Device::Cpu, Precision::BFloat16).unwrap();
            let value = scaled_sum(&one[0], &moved(&one[1]), &one[2]).unwrap();
            let expected = moved(&other[1]) * &other[2] + &other[0];
            assert_eq!(value.kind(), Kind::Float);
            assert!(value.allclose(&expected, 1e-6, 1e-6, false), "{kind:?}");
            value.square().sum(Kind::Float).backward();
            expected.square().sum(Kind::Float).backward();
            for (one, other) in one.iter().zip(&other) {
                let (got, expected) = (one.grad(), other.grad());
                assert_eq!(got.kind(), one.kind());
                assert!(got.allclose(&expected, 1e-5, 1e-5, false), "{kind:?}: {:?}", one.size());
            }
        }
    }
}
