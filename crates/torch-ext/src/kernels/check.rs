//! Our kernels against libtorch's operations, on a few small tensors.

use tch::{Device, Kind, Tensor};

use crate::images::NormalizeImages;
use crate::max_pool::MaxPool;
use crate::{
    Activation, Autocast, BatchNorm, Error, Fused, LayerNorm, MemoryFormat, Precision, Result, Takers, to_channels_last,
};

/// Computes a few small tensors with our kernels for `device` and with libtorch's operations, as a run of this precision would.
/// A run calls it before it [uses](super::set_used) them.
///
/// # Errors
/// Which kernel is not right, and by how much; no compiler for a GPU's, or what it refused.
pub fn check(device: Device, precision: Precision) -> Result<()> {
    if let Some(&why) = super::FOUND_WRONG.get() {
        return Err(Error::State { what: why.to_owned() });
    }
    // Those of the CPU know one type, and one kind of processor.
    let kind = if device == Device::Cpu { Kind::Float } else { precision.kind() };
    match device {
        Device::Cuda(index) => super::while_compiled(index, kind, || check_each(device, precision, kind)),
        _ => check_each(device, precision, kind),
    }
}

fn check_each(device: Device, precision: Precision, kind: Kind) -> Result<()> {
    // With other channels, other numbers of neighbours travel in one.
    for shape in [[6, 48, 5, 7], [6, 6, 5, 7]] {
        for activation in Activation::ALL {
            for with_residual in [false, true] {
                let case = Case { shape: &shape, format: MemoryFormat::ChannelsLast, activation, with_residual };
                if case.is_taken(device) && (device != Device::Cpu || case.is_for_this_processor()?) {
                    case.check(device, kind, in_one)?;
                }
            }
        }
        if device != Device::Cpu {
            max_pool(&shape, device, kind)?;
            layer_norm(&[shape[0], shape[3], shape[1]], device, precision)?;
        }
    }
    if device == Device::Cpu {
        return Ok(());
    }
    // Rows as long as a whole group of threads shares them, over many blocks.
    layer_norm(&[130, 768], device, precision)?;
    images(device, kind)
}

/// Numbers between -1 and 1 without much order, the same in each run.
pub(crate) fn numbers(shape: &[i64], seed: f64, device: Device) -> Tensor {
    let count = shape.iter().product::<i64>();
    (Tensor::arange(count, (Kind::Double, device)) * (12.9898 + seed) + seed).sin().view(shape)
}

/// How far results may be from those in double precision, of the largest of them.
fn tolerance(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 1e-2,
        Kind::Half => 1e-3,
        _ => 3e-5,
    }
}

fn compare(what: impl Fn() -> String, ours: &Tensor, theirs: &Tensor, tolerance: f64) -> Result<()> {
    let [ours, theirs] = [ours, theirs].map(|tensor| tensor.detach().to_kind(Kind::Double));
    let scale = theirs.abs().max().double_value(&[]).max(1.0);
    let difference = (ours - theirs).abs().max().double_value(&[]) / scale;
    // A NaN is no agreement.
    if difference <= tolerance { Ok(()) } else { Err(Error::Kernel { what: what(), difference }) }
}

// ---- BatchNorm -----------------------------------------------------------------------------------

/// A BatchNorm and what follows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub shape: &'a [i64],
    pub format: MemoryFormat,
    pub activation: Activation,
    pub with_residual: bool,
}

pub(crate) const MOMENTUM: f64 = 0.3;
pub(crate) const EPSILON: f64 = 1e-5;

