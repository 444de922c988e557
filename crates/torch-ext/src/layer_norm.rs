//! LayerNorm, in one with the sum before it.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ptr;

use tch::{Kind, Tensor};

use crate::ffi::{self, handles, new_tensor, pointer};
use crate::{Result, kernels};

/// A layer of normalization over the last axis, of C values: `y = (x − E[x]) / √(Var[x] + ε) · weight + bias`, row by row. As
/// `torch.nn.LayerNorm`.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// C factors.
    pub weight: &'a Tensor,
    /// C summands.
    pub bias: &'a Tensor,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Who takes what a LayerNorm gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takers {
    /// One matrix product or convolution: under autocast it would round it to its type.
    OneProduct,
    /// Others, too.
    Any,
}

impl LayerNorm<'_> {
    /// The value for `input`, N×…×C.
    ///
    /// It is libtorch's. On a GPU, where our kernels are [used](kernels::are_used), under autocast and for
    /// [`Takers::OneProduct`], it comes rounded to autocast's type already; such a gradient cannot be differentiated again.
    ///
    /// # Panics
    /// If the shapes do not fit, as tch's operations do.
    pub fn forward(&self, input: &Tensor, takers: Takers) -> Tensor {
        if kernels::of_a_gpu_are_used(input.device()) && self.takes(input, None) {
            let [norm, _] = self.forward_in_kernels(input, None, takers).unwrap_or_else(|error| panic!("{error}"));
            return norm;
        }
        let channels = self.weight.size1().unwrap_or_else(|error| panic!("{error}"));
        input.layer_norm([channels], Some(self.weight), Some(self.bias), self.epsilon, true)
    }

    /// The sum of two values of one shape, and the value for that sum, in this order; nothing where the sum has to be made first,
    /// as everywhere but on a GPU where our kernels are used.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_of_sum(&self, input: &Tensor, added: &Tensor, takers: Takers) -> Option<[Tensor; 2]> {
        if !kernels::of_a_gpu_are_used(input.device()) || !self.takes(input, Some(added)) {
            return None;
        }
        let [norm, sum] = self.forward_in_kernels(input, Some(added), takers).unwrap_or_else(|error| panic!("{error}"));
        Some([sum, norm])
    }

    fn takes(&self, input: &Tensor, added: Option<&Tensor>) -> bool {
        // SAFETY: the tensors live during the call, and what is added may be null.
        let takes = || unsafe { ffi::te_gpu_layer_norm_takes(input.as_ptr(), pointer(added)) };
        [self.weight, self.bias].iter().all(|tensor| tensor.kind() == Kind::Float && tensor.is_contiguous())
            && input.defined()
            && takes()
    }

    /// By a GPU's kernels, wherever the tensors are: the norm, and the sum, undefined where nothing is added.
    pub(crate) fn forward_in_kernels(
        &self,
        input: &Tensor,
        added: Option<&Tensor>,
        takers: Takers,
    ) -> Result<[Tensor; 2]> {
        let (handles, is_for_products) = (handles([input, self.weight, self.bias]), takers == Takers::OneProduct);
        let mut sum = ptr::null_mut();
        let norm = new_tensor("LayerNorm", |out| {
            let (list, added) = (handles.list(), pointer(added));
            // SAFETY: the handles are of tensors that live during the call, what is added may be null, and there is room for
            // both results.
            unsafe { ffi::te_gpu_layer_norm(list, added, self.epsilon, is_for_products, out, &mut sum) }
        })?;
        // SAFETY: where something is added, the shim has written a tensor of its own, which is ours from here on.
        let sum = if added.is_some() { unsafe { Tensor::from_ptr(sum) } } else { Tensor::new() };
        Ok([norm, sum])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::{self, NormCase, numbers};
    use crate::{Autocast, Precision};
    use tch::Device;

    fn layer<'a>(weight: &'a Tensor, bias: &'a Tensor) -> LayerNorm<'a> {
        LayerNorm { weight, bias, epsilon: 1e-6 }
    }

    #[test]
    fn kernels_compute_what_two_operations_in_double_precision_do() {
        // Rows of one group of threads and of several, rows that end within a group, and parts that end within a block.
        for shape in [&[5, 7][..], &[3, 96], &[2, 33, 192], &[2, 5, 3, 40], &[9, 768], &[70, 8], &[1, 1]] {
            for precision in [Precision::Single, Precision::BFloat16, Precision::Half] {
                NormCase::all(shape).try_for_each(|case| case.check(Device::Cpu, precision)).unwrap();
            }
        }
    }

    #[test]
    fn types_are_those_of_autocast_or_narrower() {
        let ones = Tensor::ones([8], (Kind::Float, Device::Cpu));
        let stream = numbers(&[3, 8], 0.1, Device::Cpu).to_kind(Kind::Float);
        let branch = stream.to_kind(Kind::BFloat16);
        let kinds = |input: &Tensor, added: Option<&Tensor>, takers: Takers| {
            let [norm, sum] = layer(&ones, &ones).forward_in_kernels(input, added, takers).unwrap();
            (norm.kind(), sum.defined().then(|| sum.kind()))
        };
        assert_eq!(kinds(&branch, Some(&branch), Takers::OneProduct), (Kind::BFloat16, Some(Kind::BFloat16)));
        assert_eq!(kinds(&branch, Some(&stream), Takers::OneProduct), (Kind::Float, Some(Kind::Float)));
        let _autocast = Autocast::enter(Device::Cpu, Precision::BFloat16).unwrap();
        assert_eq!(kinds(&branch, Some(&stream), Takers::OneProduct), (Kind::BFloat16, Some(Kind::Float)));
        assert_eq!(kinds(&branch, Some(&branch), Takers::Any), (Kind::Float, Some(Kind::BFloat16)));
        assert_eq!(kinds(&stream, None, Takers::OneProduct), (Kind::BFloat16, None));
    }

    #[test]
    fn what_is_known_of_large_means_is_not_lost() {
        let ones = Tensor::ones([768], (Kind::Float, Device::Cpu));
        let zeros = ones.zeros_like();
        let small = numbers(&[4, 768], 0.1, Device::Cpu);
        let input = (&small + 1000.0).to_kind(Kind::Float);
        let [norm, _] = layer(&ones, &zeros).forward_in_kernels(&input, None, Takers::Any).unwrap();
        let expected = input.to_kind(Kind::Double).layer_norm([768], None::<&Tensor>, None::<&Tensor>, 1e-6, false);
        let difference = (norm.to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
        assert!(difference < 2e-4, "{difference}");
    }

    #[test]
    fn values_at_odd_addresses_are_taken_and_others_are_left_to_libtorch() {
        let (ones, whole) = (Tensor::ones([16], (Kind::Float, Device::Cpu)), numbers(&[5, 16], 0.1, Device::Cpu));
        let whole = whole.to_kind(Kind::Float);
        let mut odd = Tensor::empty([81], (Kind::Float, Device::Cpu)).narrow(0, 1, 80).view([5, 16]);
        odd.copy_(&whole);
        let pass = |x: &Tensor| layer(&ones, &ones).forward_in_kernels(x, None, Takers::Any).map(|[norm, _]| norm);
        assert!(pass(&odd).unwrap().allclose(&pass(&whole).unwrap(), 1e-6, 1e-6, false));
        let takes = |input: &Tensor, added: Option<&Tensor>| layer(&ones, &ones).takes(input, added);
        assert!(!takes(&whole.transpose(0, 1), None) && !takes(&whole.to_kind(Kind::Double), None));
        assert!(!takes(&whole, Some(&whole.narrow(0, 0, 4))) && !takes(&whole.narrow(0, 0, 0), None));
        let (half, brain) = (whole.to_kind(Kind::Half), whole.to_kind(Kind::BFloat16));
        assert!(takes(&half, Some(&whole)) && !takes(&half, Some(&brain)));
        let narrow = ones.to_kind(Kind::BFloat16);
        assert!(takes(&brain, None) && !layer(&narrow, &narrow).takes(&brain, None));
        let refused = pass(&whole.transpose(0, 1)).unwrap_err();
        assert!(refused.to_string().contains("rows of channels"), "{refused}");
    }

    #[test]
    fn outside_of_a_gpu_it_is_libtorchs() {
        let (ones, input) = (Tensor::ones([8], (Kind::Float, Device::Cpu)), numbers(&[3, 8], 0.1, Device::Cpu));
        let input = input.to_kind(Kind::Float);
        let layer = layer(&ones, &ones);
        assert!(layer.forward_of_sum(&input, &input, Takers::Any).is_none());
        let expected = input.layer_norm([8], Some(&ones), Some(&ones), 1e-6, true);
        assert!(layer.forward(&input, Takers::OneProduct).equal(&expected));
        kernels::with_those_of_a_gpu(|| assert!(layer.forward_of_sum(&input, &input, Takers::Any).is_some()));
    }

    #[test]
    fn a_run_finds_the_kernels_right() {
        for precision in [Precision::Single, Precision::BFloat16, Precision::Half] {
            for shape in [&[6, 3, 48][..], &[130, 768]] {
                check::layer_norm(shape, Device::Cpu, precision).unwrap();
            }
        }
    }
}
