//! What a rank needs, in bytes: `architectures` says what network and optimizer take, and this adds the device's own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use anyhow::Context;
use architectures::{Memory, Network, TrainingMemory, Workload};
use flags::{OptimizerKind, PrecisionKind};
use serde::Serialize;

/// From so many to so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Range {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

/// What is trained, and how, as far as memory depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe<'a> {
    pub(crate) model: &'a str,
    /// In pixels; by default what the model was made for.
    pub(crate) image_size: Option<usize>,
    pub(crate) classes: Option<usize>,
    /// Of the images; 3 by default.
    pub(crate) channels: Option<usize>,
    pub(crate) optimizer: OptimizerKind,
    pub(crate) momentum: f64,
    pub(crate) precision: PrecisionKind,
    /// Whether the ranks share the optimizer's state.
    pub(crate) zero: bool,
    /// Whether there is a moving average of the weights.
    pub(crate) ema: bool,
    /// Whether blocks are computed once more on the way back.
    pub(crate) recompute: bool,
    /// Whether auxiliary heads are trained, too, where the network has some.
    pub(crate) auxiliary: bool,
    /// The network of a model that is learned from, too.
    pub(crate) teacher: Option<&'a str>,
}

/// What a rank needs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Estimate {
    /// Side of the images, in pixels.
    pub(crate) image_size: usize,
    /// Trained values.
    pub(crate) parameters: u64,
    /// Weights, gradients, the optimizer's state, moving averages and copies in half precision, in bytes.
    pub(crate) states: u64,
    /// What a checkpoint holds: weights, the optimizer's whole state, moving averages, in bytes.
    pub(crate) checkpoint: u64,
    /// What one image takes beside that at the peak, in bytes.
    pub(crate) activations: Range,
    /// The CUDA context with its kernels, and NCCL's buffers, in bytes.
    pub(crate) overhead: u64,
    /// Multiply-accumulates of one sample's forward pass.
    pub(crate) macs: u64,
    #[serde(skip)]
    network: Rc<Network>,
    #[serde(skip)]
    workload: Workload,
    /// Activations of the micro-batches that were walked through: a walk takes half a millisecond.
    #[serde(skip)]
    walked: Rc<RefCell<BTreeMap<usize, Range>>>,
    /// What of the states all ranks share, in bytes over all of them, and how many those are.
    #[serde(skip)]
    shared: u64,
    #[serde(skip)]
    ranks: u64,
}

/// 0.55 GiB: a context with the kernels of cuDNN and cuBLAS, and NCCL's buffers.
const OVERHEAD_BYTES: u64 = 590_558_003;

/// By how much the measured peak may be off what `architectures` says of activations, in percent.
const TOLERANCE: u64 = 15;

/// Bytes that no device has: what is more need not be counted exactly.
const LARGEST: u128 = 1 << 56;

/// The largest micro-batch that is thought of.
const MOST_IMAGES: usize = 1 << 24;

/// What training as `recipe` says needs on each of so many `ranks`.
///
/// # Errors
/// An unknown model, or a size that it cannot take.
pub(crate) fn estimate(recipe: &Recipe<'_>, ranks: usize) -> anyhow::Result<Estimate> {
    let known = architectures::architecture(recipe.model)?;
    let size = recipe.image_size.unwrap_or(known.image_size);
    let classes = recipe.classes.unwrap_or(known.usual_classes());
    let network = known
        .network_to_train(classes, recipe.auxiliary)
        .with_channels(recipe.channels.unwrap_or(3))
        .with_image_side(size);
    let cost = network.cost(size, size).context("--image-size")?;
    let optimizer = recipe.optimizer.memory(recipe.momentum);
    let training = TrainingMemory { optimizer, shards: 1, average: recipe.ema, recompute: recipe.recompute };
    let workload = Workload { batch: 1, activation_bytes: recipe.precision.value_bytes(), training: Some(training) };
    let one = network.memory(size, size, workload).context("--image-size")?;
    let taught = recipe.teacher.map_or(Ok(0), |name| teacher_bytes(name, &network, size)).context("--teacher-model")?;
    let estimate = Estimate {
        image_size: size,
        parameters: cost.parameters as u64,
        states: one.states() as u64 + taught,
        checkpoint: (one.parameters + one.optimizer + one.average) as u64,
        activations: around(one),
        overhead: OVERHEAD_BYTES,
        macs: cost.macs as u64,
        shared: if recipe.zero { one.optimizer as u64 } else { 0 },
        ranks: 1,
        network: Rc::new(network),
        workload,
        walked: Rc::default(),
    };
    Ok(estimate.on(ranks))
}