impl Case<'_> {
    /// Whether the kernels for a device compute it: see [`BatchNorm::fuses`].
    pub(crate) fn is_taken(&self, device: Device) -> bool {
        let only_bounds = !matches!(self.activation, Activation::Silu | Activation::HardSwish);
        only_bounds || (device != Device::Cpu && !self.with_residual)
    }

    fn is_for_this_processor(&self) -> Result<bool> {
        let [input, ..] = self.leaves(Device::Cpu, Kind::Float, Kind::Float)?;
        Ok(BatchNorm::fuses(&input, Fused { activation: self.activation, ..Fused::NOTHING }))
    }

    /// Input, residual, weight and bias: values of `rounded`, in tensors of `kind`; of a layer in single precision at least.
    pub(crate) fn leaves(&self, device: Device, rounded: Kind, kind: Kind) -> Result<[Tensor; 4]> {
        let (shape, channels) = (self.shape, &self.shape[1..2]);
        let (input, residual) = (numbers(shape, 0.1, device) * 2.0 + 30.0, numbers(shape, 0.2, device));
        let [input, residual] = [input, residual].map(|tensor| tensor.to_kind(rounded).to_kind(kind));
        let of_layer = if kind == Kind::Double { Kind::Double } else { Kind::Float };
        let (weight, bias) = (numbers(channels, 0.3, device) + 1.5, numbers(channels, 0.4, device) * 0.5 + 0.2);
        let [weight, bias] = [weight, bias].map(|tensor| tensor.to_kind(Kind::Float).to_kind(of_layer));
        let images = |tensor: Tensor| match self.format {
            MemoryFormat::ChannelsLast if tensor.dim() == 4 => to_channels_last(&tensor),
            _ => Ok(tensor),
        };
        let leaves = [images(input)?, images(residual)?, weight, bias];
        Ok(leaves.map(|leaf| leaf.set_requires_grad(true)))
    }

    /// What a pass forward and back gives: the output, the running statistics, and the gradients of all leaves that have one,
    /// in double precision. What reaches the output are values of `rounded`.
    pub(crate) fn pass(
        &self,
        leaves: &[Tensor; 4],
        rounded: Kind,
        compute: impl Fn(&BatchNorm<'_>, &Tensor, Fused<'_>) -> Result<Tensor>,
    ) -> Result<Vec<Tensor>> {
        let [input, residual, weight, bias] = leaves;
        let (running_mean, running_var) = (&weight.detach() * 0.0, &weight.detach() * 0.0 + 1.0);
        let (momentum, epsilon) = (MOMENTUM, EPSILON);
        let layer =
            BatchNorm { weight, bias, running_mean: &running_mean, running_var: &running_var, momentum, epsilon };
        let residual = self.with_residual.then_some(residual);
        let output = compute(&layer, input, Fused { residual, activation: self.activation, together: None })?;
        let slope = numbers(self.shape, 0.5, input.device()).to_kind(rounded).to_kind(output.kind());
        (&output * slope).sum(Kind::Double).f_backward()?;
        let gradients = leaves.iter().map(Tensor::grad).filter(Tensor::defined);
        let values = [output.detach(), running_mean.shallow_clone(), running_var.shallow_clone()];
        Ok(values.into_iter().chain(gradients).map(|tensor| tensor.to_kind(Kind::Double)).collect())
    }

    /// The pass of `compute` in tensors of `kind` against that of libtorch's operations in double precision.
    pub(crate) fn check(
        &self,
        device: Device,
        kind: Kind,
        compute: impl Fn(&BatchNorm<'_>, &Tensor, Fused<'_>) -> Result<Tensor>,
    ) -> Result<()> {
        let theirs = self.pass(&self.leaves(device, kind, Kind::Double)?, kind, one_by_one)?;
        let ours = self.pass(&self.leaves(device, kind, kind)?, kind, compute)?;
        let results = ["output", "running mean", "running variance"];
        let gradients = ["gradient of the input", "of the residual", "of the weight", "of the bias"];
        let gradients = gradients.into_iter().filter(|&name| self.with_residual || name != "of the residual");
        assert_eq!(ours.len(), theirs.len(), "the same results");
        for ((ours, theirs), name) in ours.iter().zip(&theirs).zip(results.into_iter().chain(gradients)) {
            compare(|| format!("BatchNorm, {self:?}, {kind:?}: {name}"), ours, theirs, tolerance(kind))?;
        }
        Ok(())
    }
}

