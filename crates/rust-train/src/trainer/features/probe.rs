//! A linear probe: multinomial logistic regression on features, the head that fits them best.
//!
//! ```text
//! minimized: mean over all images of −log softmax(W·f + b)[class]  +  penalty/2 · ‖W‖²
//! ```
//!
//! It has one minimum, which depends neither on the number of ranks nor on an order, a rate or a seed. scikit-learn's `LogisticRegression`
//! with `C = 1 / (penalty · images)` minimizes the same.

use std::fmt;

use tch::{Kind, Tensor, no_grad};
use torch_ext::{ProcessGroup, ReduceOp};

use super::Features;
use super::minimize::{Minimum, minimize};
use crate::errors::usage;

/// Images that are looked at together.
const TOGETHER: i64 = 4096;

/// Of so many images one is held out to choose the penalty by.
const HELD_OUT: i64 = 5;

/// The penalties that are tried, the strongest first, as multiples of the features' variance.
const PENALTIES: [f64; 8] = [1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];

/// How near to the minimum: to choose a penalty, and at the end.
const NEAR: [f64; 2] = [1e-3, 1e-6];

/// The most iterations on the way.
const ITERATIONS: usize = 1000;

/// A head that was fitted.
#[derive(Debug)]
pub(super) struct Probe {
    /// Classes×F.
    weight: Tensor,
    bias: Tensor,
    penalty: f64,
    /// The mean loss of the images that were held out to choose the penalty; `None` where that was given.
    held_out: Option<f64>,
    /// The mean loss of all images.
    pub loss: f64,
    iterations: usize,
    is_reached: bool,
}

/// The best penalty, the head that it gives without the images that are held out, and their mean loss.
struct Chosen {
    at: Tensor,
    penalty: f64,
    loss: f64,
}

/// Says whether to go on: the same on all ranks.
type GoesOn<'g> = dyn FnMut() -> anyhow::Result<bool> + 'g;

/// Which images count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    /// Those that are not held out.
    Kept,
    HeldOut,
}

/// The features of all ranks, as a function to be minimized.
struct Problem<'p> {
    features: &'p Features,
    group: &'p ProcessGroup,
    classes: i64,
    /// Of all features over all ranks: where they are centred, the same head has another bias, and is found sooner.
    mean: Tensor,
    /// Of each image, its number in the set.
    numbers: Tensor,
}

impl Probe {
    /// Fits a head of so many `classes` with this `penalty`, or with the one under which images that are held out have the least loss.
    /// `goes_on` is asked again and again, and where it says no there is no head. Collective: the same on all ranks.
    pub(super) fn fit(
        features: &Features,
        classes: usize,
        penalty: Option<f64>,
        group: &ProcessGroup,
        goes_on: &mut GoesOn<'_>,
    ) -> anyhow::Result<Option<Self>> {
        no_grad(|| {
            let problem = Problem::new(features, classes, group)?;
            let (start, penalty, held_out) = match penalty {
                Some(penalty) => (problem.zero(), penalty, None),
                None => {
                    let Some(Chosen { at, penalty, loss }) = problem.choose_penalty(goes_on)? else { return Ok(None) };
                    (at, penalty, Some(loss))
                }
            };
            let minimum = problem.minimum(&start, penalty, Part::All, NEAR[1], goes_on)?;
            let Some(Minimum { at, iterations, is_reached }) = minimum else { return Ok(None) };
            let loss = problem.loss(&at, Part::All)?;
            let (weight, bias) = problem.parts(&at);
            let bias = bias - weight.mv(&problem.mean);
            group.broadcast(&[bias.shallow_clone()], 0)?; // a sum of many numbers
            Ok(Some(Self { weight, bias, penalty, held_out, loss, iterations, is_reached }))
        })
    }

    /// Makes a model's head this one.
    pub(super) fn set(&self, mut weight: Tensor, mut bias: Tensor) -> anyhow::Result<()> {
        no_grad(|| {
            weight.f_copy_(&self.weight)?;
            bias.f_copy_(&self.bias)?;
            Ok(())
        })
    }
}