/// The weights of a teacher, of as many classes as the `student`. What it computes is gone when the student begins, and less than what that
/// keeps.
fn teacher_bytes(name: &str, student: &Network, size: usize) -> anyhow::Result<u64> {
    let network = architectures::architecture(name)?.network(student.classes()).with_channels(student.channels());
    let evaluated = Workload { batch: 1, activation_bytes: 4, training: None };
    Ok(network.with_image_side(size).memory(size, size, evaluated)?.parameters as u64)
}

/// What depends on the batch, give or take what the estimate may be off.
fn around(memory: Memory) -> Range {
    let bytes = (memory.activations + memory.transient) as u64;
    Range { low: bytes / 100 * (100 - TOLERANCE), high: bytes / 100 * (100 + TOLERANCE) }
}

impl Estimate {
    /// The same on so many `ranks`.
    pub(crate) fn on(&self, ranks: usize) -> Self {
        let ranks = (ranks as u64).max(1);
        let of_rank = |ranks: u64| self.shared.div_ceil(ranks);
        Self { states: self.states - of_rank(self.ranks) + of_rank(ranks), ranks, ..self.clone() }
    }

    /// Bytes for micro-batches of `micro` samples.
    pub(crate) fn total(&self, micro: usize) -> Range {
        let fixed = self.states + self.overhead;
        let rough = u128::from(self.activations.high) * micro as u128;
        if rough > LARGEST {
            let much = u64::try_from(rough).unwrap_or(u64::MAX).saturating_add(fixed);
            return Range { low: much, high: much };
        }
        let micro = micro.min(MOST_IMAGES);
        let walk = || {
            let workload = Workload { batch: micro, ..self.workload };
            // It could take one image, so it can take more.
            self.network.memory(self.image_size, self.image_size, workload).map(around).unwrap_or_default()
        };
        let memory = *self.walked.borrow_mut().entry(micro).or_insert_with(walk);
        Range { low: fixed + memory.low, high: fixed + memory.high }
    }

    /// Whether micro-batches of `micro` samples fit into `bytes`, by the high estimate.
    pub(crate) fn fits(&self, micro: usize, bytes: u64) -> bool {
        let fixed = self.states + self.overhead;
        let fits = |memory: &Range| fixed + memory.high <= bytes;
        {
            let walked = self.walked.borrow();
            // Where a larger one fits, and where a smaller one does not.
            if walked.range(micro..).next().is_some_and(|(_, memory)| fits(memory)) {
                return true;
            }
            if walked.range(..=micro).next_back().is_some_and(|(_, memory)| !fits(memory)) {
                return false;
            }
        }
        self.total(micro).high <= bytes
    }

    /// The largest micro-batch that fits into `bytes`: by the high estimate, and by the low one.
    pub(crate) fn largest_micro(&self, bytes: u64) -> (usize, usize) {
        let largest = |of: fn(Range) -> u64| {
            let fits = |micro: usize| of(self.total(micro)) <= bytes;
            let (mut fitting, mut too_large) = (0, 1);
            while too_large < MOST_IMAGES && fits(too_large) {
                (fitting, too_large) = (too_large, too_large * 2);
            }
            while too_large - fitting > 1 {
                let middle = fitting.midpoint(too_large);
                if fits(middle) { fitting = middle } else { too_large = middle }
            }
            fitting
        };
        (largest(|range| range.high), largest(|range| range.low))
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

    const RESNET50: Recipe<'_> = Recipe {
        model: "resnet50",
        image_size: None,
        classes: None,
        channels: None,
        optimizer: OptimizerKind::Sgd,
        momentum: 0.9,
        precision: PrecisionKind::Fp32,
        zero: false,
        ema: false,
        recompute: false,
        auxiliary: false,
        teacher: None,
    };

