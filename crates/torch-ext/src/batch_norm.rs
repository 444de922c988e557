//! BatchNorm in training, in one with the sum and the bounded activation that often follow it.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::Tensor;

use crate::Result;
use crate::ffi::{self, Handles, handles, new_tensor, pointer};

/// A layer of batch normalization over C channels: `y = (x − E[x]) / √(Var[x] + ε) · weight + bias`, per channel.
///
/// In training the running statistics are updated in place: `running ← (1 − momentum)·running + momentum·batch`, the
/// variance unbiased. As `torch.nn.BatchNorm2d`.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a> {
    /// C factors.
    pub weight: &'a Tensor,
    /// C summands.
    pub bias: &'a Tensor,
    /// C means.
    pub running_mean: &'a Tensor,
    /// C variances.
    pub running_var: &'a Tensor,
    /// How much of a batch's statistics goes into the running ones, 0–1.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Between which values a result is kept: an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// What is below becomes this.
    pub lower: f64,
    /// What is above becomes this.
    pub upper: f64,
}

impl Bounds {
    /// Nothing is changed.
    pub const NONE: Self = Self { lower: f64::NEG_INFINITY, upper: f64::INFINITY };
    /// `max(x, 0)`.
    pub const RELU: Self = Self { lower: 0.0, upper: f64::INFINITY };
    /// `min(max(x, 0), 6)`.
    pub const RELU6: Self = Self { lower: 0.0, upper: 6.0 };
}

impl BatchNorm<'_> {
    /// Whether [`forward_fused`](Self::forward_fused) takes these: dense tensors of single precision on a CPU with AVX2,
    /// contiguous or with channels last, `residual` like `input`.
    pub fn fuses(input: &Tensor, residual: Option<&Tensor>) -> bool {
        // SAFETY: the tensors live during the call, and a residual may be null.
        unsafe { ffi::te_batch_norm_takes(input.as_ptr(), pointer(residual)) }
    }

    /// In training, `input` (N×C×…) normalized by its own statistics, `residual` added, and the sum kept in `bounds`: what
    /// three operations of libtorch compute, in half as many passes over memory.
    ///
    /// Sums are made in an order that does not depend on the number of threads. The backward pass cannot be
    /// differentiated again.
    ///
    /// # Errors
    /// What [`fuses`](Self::fuses) refuses; parameters that do not fit the channels.
    pub fn forward_fused(&self, input: &Tensor, residual: Option<&Tensor>, bounds: Bounds) -> Result<Tensor> {
        let (handles, Bounds { lower, upper }) = (self.handles(input), bounds);
        new_tensor("BatchNorm", |out| {
            // SAFETY: the handles are of tensors that live during the call, and a residual may be null.
            unsafe {
                ffi::te_batch_norm(handles.list(), pointer(residual), self.momentum, self.epsilon, lower, upper, out)
            }
        })
    }

    /// The handles of `input` and the layer's tensors, as the shim takes them.
    pub(crate) fn handles<'a>(&'a self, input: &'a Tensor) -> Handles<'a> {
        handles([input, self.weight, self.bias, self.running_mean, self.running_var])
    }
}