impl<'p> Problem<'p> {
    fn new(features: &'p Features, classes: usize, group: &'p ProcessGroup) -> anyhow::Result<Self> {
        let [count, width] = features.rows.size()[..] else { unreachable!("features are rows") };
        let double = (Kind::Double, features.rows.device());
        let sums = Tensor::zeros([width + 1], double);
        for rows in features.rows.f_split(TOGETHER, 0)? {
            let _ =
                sums.narrow(0, 0, width).f_add_(&rows.to_kind(Kind::Double).sum_dim_intlist(0, false, Kind::Double))?;
        }
        let _ = sums.narrow(0, width, 1).f_add_scalar_(count)?;
        sum(group, &sums)?;
        let mean = sums.narrow(0, 0, width) / sums.narrow(0, width, 1);
        let numbers = Tensor::arange(count, (Kind::Int64, double.1)) + features.first as i64;
        Ok(Self { features, group, classes: classes as i64, mean, numbers })
    }

    fn zero(&self) -> Tensor {
        let width = self.mean.size()[0];
        Tensor::zeros([self.classes * (width + 1)], (Kind::Double, self.mean.device()))
    }

    /// Weight and bias in a row of all numbers.
    fn parts(&self, at: &Tensor) -> (Tensor, Tensor) {
        let weights = self.classes * self.mean.size()[0];
        (at.narrow(0, 0, weights).view([self.classes, -1]), at.narrow(0, weights, self.classes))
    }

    /// Calls `look` with the features, centred, and the classes of the images that count: a few thousand at a time.
    fn each(&self, part: Part, mut look: impl FnMut(&Tensor, &Tensor) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let chunks = |tensor: &Tensor| tensor.f_split(TOGETHER, 0);
        let Features { rows, labels, .. } = self.features;
        let all = chunks(rows)?.into_iter().zip(chunks(labels)?).zip(chunks(&self.numbers)?);
        for ((mut rows, mut labels), numbers) in all {
            if part != Part::All {
                let is_held_out = numbers.remainder(HELD_OUT).eq(HELD_OUT - 1);
                let counts = if part == Part::HeldOut { is_held_out } else { is_held_out.logical_not() };
                let places = counts.nonzero().squeeze_dim(1);
                (rows, labels) = (rows.index_select(0, &places), labels.index_select(0, &places));
            }
            if labels.size()[0] > 0 {
                look(&(rows.to_kind(Kind::Double) - &self.mean), &labels)?;
            }
        }
        Ok(())
    }

    /// The mean loss, without the penalty.
    fn loss(&self, at: &Tensor, part: Part) -> anyhow::Result<f64> {
        let (weight, bias) = self.parts(at);
        let sums = Tensor::zeros([2], (Kind::Double, at.device()));
        self.each(part, |rows, labels| {
            let logits = rows.f_linear(&weight, Some(&bias))?;
            let losses = logits.logsumexp(1, false) - logits.gather(1, &labels.unsqueeze(1), false).squeeze_dim(1);
            let _ = sums.narrow(0, 0, 1).f_add_(&losses.sum(Kind::Double))?;
            let _ = sums.narrow(0, 1, 1).f_add_scalar_(labels.size()[0])?;
            Ok(())
        })?;
        sum(self.group, &sums)?;
        Ok(sums.double_value(&[0]) / sums.double_value(&[1]))
    }

