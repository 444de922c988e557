//! What is minimized: cross-entropy of pixels, soft Dice of classes, or both.

use dataset::IGNORED;
use flags::LossKind;
use tch::{Kind, Reduction, Tensor};

/// How far logits are from masks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Criterion {
    pub kind: LossKind,
    /// Share of the target that is spread over all classes, 0–1: of the cross-entropy.
    pub label_smoothing: f64,
}

impl Criterion {
    /// The loss of each image, N numbers: means over its own pixels and classes, so that it depends on no other image, nor on how many
    /// there are on a rank. Of an image without a pixel that counts it is 0.
    ///
    /// `logits` are N×classes×H×W, in whose precision it is computed, `masks` N×H×W classes, 255 for none.
    pub(super) fn each(self, logits: &Tensor, masks: &Tensor) -> Tensor {
        match self.kind {
            LossKind::Dice => dice(logits, masks),
            LossKind::CeDice => self.cross_entropy(logits, masks) + dice(logits, masks),
            _ => self.cross_entropy(logits, masks),
        }
    }

    fn cross_entropy(self, logits: &Tensor, masks: &Tensor) -> Tensor {
        let (none, ignored) = (None::<&Tensor>, i64::from(IGNORED));
        let pixels = logits.cross_entropy_loss(masks, none, Reduction::None, ignored, self.label_smoothing);
        let sum = |tensor: &Tensor| tensor.sum_dim_intlist([1, 2].as_slice(), false, logits.kind());
        sum(&pixels) / sum(&masks.ne(ignored)).clamp_min(1.0)
    }
}

/// One minus the mean of the soft Dice coefficients, 2·Σpt / (Σp + Σt), of the classes that the image has (Milletari et al., 2016).
fn dice(logits: &Tensor, masks: &Tensor) -> Tensor {
    let (classes, kind) = (logits.size()[1], logits.kind());
    let numbers = Tensor::arange(classes, (Kind::Int64, masks.device())).view([1, classes, 1, 1]);
    let masks = masks.unsqueeze(1);
    // Of each class where it is: nothing is added up in an order that a device chooses.
    let truth = masks.eq_tensor(&numbers);
    let counted = masks.ne(i64::from(IGNORED));
    let probabilities = logits.softmax(1, kind) * &counted;
    let sum = |tensor: &Tensor| tensor.sum_dim_intlist([2, 3].as_slice(), false, kind);
    let (both, pixels) = (sum(&(&probabilities * &truth)), sum(&truth));
    let coefficients: Tensor = both * 2.0 / (sum(&probabilities) + &pixels).clamp_min(1e-7);
    let is_there = pixels.gt(0.0).to_kind(kind);
    let missed = (is_there.ones_like() - coefficients) * &is_there;
    let there = is_there.sum_dim_intlist([1].as_slice(), false, kind).clamp_min(1.0);
    missed.sum_dim_intlist([1].as_slice(), false, kind) / there
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits() -> Tensor {
        let values: Vec<f32> = (0..2 * 3 * 2 * 2).map(|index: i32| (index * 7 % 11) as f32 / 4.0 - 1.0).collect();
        Tensor::from_slice(&values).view([2, 3, 2, 2])
    }

    fn masks() -> Tensor {
        Tensor::from_slice(&[0_i64, 2, 255, 1, 1, 1, 1, 0]).view([2, 2, 2])
    }

    fn each(kind: LossKind, label_smoothing: f64) -> Vec<f64> {
        let loss = Criterion { kind, label_smoothing }.each(&logits(), &masks());
        Vec::try_from(loss.to_kind(Kind::Double)).unwrap()
    }

    /// torch 2.11: `cross_entropy(logits[i:i+1], masks[i:i+1], ignore_index=255, label_smoothing=…)` of each image; and soft Dice
    /// written out there.
    #[test]
    fn losses_are_pytorchs() {
        let cases = [
            (each(LossKind::Ce, 0.0), PYTORCH[0]),
            (each(LossKind::Ce, 0.1), PYTORCH[1]),
            (each(LossKind::Dice, 0.0), PYTORCH[2]),
        ];
        for (got, expected) in cases {
            assert!(got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6), "{got:?}");
        }
        let both = each(LossKind::CeDice, 0.0);
        assert!(
            both.iter()
                .zip(PYTORCH[0].iter().zip(PYTORCH[2]))
                .all(|(both, (ce, dice))| (both - ce - dice).abs() < 1e-6)
        );
    }

    const PYTORCH: [[f64; 2]; 3] =
        [[1.389_920_235, 1.278_468_251], [1.389_920_235, 1.286_801_577], [0.695_801_810, 0.613_439_140]];

    #[test]
    fn pixels_without_a_class_pull_nowhere() {
        let empty = Tensor::full([2, 2, 2], 255, (Kind::Int64, tch::Device::Cpu));
        for kind in [LossKind::Ce, LossKind::Dice, LossKind::CeDice] {
            let criterion = Criterion { kind, label_smoothing: 0.1 };
            let own = logits().set_requires_grad(true);
            let loss = criterion.each(&own, &empty);
            assert_eq!(Vec::<f32>::try_from(&loss).unwrap(), [0.0, 0.0], "{kind:?}");
            loss.sum(Kind::Float).backward();
            assert_eq!(own.grad().abs().max().double_value(&[]), 0.0);
            // And one of them among others has no gradient.
            let own = logits().set_requires_grad(true);
            criterion.each(&own, &masks()).sum(Kind::Float).backward();
            let of_pixel = own.grad().select(0, 0).select(1, 1).select(1, 0);
            assert_eq!(of_pixel.abs().max().double_value(&[]), 0.0, "{kind:?}");
            assert!(own.grad().abs().max().double_value(&[]) > 0.0);
        }
    }
}
