//! Convolutions whose weights' gradients are faster than libtorch's.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::Tensor;

use crate::Result;
use crate::ffi::{self, handles, new_tensor};

/// A convolution in two dimensions: `weight` is O×I/groups×k×k, `bias` has O numbers. As `torch.nn.Conv2d`.
#[derive(Clone, Copy, Debug)]
pub struct Convolution<'a> {
    /// O×I/groups×k×k factors.
    pub weight: &'a Tensor,
    /// O summands, if it has any.
    pub bias: Option<&'a Tensor>,
    /// How many pixels lie between the centres of two outputs, in both directions.
    pub stride: i64,
    /// Zeros around the image.
    pub padding: i64,
    /// Groups of channels that know nothing of each other.
    pub groups: i64,
}

impl Convolution<'_> {
    /// The value for `input`, N×I×H×W.
    ///
    /// It is libtorch's. In training on the CPU, in single precision with channels last, the gradient of the weights of a
    /// 3×3 convolution is computed by a kernel of ours where that is faster: with AVX2 and without AVX-512. Such a gradient
    /// cannot be differentiated again. The number of threads changes no bit of it.
    ///
    /// # Panics
    /// If the shapes do not fit, as tch's operations do.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        let Self { weight, bias, stride, padding, groups } = *self;
        // SAFETY: the tensors live during the call.
        let pays = || unsafe { ffi::te_convolution_pays(input.as_ptr(), weight.as_ptr(), stride, padding) };
        if bias.is_none() && groups == 1 && pays() {
            return self.forward_with_kernel(input).unwrap_or_else(|error| panic!("{error}"));
        }
        input.conv2d(weight, bias, [stride, stride], [padding, padding], [1, 1], groups)
    }

    /// With our gradient of the weights, wherever it can be computed. Knows no bias and no groups.
    fn forward_with_kernel(&self, input: &Tensor) -> Result<Tensor> {
        let handles = handles([input, self.weight]);
        new_tensor("convolution", |out| {
            // SAFETY: the handles are of tensors that live during the call.
            unsafe { ffi::te_convolution(handles.list(), self.stride, self.padding, out) }
        })
    }
}

