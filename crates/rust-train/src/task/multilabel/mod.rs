//! The task of telling which of K classes are there: several at once, or none.

mod ranking;

use dataset::{Batch, ImageSet};
use flags::{ClassWeights, LossKind};
use model_card::MULTILABEL;
use report::{Curve, Evaluation, Metric, OutputScores, Scores};
use tch::{Device, Kind, Reduction, Tensor};
use world::Channel;

use super::rows::Rows;
use super::{Scorer, Show, Targets, Task, own_targets};
use ranking::{Ranking, best_f1};

/// How much a class that is there counts less where it is easily told, and one that is not; and from which probability on
/// one that is not counts at all (Ridnik et al., 2021: the values of the paper).
const GAMMA_PRESENT: f64 = 1.0;
const GAMMA_ABSENT: f64 = 4.0;
const CLIP: f64 = 0.05;

/// Images have K labels, each 0 or 1 (or between, where images are mixed); the first output of a model is a logit for each.
#[derive(Debug)]
pub(crate) struct Multilabel {
    classes: usize,
    loss: LossKind,
    /// How much a class counts where it is there.
    positive_weights: Option<Tensor>,
}

impl Multilabel {
    /// The task of a run of these training images.
    pub(crate) fn new(loss: Option<LossKind>, weights: ClassWeights, train: &ImageSet, device: Device) -> Self {
        let classes = train.target_width();
        let positive_weights = match weights {
            ClassWeights::Equal => None,
            ClassWeights::Balanced => {
                let mut present = vec![0_usize; classes];
                for index in 0..train.len() {
                    let there = train.targets(index).iter().zip(&mut present).filter(|(target, _)| **target > 0.5);
                    there.for_each(|(_, present)| *present += 1);
                }
                let weight = |&present: &usize| (train.len() - present) as f32 / present.max(1) as f32;
                Some(Tensor::from_slice(&present.iter().map(weight).collect::<Vec<_>>()).to_device(device))
            }
        };
        Self { classes, loss: loss.unwrap_or(LossKind::Bce), positive_weights }
    }

    /// The task of weights that are only evaluated.
    pub(crate) fn to_evaluate(classes: usize) -> Self {
        Self { classes, loss: LossKind::Bce, positive_weights: None }
    }
}

impl Task for Multilabel {
    fn name(&self) -> &str {
        MULTILABEL
    }

    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        Targets::of(vec![own_targets(batch, self.classes, |_, target| target, device)])
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        let (logits, target) = (&outputs[0], &targets.tensors[0]);
        match self.loss {
            LossKind::Asymmetric => asymmetric(logits, target),
            _ => logits.binary_cross_entropy_with_logits(
                target,
                None::<&Tensor>,
                self.positive_weights.as_ref(),
                Reduction::Mean,
            ),
        }
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        Box::new(Ranked {
            rows: Rows::new(self.classes),
            classes: self.classes,
            rankings: Vec::new(),
            scores: Scores::default(),
        })
    }

    fn takes_mixed_images(&self) -> bool {
        true
    }
}

/// The asymmetric loss, a mean over images and classes.
fn asymmetric(logits: &Tensor, target: &Tensor) -> Tensor {
    let present = logits.sigmoid();
    let absent: Tensor = (Tensor::from(1.0f32 + CLIP as f32).to_device(present.device()) - &present).clamp_max(1.0);
    let log = |probability: &Tensor| probability.clamp_min(1e-8).log();
    let without: Tensor = target.ones_like() - target;
    let loss = target * log(&present) + &without * log(&absent);
    // The focus is no part of what is derived, as in the authors' own code.
    let focus = tch::no_grad(|| {
        let certainty: Tensor = &present * target + &absent * &without;
        let gamma: Tensor = target * GAMMA_PRESENT + &without * GAMMA_ABSENT;
        (certainty.ones_like() - certainty).pow(&gamma)
    });
    -(loss * focus).mean(Kind::Float)
}