    /// Beside its 25,557,032 parameters ResNet-50 has 53,120 running values, and 53 counters of eight bytes.
    #[test]
    fn states_follow_from_the_parameters() {
        let (trained, kept) = (25_557_032, 4 * 53_120 + 8 * 53);
        let matrices = trained - 53_120 - 1000;
        let cases = [
            (RESNET50, 12 * trained + kept),
            (Recipe { momentum: 0.0, ..RESNET50 }, 8 * trained + kept),
            (Recipe { optimizer: OptimizerKind::AdamW, ..RESNET50 }, 16 * trained + kept),
            (Recipe { optimizer: OptimizerKind::Lamb, zero: true, ..RESNET50 }, 9 * trained + kept),
            (Recipe { ema: true, ..RESNET50 }, 16 * trained + 2 * kept),
            (Recipe { teacher: Some("resnet50"), ..RESNET50 }, 16 * trained + 2 * kept),
            (Recipe { precision: PrecisionKind::Bf16, ..RESNET50 }, 12 * trained + kept + 2 * matrices),
        ];
        for (recipe, bytes) in cases {
            assert_eq!(estimate(&recipe, 8).unwrap().states, bytes, "{recipe:?}");
            assert_eq!(estimate(&recipe, 1).unwrap().on(8).states, bytes, "{recipe:?}");
        }
        let shared = Recipe { optimizer: OptimizerKind::Adam, zero: true, ema: true, ..RESNET50 };
        assert_eq!(estimate(&shared, 64).unwrap().checkpoint, 16 * trained + 2 * kept, "a checkpoint holds all of it");
    }

    /// ResNet-50 at 224 pixels takes about 90 MB an image in single precision: practice fits about 250
    /// images into 24 GB, 90 MB each.
    #[test]
    fn activations_are_in_the_range_that_practice_knows() {
        let got = estimate(&RESNET50, 1).unwrap();
        let of_image = |estimate: &Estimate| (estimate.total(65).low - estimate.total(1).low) / 64;
        assert!((65_000_000..100_000_000).contains(&of_image(&got)), "{}", of_image(&got));
        let half = estimate(&Recipe { precision: PrecisionKind::Bf16, ..RESNET50 }, 1).unwrap();
        assert!(half.activations.low < got.activations.low * 6 / 10);
        let recomputed = estimate(&Recipe { recompute: true, ..RESNET50 }, 1).unwrap();
        assert!(of_image(&recomputed) < of_image(&got) / 2);
    }

    #[test]
    fn the_largest_micro_batch_fits_and_the_next_does_not() {
        let got = estimate(&Recipe { precision: PrecisionKind::Bf16, ..RESNET50 }, 1).unwrap();
        let memory = 40 << 30;
        let (safe, optimistic) = got.largest_micro(memory);
        assert!(safe < optimistic);
        assert!(got.total(safe).high <= memory && got.total(safe + 1).high > memory);
        assert!(got.total(optimistic).low <= memory && got.total(optimistic + 1).low > memory);
        assert_eq!(got.largest_micro(1), (0, 0));
        assert_eq!(got.largest_micro(u64::MAX), (MOST_IMAGES - 1, MOST_IMAGES - 1), "more is not thought of");
    }

    #[test]
    fn more_channels_take_more_weights_and_larger_images() {
        let [three, twelve] = [None, Some(12)].map(|channels| estimate(&Recipe { channels, ..RESNET50 }, 1).unwrap());
        assert_eq!(twelve.parameters - three.parameters, 9 * 64 * 7 * 7);
        let images = 9 * 224 * 224 * 4;
        assert!(twelve.activations.high - three.activations.high >= images, "{twelve:?}");
    }

    #[test]
    fn what_cannot_be_is_said() {
        assert!(estimate(&Recipe { model: "resnet19", ..RESNET50 }, 1).is_err());
        let error = estimate(&Recipe { model: "lenet", image_size: Some(2), ..RESNET50 }, 1).unwrap_err();
        assert!(format!("{error:#}").starts_with("--image-size: "), "{error:#}");
    }
}