// Elsewhere the kernels are not used.
#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::kernels::check;
    use crate::{Autocast, Precision, to_channels_last};
    use tch::{Device, Kind};

    fn numbers(shape: &[i64], seed: f64) -> Tensor {
        check::numbers(shape, seed, Device::Cpu)
    }

    /// Images and weights.
    fn leaves(images: [i64; 4], out_channels: i64, kind: Kind) -> [Tensor; 2] {
        let weight = [out_channels, images[1], 3, 3];
        [numbers(&images, 0.1), numbers(&weight, 0.3)]
            .map(|tensor| to_channels_last(&tensor.to_kind(kind)).unwrap().set_requires_grad(true))
    }

    fn layer(weight: &Tensor, stride: i64, padding: i64) -> Convolution<'_> {
        Convolution { weight, bias: None, stride, padding, groups: 1 }
    }

    /// The output, and the gradients of images and weights.
    fn pass(leaves: &[Tensor; 2], compute: impl Fn(&Tensor, &Tensor) -> Tensor) -> [Tensor; 3] {
        let output = compute(&leaves[0], &leaves[1]);
        (&output * numbers(&output.size(), 0.5).to_kind(output.kind())).sum(output.kind()).backward();
        [output.detach(), leaves[0].grad(), leaves[1].grad()].map(|tensor| tensor.to_kind(Kind::Double))
    }

    #[test]
    fn gradients_are_those_in_double_precision() {
        // Channels of one tile, of several, of more than a block; images of one pixel, of more rows than a scratch holds.
        for (images, out_channels) in [
            ([1, 8, 1, 1], 4),
            ([2, 8, 5, 7], 12),
            ([3, 16, 32, 32], 16),
            ([9, 72, 8, 9], 68),
            ([1, 136, 6, 5], 132),
            ([2, 8, 3, 900], 4),
        ] {
            for stride in [1, 2, 3] {
                for padding in [0, 1, 2] {
                    let [_, _, height, width] = images;
                    if height.min(width) + 2 * padding < 3 {
                        continue;
                    }
                    let case = format!("{images:?} to {out_channels}, stride {stride}, padding {padding}");
                    let expected = pass(&leaves(images, out_channels, Kind::Double), |input, weight| {
                        layer(weight, stride, padding).forward(input)
                    });
                    let got = pass(&leaves(images, out_channels, Kind::Float), |input, weight| {
                        layer(weight, stride, padding).forward_with_kernel(input).unwrap()
                    });
                    for (place, (expected, got)) in expected.iter().zip(&got).enumerate() {
                        let difference = (expected - got).abs().max().double_value(&[]);
                        let scale = expected.abs().max().double_value(&[]).max(1.0);
                        assert!(difference < 2e-5 * scale, "{case}: result {place} is off by {difference} of {scale}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let of_threads = |threads| {
            tch::set_num_threads(threads);
            let leaves = leaves([16, 72, 14, 14], 72, Kind::Float);
            let [_, _, gradient] =
                pass(&leaves, |input, weight| layer(weight, 1, 1).forward_with_kernel(input).unwrap());
            gradient
        };
        let before = tch::get_num_threads();
        let (one, three) = (of_threads(1), of_threads(3));
        tch::set_num_threads(before);
        assert!(one.equal(&three));
    }

    #[test]
    fn weights_in_another_order_get_their_gradient_in_it() {
        let [input, weight] = leaves([2, 16, 9, 9], 8, Kind::Float);
        let contiguous = weight.detach().contiguous().set_requires_grad(true);
        let gradient = |weight: &Tensor| {
            let input = input.detach();
            layer(weight, 2, 1).forward_with_kernel(&input).unwrap().sum(Kind::Float).backward();
            weight.grad()
        };
        let (expected, got) = (gradient(&weight), gradient(&contiguous));
        assert!(expected.equal(&got));
        assert_eq!(got.stride(), contiguous.stride());
    }

    #[test]
    fn what_no_kernel_takes_is_computed_all_the_same() {
        let [input, weight] = leaves([2, 16, 6, 6], 8, Kind::Float);
        let bias = numbers(&[8], 0.2).to_kind(Kind::Float);
        let half = weight.narrow(1, 0, 8);
        let pixel = weight.narrow(2, 0, 1).narrow(3, 0, 1);
        let few = weight.narrow(0, 0, 3);
        for (name, layer) in [
            ("bias", Convolution { bias: Some(&bias), ..layer(&weight, 1, 1) }),
            ("groups", Convolution { groups: 2, ..layer(&half, 1, 1) }),
            ("1×1", layer(&pixel, 1, 0)),
            ("3 channels", layer(&few, 1, 1)),
        ] {
            let Convolution { weight, bias, padding, groups, .. } = layer;
            let expected = input.conv2d(weight, bias, [1, 1], [padding, padding], [1, 1], groups);
            assert!(layer.forward(&input).equal(&expected), "{name}");
        }
        let contiguous = input.contiguous();
        assert!(
            (layer(&weight, 1, 1).forward(&contiguous) - layer(&weight, 1, 1).forward(&input))
                .abs()
                .max()
                .double_value(&[])
                < 1e-5
        );
        // No output channels, nothing at all, no elements at strides: no kernel may look at their memory.
        let sparse = input.detach().to_sparse(None, None::<i64>, None);
        for (input, weight) in
            [(&input, &weight.narrow(0, 0, 0)), (&Tensor::new(), &weight), (&input, &Tensor::new()), (&sparse, &weight)]
        {
            assert!(layer(weight, 1, 1).forward_with_kernel(input).is_err());
            // SAFETY: the tensors live during the call.
            assert!(!unsafe { ffi::te_convolution_pays(input.as_ptr(), weight.as_ptr(), 1, 1) });
        }
        let refused = layer(&few, 1, 1).forward_with_kernel(&input).unwrap_err();
        assert!(refused.to_string().contains("weights of [3, 16, 3, 3]"), "{refused}");
    }

    #[test]
    fn a_gradient_of_a_gradient_is_refused() {
        let [input, weight] = leaves([2, 16, 6, 6], 8, Kind::Float);
        let sum = layer(&weight, 1, 1).forward_with_kernel(&input).unwrap().sum(Kind::Float);
        let refused = Tensor::f_run_backward(&[sum], &[&weight], true, true).unwrap_err();
        assert!(refused.to_string().contains("cannot be differentiated again"), "{refused}");
    }

    #[test]
    fn autocast_has_its_type() {
        let [input, weight] = leaves([2, 16, 6, 6], 8, Kind::Float);
        let _autocast = Autocast::enter(Device::Cpu, Precision::BFloat16).unwrap();
        assert_eq!(layer(&weight, 1, 1).forward(&input).kind(), Kind::BFloat16);
    }
}
