//! States, activations and overhead of one rank, in bytes.

use std::fmt;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use super::activations::{Range, kept_elements};

/// How the weights are updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Optimizer {
    /// SGD with momentum, LARS: one moment.
    #[value(alias = "lars")]
    Sgd,
    /// Adam, AdamW, LAMB: two moments.
    #[value(alias = "adamw", alias = "lamb")]
    Adam,
}

/// What the network computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    /// Single precision.
    #[value(alias = "single", alias = "none", alias = "off")]
    Fp32,
    /// Autocast to bfloat16.
    Bf16,
    /// Autocast to half precision.
    Fp16,
}

impl Precision {
    fn bytes_per_element(self) -> u64 {
        if self == Self::Fp32 { 4 } else { 2 }
    }
}

/// What a rank needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Estimate {
    /// Side of the images, in pixels.
    pub(crate) image_size: usize,
    /// Trained values.
    pub(crate) parameters: u64,
    /// Weights, gradients and optimizer states, in bytes.
    pub(crate) states: u64,
    /// Activations of one sample, in bytes.
    pub(crate) activations: Range,
    /// The CUDA context with its kernels, and NCCL's buffers, in bytes.
    pub(crate) overhead: u64,
    /// Multiply-accumulates of one sample's forward pass.
    pub(crate) macs: u64,
}

/// 0.55 GiB: a context with the kernels of cuDNN and cuBLAS, and NCCL's buffers.
const OVERHEAD_BYTES: u64 = 590_558_003;

/// What training `model` on images of `size`×`size` pixels needs on each rank.
///
/// # Errors
/// An unknown model, or a size that it cannot take.
pub(crate) fn estimate(
    model: &str,
    size: Option<usize>,
    classes: Option<usize>,
    optimizer: Optimizer,
    precision: Precision,
) -> anyhow::Result<Estimate> {
    let known = architectures::architecture(model)?;
    let size = size.unwrap_or(known.image_size);
    let network = known.network(classes.unwrap_or(1000));
    let cost = network.cost(size, size).context("--image-size")?;
    let elements = kept_elements(&network, size).context("--image-size")?;
    let bytes = precision.bytes_per_element();
    let parameters = cost.parameters as u64;
    Ok(Estimate {
        image_size: size,
        parameters,
        states: parameters * bytes_per_parameter(optimizer, precision),
        activations: Range { low: elements.low * bytes, high: elements.high * bytes },
        overhead: OVERHEAD_BYTES,
        macs: cost.macs as u64,
    })
}

/// Weight and gradient in single precision, four bytes a moment, and under autocast a half-precision copy of the weight.
fn bytes_per_parameter(optimizer: Optimizer, precision: Precision) -> u64 {
    let moments = match optimizer {
        Optimizer::Sgd => 1,
        Optimizer::Adam => 2,
    };
    4 + 4 + 4 * moments + if precision == Precision::Fp32 { 0 } else { 2 }
}

impl Estimate {
    /// Bytes for micro-batches of `micro` samples.
    pub(crate) fn total(&self, micro: usize) -> Range {
        let fixed = self.states + self.overhead;
        let of = |sample: u64| fixed.saturating_add(sample.saturating_mul(micro as u64));
        Range { low: of(self.activations.low), high: of(self.activations.high) }
    }

    /// The largest micro-batch that fits into `bytes`: by the high estimate, and by the low one.
    pub(crate) fn largest_micro(&self, bytes: u64) -> (usize, usize) {
        let room = bytes.saturating_sub(self.states + self.overhead);
        let fits = |sample: u64| usize::try_from(room.checked_div(sample).unwrap_or(0)).unwrap_or(usize::MAX);
        (fits(self.activations.high), fits(self.activations.low))
    }
}

/// Bytes for people: GiB with one digit, MiB below one GiB, KiB below one MiB.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = 1024.0 * 1024.0;
        let mib = self.0 as f64 / MIB;
        if mib < 1.0 {
            return write!(f, "{:.0} KiB", mib * 1024.0);
        }
        if mib < 1024.0 { write!(f, "{mib:.0} MiB") } else { write!(f, "{:.1} GiB", mib / 1024.0) }
    }
}

impl fmt::Display for Range {
    /// As bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            return write!(f, "{}", Bytes(self.low));
        }
        write!(f, "{} to {}", Bytes(self.low), Bytes(self.high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_from_the_parameters() {
        let cases = [
            (Optimizer::Sgd, Precision::Fp32, 12),
            (Optimizer::Adam, Precision::Fp32, 16),
            (Optimizer::Adam, Precision::Bf16, 18),
            (Optimizer::Sgd, Precision::Fp16, 14),
        ];
        for (optimizer, precision, bytes) in cases {
            let got = estimate("resnet50", None, None, optimizer, precision).unwrap();
            assert_eq!(got.states, 25_557_032 * bytes);
        }
    }

    /// ResNet-50 at 224 pixels keeps between 80 and 180 MiB an image in single precision: practice fits about 250
    /// images into 24 GB, 90 MB each.
    #[test]
    fn activations_are_in_the_range_that_practice_knows() {
        let got = estimate("resnet50", Some(224), None, Optimizer::Sgd, Precision::Fp32).unwrap();
        assert!(got.activations.low > 75_000_000 && got.activations.low < 100_000_000, "{got:?}");
        assert!(got.activations.high > got.activations.low && got.activations.high < 200_000_000, "{got:?}");
        let half = estimate("resnet50", Some(224), None, Optimizer::Sgd, Precision::Bf16).unwrap();
        assert_eq!(half.activations.low * 2, got.activations.low);
    }

    #[test]
    fn the_largest_micro_batch_fits_and_the_next_does_not() {
        let got = estimate("resnet50", None, None, Optimizer::Sgd, Precision::Bf16).unwrap();
        let memory = 40 << 30;
        let (safe, optimistic) = got.largest_micro(memory);
        assert!(safe < optimistic);
        assert!(got.total(safe).high <= memory && got.total(safe + 1).high > memory);
        assert!(got.total(optimistic).low <= memory && got.total(optimistic + 1).low > memory);
        assert_eq!(got.largest_micro(1), (0, 0));
    }

    #[test]
    fn what_cannot_be_is_said() {
        assert!(estimate("resnet19", None, None, Optimizer::Sgd, Precision::Fp32).is_err());
        let error = estimate("lenet", Some(2), None, Optimizer::Sgd, Precision::Fp32).unwrap_err();
        assert!(format!("{error:#}").starts_with("--image-size: "), "{error:#}");
    }
}
