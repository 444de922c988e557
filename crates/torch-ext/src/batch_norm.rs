//! BatchNorm in training, in one with the sum and the activation that often follow it.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ptr;

use tch::{Device, Tensor};

use crate::ffi::{self, Handles, handles, new_tensor, pointer};
use crate::{Result, SyncBatchNorm, kernels};

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

/// What follows a BatchNorm, or its sum with something else, and can be computed in one with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x / (1 + exp(−x))`.
    Silu,
    /// `x · min(max(x + 3, 0), 6) / 6`.
    HardSwish,
}

impl Activation {
    pub(crate) const ALL: [Self; 5] = [Self::Identity, Self::Relu, Self::Relu6, Self::Silu, Self::HardSwish];

    /// Between which values it keeps what it is given, if that is all that it does.
    fn bounds(self) -> Option<[f64; 2]> {
        match self {
            Self::Identity => Some([f64::NEG_INFINITY, f64::INFINITY]),
            Self::Relu => Some([0.0, f64::INFINITY]),
            Self::Relu6 => Some([0.0, 6.0]),
            Self::Silu | Self::HardSwish => None,
        }
    }

    /// The shim's number for it.
    fn number(self) -> i32 {
        match self {
            Self::Identity => 0,
            Self::Relu => 1,
            Self::Relu6 => 2,
            Self::Silu => 3,
            Self::HardSwish => 4,
        }
    }
}

/// What is computed in one with a BatchNorm in training.
#[derive(Clone, Copy, Debug)]
pub struct Fused<'a> {
    /// Added to what is normalized: shaped like it.
    pub residual: Option<&'a Tensor>,
    /// Follows the sum.
    pub activation: Activation,
    /// Whose batches the statistics are of: this rank's, or those of all ranks.
    pub together: Option<&'a SyncBatchNorm>,
}

impl Fused<'_> {
    /// Nothing but the BatchNorm.
    pub const NOTHING: Self = Self { residual: None, activation: Activation::Identity, together: None };
}