/// The scores of all samples together.
#[derive(Debug)]
struct Ranked {
    rows: Rows,
    classes: usize,
    /// Of all samples: they are sorted once, and asked for by several.
    rankings: Vec<Ranking>,
    scores: Scores,
}

/// The mean of what there is.
fn mean(values: impl Iterator<Item = Option<f64>>) -> f64 {
    let values: Vec<f64> = values.flatten().collect();
    values.iter().sum::<f64>() / values.len() as f64
}

impl Scorer for Ranked {
    fn metrics(&self) -> Vec<Metric> {
        vec![
            Metric::share("map", "mAP"),
            Metric::share("auroc", "AUROC"),
            Metric::share("f1", "F1"),
            Metric::number("threshold"),
        ]
    }

    fn add(&mut self, outputs: &[Tensor], targets: &Targets, first: usize) -> anyhow::Result<()> {
        self.rows.add(&outputs[0], targets, first)
    }

    fn gather(&mut self, channel: &Channel) -> anyhow::Result<()> {
        self.rows.gather(channel)?;
        let columns = || (0..self.classes).map(|class| self.rows.column(class));
        self.rankings = columns().map(Ranking::new).collect();
        let (f1, threshold) = best_f1(columns().flatten());
        let values = [
            ("map", mean(self.rankings.iter().map(Ranking::average_precision))),
            ("auroc", mean(self.rankings.iter().map(Ranking::auroc))),
            ("f1", f1),
            ("threshold", threshold),
        ];
        self.scores = Scores(values.map(|(name, value)| (name.to_owned(), value)).to_vec());
        Ok(())
    }

    fn samples(&self) -> u64 {
        self.rows.samples() as u64
    }

    /// The binary cross-entropy.
    fn loss(&self) -> f64 {
        let of = |(logit, target): (f32, f32)| {
            let (logit, target) = (f64::from(logit), f64::from(target));
            logit.max(0.0) - logit * target + (-logit.abs()).exp().ln_1p()
        };
        let sum: f64 = (0..self.classes).flat_map(|class| self.rows.column(class)).map(of).sum();
        sum / (self.rows.samples() * self.classes) as f64
    }

    fn scores(&self) -> Scores {
        self.scores.clone()
    }

    fn evaluation(&self, epoch: Option<usize>, classes: &[String], _: &Show<'_>) -> Evaluation {
        let output = |(ranking, name): (&Ranking, &String)| OutputScores {
            name: name.clone(),
            support: ranking.present() as u64,
            scores: Scores(
                [("ap", ranking.average_precision()), ("auroc", ranking.auroc())]
                    .map(|(name, value)| (name.to_owned(), value.unwrap_or(f64::NAN)))
                    .to_vec(),
            ),
            curves: vec![Curve::new("pr", ranking.precision_recall()), Curve::new("roc", ranking.roc())],
        };
        Evaluation {
            outputs: self.rankings.iter().zip(classes).map(output).collect(),
            ..Evaluation::plain(epoch, self.loss(), self.samples(), self.metrics(), self.scores())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_those_of_pytorch_and_of_the_paper_s_code() {
        let logits = Tensor::from_slice(&[2.0f32, -1.0, 0.5, -3.0]).view([2, 2]);
        let targets = Targets::of(vec![Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0]).view([2, 2])]);
        let loss = |loss, positive_weights: Option<Tensor>| {
            let task = Multilabel { classes: 2, loss, positive_weights };
            task.loss(&[logits.shallow_clone()], &targets).double_value(&[])
        };
        // torch 2.11: binary_cross_entropy_with_logits, with and without pos_weight [2, 3]; alibaba's AsymmetricLoss(4, 1) / 4.
        for (got, expected) in [
            (loss(LossKind::Bce, None), 1.115_713_6),
            (loss(LossKind::Bce, Some(Tensor::from_slice(&[2.0f32, 3.0]))), 2.671_739_1),
            (loss(LossKind::Asymmetric, None), 0.752_739_1),
        ] {
            assert!((got - expected).abs() < 1e-5, "{got} and {expected}");
        }
    }
}