// Elsewhere the kernels are not used.
#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::{MemoryFormat, to_channels_last};
    use tch::{Device, Kind};

    const MOMENTUM: f64 = 0.3;
    const EPSILON: f64 = 1e-5;
    /// More than a tile of each layout, and channels for vectors of each width.
    const SHAPES: &[&[i64]] = &[
        &[2, 1],
        &[5, 37],
        &[3, 4, 5],
        &[4, 3, 7, 5],
        &[2, 16, 17, 16],
        &[16, 24, 14, 14],
        &[300, 58, 2, 2],
        &[7, 130, 1, 1],
    ];

    /// Numbers between -1 and 1 without much order, the same in each run.
    fn numbers(shape: &[i64], seed: f64) -> Tensor {
        let count = shape.iter().product::<i64>();
        (Tensor::arange(count, (Kind::Double, Device::Cpu)) * (12.9898 + seed) + seed).sin().view(shape)
    }

    /// Input, residual, weight and bias.
    fn leaves(shape: &[i64], kind: Kind, format: MemoryFormat) -> [Tensor; 4] {
        let (input, residual) = (numbers(shape, 0.1) * 2.0 + 30.0, numbers(shape, 0.2));
        let (weight, bias) = (numbers(&shape[1..2], 0.3) + 1.5, numbers(&shape[1..2], 0.4) * 0.5 + 0.2);
        [input, residual, weight, bias].map(|tensor| {
            let tensor = tensor.to_kind(kind);
            let images = tensor.dim() == 4 && format == MemoryFormat::ChannelsLast;
            let tensor = if images { to_channels_last(&tensor).unwrap() } else { tensor };
            tensor.set_requires_grad(true)
        })
    }

    /// Weight, bias, running mean and running variance.
    fn layer<'a>([weight, bias, running_mean, running_var]: [&'a Tensor; 4]) -> BatchNorm<'a> {
        BatchNorm { weight, bias, running_mean, running_var, momentum: MOMENTUM, epsilon: EPSILON }
    }

    /// What a pass forward and back gives: the output, the running statistics, and the gradients of all leaves that have one.
    fn pass(leaves: &[Tensor; 4], compute: impl Fn(&BatchNorm<'_>, &Tensor, &Tensor) -> Tensor) -> Vec<Tensor> {
        let [input, residual, weight, bias] = leaves;
        let (running_mean, running_var) = (&weight.detach() * 0.0, &weight.detach() * 0.0 + 1.0);
        let layer = layer([weight, bias, &running_mean, &running_var]);
        let output = compute(&layer, input, residual);
        (&output * numbers(&output.size(), 0.5).to_kind(output.kind())).sum(output.kind()).backward();
        let gradients = leaves.iter().map(Tensor::grad).filter(Tensor::defined);
        let values = [output.detach(), running_mean.shallow_clone(), running_var.shallow_clone()];
        values.into_iter().chain(gradients).map(|tensor| tensor.to_kind(Kind::Double)).collect()
    }

    fn composed(layer: &BatchNorm<'_>, input: &Tensor, residual: Option<&Tensor>, bounds: Bounds) -> Tensor {
        let BatchNorm { weight, bias, running_mean, running_var, momentum, epsilon } = *layer;
        let [weight, bias, mean, var] = [weight, bias, running_mean, running_var].map(Some);
        let normalized = input.batch_norm(weight, bias, mean, var, true, momentum, epsilon, false);
        let sum = residual.map_or(normalized.shallow_clone(), |residual| &normalized + residual);
        match bounds {
            Bounds::RELU => sum.relu(),
            Bounds::RELU6 => sum.relu6(),
            _ => sum,
        }
    }

    #[test]
    fn fused_is_what_three_operations_in_double_precision_compute() {
        for shape in SHAPES {
            for format in [MemoryFormat::Contiguous, MemoryFormat::ChannelsLast] {
                for bounds in [Bounds::NONE, Bounds::RELU, Bounds::RELU6] {
                    for with_residual in [false, true] {
                        let case = format!("{shape:?} {format:?} {bounds:?}, residual: {with_residual}");
                        let expected = pass(&leaves(shape, Kind::Double, format), |layer, input, residual| {
                            composed(layer, input, with_residual.then_some(residual), bounds)
                        });
                        let got = pass(&leaves(shape, Kind::Float, format), |layer, input, residual| {
                            layer.forward_fused(input, with_residual.then_some(residual), bounds).unwrap()
                        });
                        assert_eq!(expected.len(), got.len(), "{case}");
                        for (place, (expected, got)) in expected.iter().zip(&got).enumerate() {
                            let difference = (expected - got).abs().max().double_value(&[]);
                            let scale = expected.abs().max().double_value(&[]).max(1.0);
                            assert!(
                                difference < 3e-5 * scale,
                                "{case}: result {place} is off by {difference} of {scale}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let of_threads = |threads| {
            tch::set_num_threads(threads);
            let leaves = leaves(&[16, 24, 14, 14], Kind::Float, MemoryFormat::ChannelsLast);
            pass(&leaves, |layer, input, residual| layer.forward_fused(input, Some(residual), Bounds::RELU).unwrap())
        };
        let before = tch::get_num_threads();
        let (one, three) = (of_threads(1), of_threads(3));
        tch::set_num_threads(before);
        assert!(one.iter().zip(&three).all(|(one, three)| one.equal(three)));
    }

    #[test]
    fn a_gradient_that_others_hold_is_not_written_over() {
        for bounds in [Bounds::NONE, Bounds::RELU] {
            for with_residual in [false, true] {
                let other = numbers(&[4, 3, 7, 5], 0.6).to_kind(Kind::Float).set_requires_grad(true);
                pass(&leaves(&[4, 3, 7, 5], Kind::Float, MemoryFormat::Contiguous), |layer, input, residual| {
                    layer.forward_fused(input, with_residual.then_some(residual), bounds).unwrap() + &other
                });
                assert!(other.grad().equal(&numbers(&[4, 3, 7, 5], 0.5).to_kind(Kind::Float)), "{bounds:?}");
            }
        }
    }

    #[test]
    fn a_nan_is_seen_behind_a_relu() {
        let [input, _, weight, bias] = leaves(&[2, 3, 4, 4], Kind::Float, MemoryFormat::Contiguous);
        let _ = input.detach().get(0).get(1).fill_(f64::NAN);
        let (mean, var) = (weight.detach().copy(), bias.detach().copy());
        let layer = layer([&weight, &bias, &mean, &var]);
        let output = layer.forward_fused(&input, None, Bounds::RELU).unwrap();
        let nans: Vec<_> =
            (0..3).map(|channel| output.get(0).get(channel).isnan().any().int64_value(&[]) == 1).collect();
        assert_eq!(nans, [false, true, false]);
    }

    #[test]
    fn a_gradient_of_a_gradient_is_refused() {
        let [input, _, weight, bias] = leaves(&[2, 3, 4, 4], Kind::Float, MemoryFormat::Contiguous);
        let (mean, var) = (weight.detach().copy(), bias.detach().copy());
        let layer = layer([&weight, &bias, &mean, &var]);
        let sum = layer.forward_fused(&input, None, Bounds::NONE).unwrap().sum(Kind::Float);
        let refused = Tensor::f_run_backward(&[sum], &[&weight], true, true).unwrap_err();
        assert!(refused.to_string().contains("cannot be differentiated again"), "{refused}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let [input, residual, weight, bias] = leaves(&[2, 3, 4, 4], Kind::Float, MemoryFormat::Contiguous);
        let fuses = |input: &Tensor| BatchNorm::fuses(input, None);
        assert!(fuses(&input) && BatchNorm::fuses(&input, Some(&residual)));
        assert!(!fuses(&input.to_kind(Kind::Double)) && !fuses(&input.to_kind(Kind::BFloat16)));
        assert!(!fuses(&input.transpose(2, 3)) && !fuses(&input.narrow(0, 0, 0)) && !fuses(&weight));
        assert!(!BatchNorm::fuses(&input, Some(&residual.narrow(2, 0, 1))));
        let sparse = input.detach().to_sparse(None, None::<i64>, None);
        assert!(!fuses(&Tensor::new()) && !fuses(&sparse) && !fuses(&input.detach().to_mkldnn()));
        assert!(!BatchNorm::fuses(&input, Some(&Tensor::new())) && !BatchNorm::fuses(&input, Some(&sparse)));
        let few = bias.narrow(0, 0, 2);
        let layer = layer([&weight, &few, &weight, &weight]);
        let refused = layer.forward_fused(&input, None, Bounds::NONE).unwrap_err();
        assert!(refused.to_string().contains("3 channels, and 2 numbers"), "{refused}");
    }
}
