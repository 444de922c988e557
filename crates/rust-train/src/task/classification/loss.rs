//! What is minimized: the cross-entropy of the logits with what the images are, or are mixed of.

use dataset::{class_counts, class_weights};
use flags::{ClassWeights, LossKind, OptimizationArgs};
use tch::{Device, Kind, Reduction, Tensor};

use crate::task::Targets;

/// How far logits are from their targets.
#[derive(Debug)]
pub(crate) struct Criterion {
    /// Share of the target that is spread over all classes, 0–1.
    label_smoothing: f64,
    /// How much an image of each class counts. Over the training images their mean is 1.
    class_weights: Option<Tensor>,
    /// Whether each class is told apart from all others by itself.
    binary: Option<Binary>,
}

/// Binary cross-entropy of each class.
#[derive(Clone, Copy, Debug)]
struct Binary {
    /// Targets above this are 1, others 0; `None`: they are as they are mixed.
    threshold: Option<f64>,
}

impl Criterion {
    /// The cross-entropy as it is.
    pub(super) const PLAIN: Self = Self { label_smoothing: 0.0, class_weights: None, binary: None };

    /// The loss of a run whose training images have these `labels`, of so many `classes`.
    pub(crate) fn new(
        args: &OptimizationArgs,
        loss: Option<LossKind>,
        labels: &[i64],
        classes: usize,
        device: Device,
    ) -> Self {
        let class_weights = match args.class_weights {
            ClassWeights::Equal => None,
            ClassWeights::Balanced => {
                let weights = class_weights(&class_counts(labels, classes));
                let weights: Vec<_> = weights.into_iter().map(|weight| weight as f32).collect();
                Some(Tensor::from_slice(&weights).to_device(device))
            }
        };
        let binary = (loss == Some(LossKind::Bce)).then_some(Binary { threshold: args.bce_threshold });
        Self { label_smoothing: args.label_smoothing, class_weights, binary }
    }

    /// Mean loss of `logits`, N×classes.
    ///
    /// With class weights each image's loss is PyTorch's, and this is their mean: PyTorch's divides by the weights of the
    /// batch, and so would depend on which images are on which rank.
    pub(super) fn loss(&self, logits: &Tensor, targets: &Targets) -> Tensor {
        if let Some(binary) = self.binary {
            return self.binary_cross_entropy(binary, logits, targets);
        }
        let own = || self.cross_entropy(logits, &targets.tensors[0]);
        match targets.tensors.get(1) {
            None => own(),
            // A share of each class, mixed already.
            Some(shares) if shares.kind() == Kind::Float => self.cross_entropy(logits, shares),
            Some(labels) => own() * targets.share + self.cross_entropy(logits, labels) * (1.0 - targets.share),
        }
    }

    /// The mean over images and classes, as timm's `BinaryCrossEntropy`.
    fn binary_cross_entropy(&self, binary: Binary, logits: &Tensor, targets: &Targets) -> Tensor {
        let logits = logits.to_kind(Kind::Float);
        let one_hot = |labels: &Tensor, share: f64| {
            let shares = labels.unsqueeze(1).ones_like().to_kind(Kind::Float) * share;
            logits.detach().zeros_like().scatter_add(1, &labels.unsqueeze(1), &shares)
        };
        let own = &targets.tensors[0];
        let shares = match targets.tensors.get(1) {
            None => one_hot(own, 1.0),
            Some(shares) if shares.kind() == Kind::Float => shares.shallow_clone(),
            Some(labels) => one_hot(own, targets.share) + one_hot(labels, 1.0 - targets.share),
        };
        let classes = logits.size()[1] as f64;
        let smoothed = shares * (1.0 - self.label_smoothing) + self.label_smoothing / classes;
        let target = match binary.threshold {
            Some(threshold) => smoothed.gt(threshold).to_kind(Kind::Float),
            None => smoothed,
        };
        let none = None::<&Tensor>;
        logits.binary_cross_entropy_with_logits(&target, none, none, Reduction::Mean)
    }