    /// The minimum of the mean loss and the `penalty`.
    fn minimum(
        &self,
        start: &Tensor,
        penalty: f64,
        part: Part,
        tolerance: f64,
        goes_on: &mut GoesOn<'_>,
    ) -> anyhow::Result<Option<Minimum>> {
        let length = start.size()[0];
        let mut function = |at: &Tensor| {
            if !goes_on()? {
                return Ok(None);
            }
            let (weight, bias) = self.parts(at);
            // The gradient, the loss, and of how many images they are.
            let sums = Tensor::zeros([length + 2], (Kind::Double, at.device()));
            let (of_weight, of_bias) = self.parts(&sums.narrow(0, 0, length));
            self.each(part, |rows, labels| {
                let logits = rows.f_linear(&weight, Some(&bias))?;
                let logarithms = logits.f_log_softmax(1, Kind::Double)?;
                let labels = labels.unsqueeze(1);
                let loss = -logarithms.gather(1, &labels, false).sum(Kind::Double);
                let off = logarithms.exp().scatter_add(1, &labels, &-labels.ones_like().to_kind(Kind::Double));
                let (mut of_weight, mut of_bias) = (of_weight.shallow_clone(), of_bias.shallow_clone());
                let _ = of_weight.f_addmm_(&off.tr(), rows)?;
                let _ = of_bias.f_add_(&off.sum_dim_intlist(0, false, Kind::Double))?;
                let _ = sums.narrow(0, length, 1).f_add_(&loss)?;
                let _ = sums.narrow(0, length + 1, 1).f_add_scalar_(labels.size()[0])?;
                Ok(())
            })?;
            sum(self.group, &sums)?;
            let count = sums.double_value(&[length + 1]);
            let mean = sums.narrow(0, 0, length) / count;
            let _ = self.parts(&mean).0.f_add_(&(&weight * penalty))?;
            let squares = self.dot(&weight, &weight)?;
            anyhow::Ok(Some((sums.double_value(&[length]) / count + penalty / 2.0 * squares, mean)))
        };
        minimize(start, tolerance, ITERATIONS, &mut function, &|one, other| self.dot(one, other))
    }

    /// The product of two rows of numbers, which all ranks have: to rank 0's bits.
    fn dot(&self, one: &Tensor, other: &Tensor) -> anyhow::Result<f64> {
        let product = (one * other).sum(Kind::Double).reshape([1]);
        self.group.broadcast(&[product.shallow_clone()], 0)?;
        Ok(product.double_value(&[0]))
    }

    /// The penalty under which images that are held out have the least loss.
    fn choose_penalty(&self, goes_on: &mut GoesOn<'_>) -> anyhow::Result<Option<Chosen>> {
        let sums = Tensor::zeros([2], (Kind::Double, self.mean.device()));
        self.each(Part::All, |rows, _| {
            let _ = sums.narrow(0, 0, 1).f_add_(&rows.square().sum(Kind::Double))?;
            let _ = sums.narrow(0, 1, 1).f_add_scalar_(rows.numel() as i64)?;
            Ok(())
        })?;
        sum(self.group, &sums)?;
        let variance = sums.double_value(&[0]) / sums.double_value(&[1]);
        if !(variance > 0.0 && variance.is_finite()) {
            return Err(usage("--linear-probe: the features of all images are the same, or not finite"));
        }
        let mut best = Chosen { at: self.zero(), penalty: f64::NAN, loss: f64::INFINITY };
        for share in PENALTIES {
            let penalty = share * variance;
            let minimum = self.minimum(&best.at, penalty, Part::Kept, NEAR[0], goes_on)?;
            let Some(Minimum { at, .. }) = minimum else { return Ok(None) };
            let loss = self.loss(&at, Part::HeldOut)?;
            if loss >= best.loss {
                break; // it only gets worse from here on
            }
            best = Chosen { at, penalty, loss };
        }
        match best.loss.is_finite() {
            true => Ok(Some(best)),
            false => Err(usage("--linear-probe: too few images to choose a penalty by; give one with --probe-penalty")),
        }
    }
}

/// Makes `numbers` their sum over all ranks, to the same bits on each: all take the same way by them.
fn sum(group: &ProcessGroup, numbers: &Tensor) -> anyhow::Result<()> {
    group.all_reduce(numbers, ReduceOp::Sum)?;
    Ok(group.broadcast(&[numbers.shallow_clone()], 0)?)
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linear probe: loss {:.4}, penalty {:.3e}", self.loss, self.penalty)?;
        if let Some(loss) = self.held_out {
            write!(f, ", under which a fifth of the training images had the least loss, {loss:.4}")?;
        }
        write!(f, "; {} iterations", self.iterations)?;
        if self.is_reached { Ok(()) } else { write!(f, ", and not yet at the minimum") }
    }
}