/// By the kernels that a run would take.
pub(crate) fn in_one(layer: &BatchNorm<'_>, input: &Tensor, fused: Fused<'_>) -> Result<Tensor> {
    layer.forward_fused(input, fused)
}

/// By libtorch's operations.
fn one_by_one(layer: &BatchNorm<'_>, input: &Tensor, fused: Fused<'_>) -> Result<Tensor> {
    let BatchNorm { weight, bias, running_mean, running_var, momentum, epsilon } = *layer;
    let [weight, bias, mean, var] = [weight, bias, running_mean, running_var].map(Some);
    let normalized = input.f_batch_norm(weight, bias, mean, var, true, momentum, epsilon, false)?;
    let sum = fused.residual.map_or(normalized.shallow_clone(), |residual| normalized + residual);
    Ok(match fused.activation {
        Activation::Identity => sum,
        Activation::Relu => sum.relu(),
        Activation::Relu6 => sum.relu6(),
        Activation::Silu => sum.silu(),
        Activation::HardSwish => sum.hardswish(),
    })
}

// ---- LayerNorm -----------------------------------------------------------------------------------

/// A LayerNorm, and what is before and behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormCase<'a> {
    pub shape: &'a [i64],
    /// Whether what is normalized is of single precision, and not of the run's type.
    pub input_is_single: bool,
    /// What is added, if something is: whether it is of single precision.
    pub added_is_single: Option<bool>,
    pub takers: Takers,
}

impl<'a> NormCase<'a> {
    /// All of a shape.
    pub(crate) fn all(shape: &'a [i64]) -> impl Iterator<Item = Self> {
        let of_inputs = [false, true].into_iter().flat_map(|input_is_single| {
            [None, Some(false), Some(true)].map(|added_is_single| (input_is_single, added_is_single))
        });
        of_inputs.flat_map(move |(input_is_single, added_is_single)| {
            [Takers::OneProduct, Takers::Any].map(|takers| Self { shape, input_is_single, added_is_single, takers })
        })
    }

    /// The norm, the sum and the gradients of all leaves, in double precision: of tensors of double precision, or of the types of a run.
    fn pass(&self, device: Device, precision: Precision, is_double: bool) -> Result<Vec<Tensor>> {
        let channels = &self.shape[self.shape.len() - 1..];
        let kind = |is_single| if is_single { Kind::Float } else { precision.kind() };
        let leaf = |tensor: Tensor, kind: Kind| {
            let rounded = tensor.to_kind(kind);
            (if is_double { rounded.to_kind(Kind::Double) } else { rounded }).set_requires_grad(true)
        };
        let input = leaf(numbers(self.shape, 0.1, device) * 2.0 + 3.0, kind(self.input_is_single));
        let added = self.added_is_single.map(|is_single| leaf(numbers(self.shape, 0.2, device), kind(is_single)));
        let weight = leaf(numbers(channels, 0.3, device) + 1.5, Kind::Float);
        let bias = leaf(numbers(channels, 0.4, device) * 0.5, Kind::Float);
        let layer = LayerNorm { weight: &weight, bias: &bias, epsilon: EPSILON };
        let [norm, sum] = if is_double {
            // The sum as it is kept: rounded, with the gradient of what is not.
            let sum = added.as_ref().map_or_else(|| input.shallow_clone(), |added| &input + added);
            let is_narrow = !self.input_is_single && self.added_is_single == Some(false);
            let kept =
                if is_narrow { sum.detach().to_kind(precision.kind()).to_kind(Kind::Double) } else { sum.detach() };
            let sum = &sum + (kept - sum.detach());
            [sum.f_layer_norm(channels, Some(&weight), Some(&bias), EPSILON, false)?, sum]
        } else {
            let _autocast = Autocast::enter(device, precision)?;
            layer.forward_in_kernels(&input, added.as_ref(), self.takers)?
        };
        let slope = |seed: f64, of: &Tensor| {
            let slope = numbers(self.shape, seed, device).to_kind(precision.kind());
            (of * slope.to_kind(of.kind())).sum(Kind::Double)
        };
        let mut loss = slope(0.5, &norm);
        if added.is_some() {
            loss += slope(0.6, &sum);
        }
        loss.f_backward()?;
        let sums = added.is_some().then(|| sum.detach());
        let gradients =
            [Some(&input), added.as_ref(), Some(&weight), Some(&bias)].into_iter().flatten().map(Tensor::grad);
        Ok([norm.detach()]
            .into_iter()
            .chain(sums)
            .chain(gradients)
            .map(|tensor| tensor.to_kind(Kind::Double))
            .collect())
    }