    fn cross_entropy(&self, logits: &Tensor, labels: &Tensor) -> Tensor {
        let of = |weights: Option<&Tensor>, reduction| {
            logits.cross_entropy_loss(labels, weights, reduction, -100, self.label_smoothing)
        };
        match &self.class_weights {
            None => of(None, Reduction::Mean),
            // What is spread over all classes is weighted class by class, too.
            weights => of(weights.as_ref(), Reduction::None).mean(logits.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINARY: [f64; 5] = [0.518_970_430, 0.555_081_546, 0.868_970_573, 0.870_081_604, 0.518_970_430];
    const LOGITS: [f32; 6] = [2.0, 0.0, -1.0, 0.5, 1.0, 0.0];

    fn loss(criterion: &Criterion, labels: &[i64], mixed: Option<(&[i64], f64)>) -> f64 {
        let labels = Tensor::from_slice(labels);
        let targets = match mixed {
            None => Targets::of(vec![labels]),
            Some((others, share)) => Targets { tensors: vec![labels, Tensor::from_slice(others)], share },
        };
        criterion.loss(&Tensor::from_slice(&LOGITS).view([2, 3]), &targets).double_value(&[])
    }

    #[test]
    fn a_mixed_batch_has_two_losses() {
        let (first, second) = (loss(&Criterion::PLAIN, &[0, 1], None), loss(&Criterion::PLAIN, &[1, 2], None));
        let mixed = loss(&Criterion::PLAIN, &[0, 1], Some((&[1, 2], 0.3)));
        assert!((mixed - (0.3 * first + 0.7 * second)).abs() < 1e-6);
    }

    /// torch 2.11: `cross_entropy(logits, labels, label_smoothing=0.1)` with class indices, and with the probabilities
    /// 0.3 for 0, 1 and 0.7 for 1, 2.
    #[test]
    fn smoothed_losses_are_pytorchs() {
        let smooth = Criterion { label_smoothing: 0.1, ..Criterion::PLAIN };
        let mixed = loss(&smooth, &[0, 1], Some((&[1, 2], 0.3)));
        let cases = [(loss(&smooth, &[0, 1], None), 0.533_391_178), (mixed, 1.478_391_178)];
        for (got, expected) in cases {
            assert!((got - expected).abs() < 1e-6, "{got}, not {expected}");
        }
    }

    /// `cross_entropy(logits, labels, weight=weights, label_smoothing=0.1, reduction="none").mean()`, written out.
    #[test]
    fn smoothed_and_weighted_losses_are_pytorchs() {
        let weights = Some(Tensor::from_slice(&[4.0f32 / 6.0, 2.0, 0.5]));
        let both = Criterion { label_smoothing: 0.1, class_weights: weights, binary: None };
        let smoothed = |row: [f64; 3], label: usize| {
            let weights = [4.0 / 6.0, 2.0, 0.5];
            let sum = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            let logs = row.map(|logit| sum - logit);
            let spread: f64 = logs.iter().zip(weights).map(|(log, weight)| log * weight).sum();
            0.9 * weights[label] * logs[label] + 0.1 / 3.0 * spread
        };
        let expected = (smoothed([2.0, 0.0, -1.0], 0) + smoothed([0.5, 1.0, 0.0], 1)) / 2.0;
        let got = loss(&both, &[0, 1], None);
        assert!((got - expected).abs() < 1e-6, "{got}, not {expected}");
    }

    /// torch 2.11: `cross_entropy(logits, shares, label_smoothing=0.1)`, and with `weight=[2/3, 2, 1/2]`.
    #[test]
    fn losses_of_shares_are_pytorchs() {
        let shares = Tensor::from_slice(&[0.7f32, 0.2, 0.1, 0.0, 0.5, 0.5]).view([2, 3]);
        let weights = Tensor::from_slice(&[4.0f32 / 6.0, 2.0, 0.5]);
        for (class_weights, expected) in [(None, 1.073_391_183), (Some(weights), 1.143_135_953)] {
            let criterion = Criterion { label_smoothing: 0.1, class_weights, binary: None };
            let targets = Targets::of(vec![Tensor::from_slice(&[0_i64, 1]), shares.shallow_clone()]);
            let got = criterion.loss(&Tensor::from_slice(&LOGITS).view([2, 3]), &targets).double_value(&[]);
            assert!((got - expected).abs() < 1e-6, "{got}, not {expected}");
        }
    }

    /// timm 1.0.31: `BinaryCrossEntropy(smoothing, target_threshold)` of labels, and of what `mixup_target` makes of two with a share of 0.3.
    #[test]
    fn binary_losses_are_timms() {
        let of = |label_smoothing, threshold| Criterion {
            label_smoothing,
            class_weights: None,
            binary: Some(Binary { threshold }),
        };
        let mixed: (&[i64], f64) = (&[1, 2], 0.3);
        let cases = [
            (of(0.0, None), None, BINARY[0]),
            (of(0.1, None), None, BINARY[1]),
            (of(0.0, None), Some(mixed), BINARY[2]),
            (of(0.1, None), Some(mixed), BINARY[3]),
            (of(0.1, Some(0.2)), Some(mixed), BINARY[4]),
        ];
        for (criterion, mixed, expected) in cases {
            let got = loss(&criterion, &[0, 1], mixed);
            assert!((got - expected).abs() < 1e-6, "{criterion:?}: {got}, not {expected}");
        }
    }

    #[test]
    fn rare_classes_count_more() {
        let weights = class_weights(&class_counts(&[0, 0, 0, 1], 3));
        assert_eq!(weights, [4.0 / 6.0, 2.0, 0.0]);
        let weights = Tensor::from_slice(&weights).to_kind(Kind::Float);
        let weighted = Criterion { class_weights: Some(weights), ..Criterion::PLAIN };
        let [first, second] = [0, 1].map(|row| {
            let logits = Tensor::from_slice(&LOGITS).view([2, 3]).narrow(0, row, 1);
            -logits.log_softmax(1, Kind::Double).double_value(&[0, row])
        });
        let expected = (first * 4.0 / 6.0 + second * 2.0) / 2.0;
        assert!((loss(&weighted, &[0, 1], None) - expected).abs() < 1e-6);
    }
}