impl BatchNorm<'_> {
    /// Whether [`forward_fused`](Self::forward_fused) takes these. On a CPU with AVX2: dense tensors of single precision,
    /// contiguous or with channels last, this rank's statistics, and an activation that only bounds. On a GPU, where
    /// [`kernels::check`](crate::kernels::check) has found its kernels right: N×C, or N×C×H×W with channels last, of fp32,
    /// bf16 or fp16; what has been added is followed by a ReLU, a ReLU6 or nothing. `residual` must be like `input`.
    pub fn fuses(input: &Tensor, fused: Fused<'_>) -> bool {
        let residual = pointer(fused.residual);
        let is_bounded = fused.activation.bounds().is_some();
        if !input.defined() {
            return false;
        }
        if kernels::of_a_gpu_are_used(input.device()) {
            // SAFETY: the tensors live during the call, and a residual may be null.
            let takes = || unsafe { ffi::te_gpu_batch_norm_takes(input.as_ptr(), residual) };
            let is_filled = fused.together.is_some() || input.numel() > 0;
            return is_filled && (is_bounded || fused.residual.is_none()) && takes();
        }
        // SAFETY: as above.
        let takes = || unsafe { ffi::te_batch_norm_takes(input.as_ptr(), residual) };
        input.device() == Device::Cpu
            && kernels::are_used(Device::Cpu)
            && fused.together.is_none()
            && is_bounded
            && takes()
    }

    /// In training, `input` (N×C×…) normalized by its own statistics, what is added, and the sum's activation: what three
    /// operations of libtorch compute, in half as many passes over memory.
    ///
    /// Sums are made in an order that does not depend on the number of threads. The backward pass cannot be
    /// differentiated again.
    ///
    /// # Errors
    /// What [`fuses`](Self::fuses) refuses; parameters that do not fit the channels; what the communication reported.
    pub fn forward_fused(&self, input: &Tensor, fused: Fused<'_>) -> Result<Tensor> {
        match (kernels::of_a_gpu_are_used(input.device()), fused.activation.bounds()) {
            (false, Some([lower, upper])) if input.device() == Device::Cpu => new_tensor("BatchNorm", |out| {
                let (handles, residual) = (self.handles(input), pointer(fused.residual));
                // SAFETY: the handles are of tensors that live during the call, and a residual may be null.
                unsafe { ffi::te_batch_norm(handles.list(), residual, self.momentum, self.epsilon, lower, upper, out) }
            }),
            _ => self.forward_in_kernels(input, fused),
        }
    }

    /// The same by a GPU's kernels, wherever the tensors are: in host memory slowly, one thread after the other, for tests.
    ///
    /// # Errors
    /// As of [`forward_fused`](Self::forward_fused).
    pub fn forward_in_kernels(&self, input: &Tensor, fused: Fused<'_>) -> Result<Tensor> {
        let (handles, residual) = (self.handles(input), pointer(fused.residual));
        let group = fused.together.map_or(ptr::null_mut(), SyncBatchNorm::raw);
        let activation = fused.activation.number();
        new_tensor("BatchNorm", |out| {
            // SAFETY: the handles are of tensors that live during the call; a residual and a group may be null, and the graph
            // holds the group.
            unsafe {
                let (momentum, epsilon) = (self.momentum, self.epsilon);
                ffi::te_gpu_batch_norm(handles.list(), residual, momentum, epsilon, activation, group, out)
            }
        })
    }

    /// The handles of `input` and the layer's tensors, as the shim takes them.
    pub(crate) fn handles<'a>(&'a self, input: &'a Tensor) -> Handles<'a> {
        handles([input, self.weight, self.bias, self.running_mean, self.running_var])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::check::{Case, EPSILON, MOMENTUM, in_one, numbers};
    use crate::{MemoryFormat, Precision};
    use tch::Kind;

    const FORMATS: [MemoryFormat; 2] = [MemoryFormat::Contiguous, MemoryFormat::ChannelsLast];
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

    fn cases(shapes: &'static [&'static [i64]], formats: &[MemoryFormat]) -> Vec<Case<'static>> {
        let mut cases = Vec::new();
        for &shape in shapes {
            for &format in formats {
                for activation in Activation::ALL {
                    for with_residual in [false, true] {
                        cases.push(Case { shape, format, activation, with_residual });
                    }
                }
            }
        }
        cases
    }

    fn layer<'a>([weight, bias, running_mean, running_var]: [&'a Tensor; 4]) -> BatchNorm<'a> {
        BatchNorm { weight, bias, running_mean, running_var, momentum: MOMENTUM, epsilon: EPSILON }
    }

    fn with(activation: Activation) -> Fused<'static> {
        Fused { activation, ..Fused::NOTHING }
    }

    fn in_kernels(layer: &BatchNorm<'_>, input: &Tensor, fused: Fused<'_>) -> Result<Tensor> {
        layer.forward_in_kernels(input, fused)
    }

    const IMAGES: Case<'_> = Case {
        shape: &[4, 3, 7, 5],
        format: MemoryFormat::Contiguous,
        activation: Activation::Identity,
        with_residual: false,
    };

    fn images() -> [Tensor; 4] {
        IMAGES.leaves(Device::Cpu, Kind::Float, Kind::Float).unwrap()
    }

    #[test]
    fn a_gpus_kernels_compute_what_three_operations_in_double_precision_do() {
        for case in cases(SHAPES, &[MemoryFormat::ChannelsLast]) {
            let is_bounded = case.activation.bounds().is_some();
            if case.shape.len() == 3 || (case.with_residual && !is_bounded) {
                continue;
            }
            for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
                case.check(Device::Cpu, kind, in_kernels).unwrap();
            }
        }
    }

    #[test]
    fn a_gpus_kernels_see_a_nan_behind_an_activation() {
        for activation in Activation::ALL {
            let case = Case { format: MemoryFormat::ChannelsLast, ..IMAGES };
            let [input, _, weight, bias] = case.leaves(Device::Cpu, Kind::Float, Kind::Float).unwrap();
            let _ = input.detach().get(0).get(1).fill_(f64::NAN);
            let (mean, var) = (weight.detach().copy(), bias.detach().copy());
            let layer = layer([&weight, &bias, &mean, &var]);
            let output = layer.forward_in_kernels(&input, with(activation)).unwrap();
            let nans: Vec<_> =
                (0..3).map(|channel| output.get(0).get(channel).isnan().any().int64_value(&[]) == 1).collect();
            assert_eq!(nans, [false, true, false], "{activation:?}");
            assert!(mean.isnan().equal(&Tensor::from_slice(&[false, true, false])), "{activation:?}");
        }
    }

    #[test]
    fn a_gpus_kernels_take_values_at_odd_addresses() {
        let whole = numbers(&[3, 16, 4, 5], 0.1, Device::Cpu).to_kind(Kind::BFloat16);
        let odd =
            Tensor::empty([whole.numel() as i64 + 1], (Kind::BFloat16, Device::Cpu)).narrow(0, 1, whole.numel() as i64);
        let mut odd = odd.view([3, 4, 5, 16]).permute([0, 3, 1, 2]);
        odd.copy_(&whole);
        let aligned = crate::to_channels_last(&whole).unwrap();
        let pass = |x: &Tensor, slope: &Tensor| {
            let (x, ones) = (x.detach().set_requires_grad(true), Tensor::ones([16], (Kind::Float, Device::Cpu)));
            let (weight, mean, var) = (ones.copy().set_requires_grad(true), ones.copy(), ones.copy());
            let layer = layer([&weight, &ones, &mean, &var]);
            let output = layer.forward_in_kernels(&x, with(Activation::Relu)).unwrap();
            (&output * slope).sum(Kind::Float).backward();
            x.grad()
        };
        let expected = pass(&aligned, &aligned);
        assert!(expected.equal(&pass(&odd, &aligned)) && expected.equal(&pass(&aligned, &odd)));
    }

    // Elsewhere the kernels of the CPU are not used.
    #[cfg(target_arch = "x86_64")]
    mod of_the_cpu {
        use super::*;

        #[test]
        fn fused_is_what_three_operations_in_double_precision_compute() {
            for case in cases(SHAPES, &FORMATS) {
                if case.is_taken(Device::Cpu) {
                    case.check(Device::Cpu, Kind::Float, in_one).unwrap();
                }
            }
        }

        #[test]
        fn a_run_finds_its_kernels_right() {
            for precision in [Precision::Single, Precision::BFloat16] {
                kernels::check(Device::Cpu, precision).unwrap();
            }
        }

        #[test]
        fn the_number_of_threads_changes_no_bit() {
            let case = Case {
                shape: &[16, 24, 14, 14],
                format: MemoryFormat::ChannelsLast,
                activation: Activation::Relu,
                with_residual: true,
            };
            let of_threads = |threads| {
                tch::set_num_threads(threads);
                let leaves = case.leaves(Device::Cpu, Kind::Float, Kind::Float).unwrap();
                case.pass(&leaves, Kind::Float, in_one).unwrap()
            };
            let before = tch::get_num_threads();
            let (one, three) = (of_threads(1), of_threads(3));
            tch::set_num_threads(before);
            assert!(one.iter().zip(&three).all(|(one, three)| one.equal(three)));
        }

        #[test]
        fn a_gradient_that_others_hold_is_not_written_over() {
            for activation in [Activation::Identity, Activation::Relu] {
                for with_residual in [false, true] {
                    let other = numbers(IMAGES.shape, 0.6, Device::Cpu).to_kind(Kind::Float).set_requires_grad(true);
                    let case = Case { activation, with_residual, ..IMAGES };
                    let pass = |layer: &BatchNorm<'_>, x: &Tensor, fused: Fused<'_>| {
                        Ok(layer.forward_fused(x, fused)? + &other)
                    };
                    case.pass(&images(), Kind::Float, pass).unwrap();
                    let expected = numbers(IMAGES.shape, 0.5, Device::Cpu).to_kind(Kind::Float);
                    assert!(other.grad().equal(&expected), "{activation:?}");
                }
            }
        }

        #[test]
        fn a_nan_is_seen_behind_a_relu() {
            let [input, _, weight, bias] = images();
            let _ = input.detach().get(0).get(1).fill_(f64::NAN);
            let (mean, var) = (weight.detach().copy(), bias.detach().copy());
            let layer = layer([&weight, &bias, &mean, &var]);
            let output = layer.forward_fused(&input, with(Activation::Relu)).unwrap();
            let nans: Vec<_> =
                (0..3).map(|channel| output.get(0).get(channel).isnan().any().int64_value(&[]) == 1).collect();
            assert_eq!(nans, [false, true, false]);
        }

        #[test]
        fn a_gradient_of_a_gradient_is_refused() {
            let [input, _, weight, bias] = images();
            let (mean, var) = (weight.detach().copy(), bias.detach().copy());
            let layer = layer([&weight, &bias, &mean, &var]);
            let sum = layer.forward_fused(&input, Fused::NOTHING).unwrap().sum(Kind::Float);
            let refused = Tensor::f_run_backward(&[sum], &[&weight], true, true).unwrap_err();
            assert!(refused.to_string().contains("cannot be differentiated again"), "{refused}");
        }

        #[test]
        fn what_does_not_fit_is_refused() {
            let [input, residual, weight, bias] = images();
            let fuses = |input: &Tensor| BatchNorm::fuses(input, Fused::NOTHING);
            let fuses_with =
                |residual: &Tensor| BatchNorm::fuses(&input, Fused { residual: Some(residual), ..Fused::NOTHING });
            assert!(fuses(&input) && fuses_with(&residual) && !BatchNorm::fuses(&input, with(Activation::Silu)));
            assert!(!fuses(&input.to_kind(Kind::Double)) && !fuses(&input.to_kind(Kind::BFloat16)));
            assert!(!fuses(&input.transpose(2, 3)) && !fuses(&input.narrow(0, 0, 0)) && !fuses(&weight));
            assert!(!fuses_with(&residual.narrow(2, 0, 1)));
            let sparse = input.detach().to_sparse(None, None::<i64>, None);
            assert!(!fuses(&Tensor::new()) && !fuses(&sparse) && !fuses(&input.detach().to_mkldnn()));
            assert!(!fuses_with(&Tensor::new()) && !fuses_with(&sparse));
            let few = bias.narrow(0, 0, 2);
            let layer = layer([&weight, &few, &weight, &weight]);
            let refused = layer.forward_fused(&input, Fused::NOTHING).unwrap_err();
            assert!(refused.to_string().contains("3 channels, and 2 numbers"), "{refused}");
        }
    }
}