    /// The kernels' pass in the types of a run against that of libtorch's operations in double precision.
    pub(crate) fn check(&self, device: Device, precision: Precision) -> Result<()> {
        let (ours, theirs) = (self.pass(device, precision, false)?, self.pass(device, precision, true)?);
        assert_eq!(ours.len(), theirs.len(), "the same results");
        for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let what = || format!("LayerNorm, {self:?}, {precision:?}: result {index}");
            compare(what, ours, theirs, tolerance(precision.kind()))?;
        }
        Ok(())
    }
}

/// LayerNorm in all its forms.
pub(crate) fn layer_norm(shape: &[i64], device: Device, precision: Precision) -> Result<()> {
    NormCase::all(shape).try_for_each(|case| case.check(device, precision))
}

// ---- The others ----------------------------------------------------------------------------------

/// Maxima are no sums: they are the same bits, and so are gradients where few windows meet.
pub(crate) fn max_pool(shape: &[i64], device: Device, kind: Kind) -> Result<()> {
    let pools = [
        MaxPool { side: 3, stride: 2, padding: 1, ceil: false },
        MaxPool { side: 2, stride: 2, padding: 0, ceil: true },
        MaxPool { side: 3, stride: 1, padding: 1, ceil: false },
    ];
    for pool in pools {
        let pass = |kind: Kind, compute: fn(&MaxPool, &Tensor) -> Result<Tensor>| -> Result<[Tensor; 2]> {
            // Few different values, so that some are equal.
            let input = (numbers(shape, 0.1, device) * 8.0).round().to_kind(kind);
            let input = to_channels_last(&input)?.set_requires_grad(true);
            let output = compute(&pool, &input)?;
            let slope = (numbers(&output.size(), 0.5, device) * 8.0).round().to_kind(kind);
            (&output * slope).sum(Kind::Double).f_backward()?;
            Ok([output.detach(), input.grad()])
        };
        let (ours, theirs) =
            (pass(kind, MaxPool::forward_in_kernels)?, pass(Kind::Double, MaxPool::forward_in_libtorch)?);
        for ((ours, theirs), name) in ours.iter().zip(&theirs).zip(["output", "gradient"]) {
            compare(|| format!("max pooling, {pool:?} of {shape:?}, {kind:?}: {name}"), ours, theirs, 0.0)?;
        }
    }
    Ok(())
}

/// One product and one sum: they are the same bits.
pub(crate) fn images(device: Device, kind: Kind) -> Result<()> {
    let bytes = Tensor::arange(3 * 9 * 5 * 3, (Kind::Int64, device)).view([3, 9, 5, 3]).to_kind(Kind::Uint8);
    for format in [MemoryFormat::Contiguous, MemoryFormat::ChannelsLast] {
        let normalize = NormalizeImages { scale: [0.017, 0.018, 0.019], shift: [-2.1, -2.0, -1.8], kind, format };
        let (ours, theirs) = (normalize.forward_in_kernels(&bytes)?, normalize.forward_in_libtorch(&bytes)?);
        compare(|| format!("images, {format:?}, {kind:?}"), &ours, &theirs, 0.0)?;
    }
    Ok(())
}
