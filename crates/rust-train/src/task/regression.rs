//! The task of telling K numbers of an image.

use dataset::{Batch, ImageSet};
use flags::LossKind;
use model_card::{REGRESSION, TargetUnit};
use report::{Curve, Evaluation, Metric, OutputScores, Scores};
use tch::{Device, Reduction, Tensor};
use world::Channel;

use super::rows::Rows;
use super::{Scorer, Show, Targets, Task, own_targets};

/// Images have K numbers; the first output of a model is each of them, less its mean over the training images, in their standard
/// deviations. Scores are in the numbers' own units.
#[derive(Debug)]
pub(crate) struct Regression {
    units: Vec<TargetUnit>,
    loss: LossKind,
}

impl Regression {
    /// The task of a run of these training images.
    pub(crate) fn new(loss: Option<LossKind>, train: &ImageSet) -> Self {
        let of = |target: usize| (0..train.len()).map(move |index| train.targets(index)[target]);
        let unit = |target| {
            let count = train.len() as f64;
            let mean = of(target).sum::<f64>() / count;
            let variance = of(target).map(|number| (number - mean).powi(2)).sum::<f64>() / count;
            TargetUnit { mean, std: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
        };
        Self { units: (0..train.target_width()).map(unit).collect(), loss: loss.unwrap_or(LossKind::Mse) }
    }

    /// The task of weights that are only evaluated, whose outputs are in these units.
    pub(crate) fn to_evaluate(units: Vec<TargetUnit>) -> Self {
        Self { units, loss: LossKind::Mse }
    }

    fn distance(&self, outputs: &Tensor, targets: &Tensor) -> Tensor {
        match self.loss {
            LossKind::L1 => outputs.l1_loss(targets, Reduction::Mean),
            LossKind::Huber => outputs.huber_loss(targets, Reduction::Mean, 1.0),
            _ => outputs.mse_loss(targets, Reduction::Mean),
        }
    }
}

impl Task for Regression {
    fn name(&self) -> &str {
        REGRESSION
    }

    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        let standardized = |column: usize, target: f64| {
            let TargetUnit { mean, std } = self.units[column];
            (target - mean) / std
        };
        Targets::of(vec![own_targets(batch, self.units.len(), standardized, device)])
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        self.distance(&outputs[0], &targets.tensors[0])
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        Box::new(Errors { rows: Rows::new(self.units.len()), units: self.units.clone(), loss: self.loss })
    }

    fn takes_mixed_images(&self) -> bool {
        true
    }

    fn units(&self) -> Vec<TargetUnit> {
        self.units.clone()
    }
}

/// The errors of all samples.
#[derive(Debug)]
struct Errors {
    rows: Rows,
    units: Vec<TargetUnit>,
    loss: LossKind,
}

/// The scores of one target, in its own unit.
struct Error {
    r2: f64,
    mae: f64,
    rmse: f64,
}

impl Errors {
    /// What the model gives for a target, and what it should, in its own unit.
    fn pairs(&self, target: usize) -> impl Iterator<Item = (f64, f64)> + Clone {
        let TargetUnit { mean, std } = self.units[target];
        let unit = move |number: f32| f64::from(number) * std + mean;
        self.rows.column(target).map(move |(output, target)| (unit(output), unit(target)))
    }

    fn of(&self, target: usize) -> Error {
        let (count, pairs) = (self.rows.samples() as f64, self.pairs(target));
        let mean = pairs.clone().map(|(_, target)| target).sum::<f64>() / count;
        let squares = pairs.clone().map(|(output, target)| (output - target).powi(2)).sum::<f64>();
        let spread = pairs.clone().map(|(_, target)| (target - mean).powi(2)).sum::<f64>();
        // Targets that are all the same: right or wrong, as scikit-learn has it.
        let r2 = match spread > 0.0 {
            true => 1.0 - squares / spread,
            false => f64::from(squares == 0.0),
        };
        let mae = pairs.map(|(output, target)| (output - target).abs()).sum::<f64>() / count;
        Error { r2, mae, rmse: (squares / count).sqrt() }
    }
}

impl Scorer for Errors {
    fn metrics(&self) -> Vec<Metric> {
        vec![
            Metric::number("r2").titled("R²"),
            Metric::error("mae").titled("MAE"),
            Metric::error("rmse").titled("RMSE"),
        ]
    }

    fn add(&mut self, outputs: &[Tensor], targets: &Targets, first: usize) -> anyhow::Result<()> {
        self.rows.add(&outputs[0], targets, first)
    }

    fn gather(&mut self, channel: &Channel) -> anyhow::Result<()> {
        self.rows.gather(channel)
    }

    fn samples(&self) -> u64 {
        self.rows.samples() as u64
    }

    /// In standard deviations, as it is minimized.
    fn loss(&self) -> f64 {
        let distance = |(output, target): (f32, f32)| {
            let error = (f64::from(output) - f64::from(target)).abs();
            match self.loss {
                LossKind::L1 => error,
                LossKind::Huber if error < 1.0 => 0.5 * error * error,
                LossKind::Huber => error - 0.5,
                _ => error * error,
            }
        };
        let sum: f64 = (0..self.units.len()).flat_map(|target| self.rows.column(target)).map(distance).sum();
        sum / (self.rows.samples() * self.units.len()) as f64
    }

    /// Means over the targets.
    fn scores(&self) -> Scores {
        let errors: Vec<Error> = (0..self.units.len()).map(|target| self.of(target)).collect();
        let mean = |of: fn(&Error) -> f64| errors.iter().map(of).sum::<f64>() / errors.len() as f64;
        let values =
            [("r2", mean(|error| error.r2)), ("mae", mean(|error| error.mae)), ("rmse", mean(|error| error.rmse))];
        Scores(values.map(|(name, value)| (name.to_owned(), value)).to_vec())
    }

    fn evaluation(&self, epoch: Option<usize>, classes: &[String], _: &Show<'_>) -> Evaluation {
        let output = |(target, name): (usize, &String)| {
            let Error { r2, mae, rmse } = self.of(target);
            let values = [("r2", r2), ("mae", mae), ("rmse", rmse)];
            OutputScores {
                name: name.clone(),
                support: self.samples(),
                scores: Scores(values.map(|(name, value)| (name.to_owned(), value)).to_vec()),
                curves: vec![Curve::new(
                    "scatter",
                    self.pairs(target).map(|(output, target)| [target, output]).collect(),
                )],
            }
        };
        Evaluation {
            outputs: classes.iter().enumerate().take(self.units.len()).map(output).collect(),
            ..Evaluation::plain(epoch, self.loss(), self.samples(), self.metrics(), self.scores())
        }
    }
}
