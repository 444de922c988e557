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
    fn its_value_and_gradients_are_those_of_a_product_and_a_sum() {
        let numbers = |shape: &[i64], kind: Kind| {
            let count = shape.iter().product::<i64>();
            Tensor::arange(count, (Kind::Float, Device::Cpu)).sin().view(shape).to_kind(kind).set_requires_grad(true)
        };
        // A stream in single precision and a branch in bf16, as under autocast.
        for kind in [Kind::Float, Kind::BFloat16] {
            let leaves = || {
                [numbers(&[4, 6, 5, 5], Kind::Float), numbers(&[4, 6, 5, 5], kind), numbers(&[4, 6, 1, 1], Kind::Float)]
            };
            let (one, other) = (leaves(), leaves());
            let _autocast = Autocast::enter(Device::Cpu, Precision::BFloat16).unwrap();
            let value = scaled_sum(&one[0], &one[1], &one[2]).unwrap();
            let expected = &other[1] * &other[2] + &other[0];
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
