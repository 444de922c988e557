//! What is learned: what a model's outputs are compared with, the loss that is minimized, and the scores that say how good
//! a model is. Nothing outside of a task's own file knows which one it is.
//!
//! ```text
//! Batch ─> targets ─┬─> loss ─────> the step
//! Model ─> outputs ─┴─> Scorer ───> scores (the record, the best model) ─> Evaluation (the report)
//! ```

pub(crate) mod classification;
mod exact_sum;
mod gather;
mod means;
pub(crate) mod multilabel;
pub(crate) mod regression;
mod rows;
pub(crate) mod segmentation;

use clap::ValueEnum;
use dataset::{Batch, Dataset};
use flags::{LossKind, TaskKind, TrainArgs};
use model_card::{MULTILABEL, ModelCard, REGRESSION, SEGMENTATION, TargetUnit};
use report::{Evaluation, Metric, Scores};
use tch::{Device, Kind, Tensor};
use world::Channel;

use classification::{Classification, Criterion};
pub use means::Means;
use multilabel::Multilabel;
use regression::Regression;
use segmentation::Segmentation;

/// What is learned.
///
/// Its methods are called on every rank, each with the images of that rank. Tensors have a row for each image.
pub trait Task {
    /// What it is called in the model card of its weights.
    fn name(&self) -> &str {
        "own"
    }

    /// What the outputs of a model are to be for the images of `batch`, on `device`.
    fn targets(&self, batch: &Batch, device: Device) -> Targets;

    /// The same in training, for the `images` of the batch, N×C×height×width, as the model is about to be given them, so many of them
    /// `together`: for a task that looks at the images itself.
    ///
    /// # Errors
    /// What libtorch says.
    fn training_targets(&self, batch: &Batch, images: &Tensor, together: usize) -> anyhow::Result<Targets> {
        let _ = together;
        Ok(self.targets(batch, images.device()))
    }

    /// Whether [`training_targets`](Self::training_targets) takes time that counts: it is a part of the forward pass then.
    fn computes_targets(&self) -> bool {
        false
    }

    /// The mean loss of `outputs` over their images, a single number, in training. `outputs` are in single precision.
    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor;

    /// Begins an evaluation.
    fn scorer(&self) -> Box<dyn Scorer>;

    /// The numbers that a model gives for each image; `None` for as many as the data have classes.
    fn outputs(&self) -> Option<usize> {
        None
    }

    /// In which unit each output is, where outputs are numbers; none where they are not.
    fn units(&self) -> Vec<TargetUnit> {
        Vec::new()
    }

    /// Whether [`targets`](Self::targets) understands images that are mixed of two (`--mixup`, `--cutmix`).
    fn takes_mixed_images(&self) -> bool {
        false
    }
}

/// What the outputs of a model are to be.
#[derive(Debug)]
pub struct Targets {
    /// Each with a row for each image.
    pub tensors: Vec<Tensor>,
    /// The share of the first images where images are mixed of two, 0–1.
    pub share: f64,
}

impl Targets {
    /// Targets of images that are not mixed.
    pub fn of(tensors: Vec<Tensor>) -> Self {
        Self { tensors, share: 1.0 }
    }

    /// Those of `count` images, from image `first` on.
    pub(crate) fn part(&self, first: i64, count: i64) -> Self {
        Self { tensors: self.tensors.iter().map(|tensor| tensor.narrow(0, first, count)).collect(), share: self.share }
    }
}

/// What an evaluation has found so far: on this rank, or after [`gather`](Self::gather) on all of them.
pub trait Scorer {
    /// What it gives, the metric that decides which of two models is better first. Without any the lower loss is better.
    fn metrics(&self) -> Vec<Metric>;

    /// Counts a batch: `outputs` in evaluation, in single precision, and what they are to be. The first image is number
    /// `first` of the set. What is counted may be asked for only when all ranks have [gathered](Self::gather): until then a
    /// device may still be at it.
    ///
    /// # Errors
    /// What libtorch says.
    fn add(&mut self, outputs: &[Tensor], targets: &Targets, first: usize) -> anyhow::Result<()>;

    /// Adds up what all ranks have found. Collective.
    ///
    /// # Errors
    /// Ranks that do not come.
    fn gather(&mut self, channel: &Channel) -> anyhow::Result<()>;

    /// The samples that were counted.
    fn samples(&self) -> u64;

    /// The mean loss.
    fn loss(&self) -> f64;

    /// The value of each metric.
    fn scores(&self) -> Scores;

    /// In words what a list of scores begins with.
    fn summary(&self) -> String {
        format!("{} samples", self.samples())
    }

    /// All of it, for the report: with the names of the classes, and with what `show` gives of samples by number, a path
    /// and an image of each.
    fn evaluation(&self, epoch: Option<usize>, classes: &[String], show: &Show<'_>) -> Evaluation {
        let _ = (classes, show);
        Evaluation::plain(epoch, self.loss(), self.samples(), self.metrics(), self.scores())
    }
}

/// What the flags say that is to be learned of `dataset`.
pub(crate) fn of_flags(flags: &TrainArgs, dataset: &Dataset, device: Device) -> Box<dyn Task> {
    let (args, train) = (&flags.optimization, &dataset.train);
    match flags.task.task {
        TaskKind::Classify => {
            let (labels, classes) = (train.labels(), dataset.classes.len());
            Box::new(Classification::new(Criterion::new(args, flags.task.loss, labels, classes, device)))
        }
        TaskKind::Multilabel => Box::new(Multilabel::new(flags.task.loss, args.class_weights, train, device)),
        TaskKind::Regress => Box::new(Regression::new(flags.task.loss, train)),
        TaskKind::Segment => Box::new(Segmentation::new(flags.task.loss, args.label_smoothing, dataset.classes.len())),
    }
}

/// What the card of weights says that they have learned, to evaluate them on data with so many outputs.
pub(crate) fn of_card(card: &ModelCard, outputs: usize) -> anyhow::Result<Box<dyn Task>> {
    Ok(match card.task.as_str() {
        MULTILABEL => Box::new(Multilabel::to_evaluate(outputs)),
        REGRESSION => {
            anyhow::ensure!(card.targets.len() == outputs, "the model card has no unit for each output");
            Box::new(Regression::to_evaluate(card.targets.clone()))
        }
        SEGMENTATION => Box::new(Segmentation::new(loss_of_card(card), 0.0, outputs)),
        _ => Box::new(Classification::to_evaluate()),
    })
}

/// The loss of the run that a card is of, if it says so.
fn loss_of_card(card: &ModelCard) -> Option<LossKind> {
    let name = card.plan.get("loss")?.as_str()?;
    LossKind::from_str(name, true).ok()
}

/// The flag's value for what a card says.
pub(crate) fn kind_of_card(card: &ModelCard) -> TaskKind {
    match card.task.as_str() {
        MULTILABEL => TaskKind::Multilabel,
        REGRESSION => TaskKind::Regress,
        SEGMENTATION => TaskKind::Segment,
        _ => TaskKind::Classify,
    }
}

/// The numbers of a batch's labels, N×`width`, each of which `scale` is given with its column; where images are mixed, so are
/// they.
fn own_targets(batch: &Batch, width: usize, scale: impl Fn(usize, f64) -> f64, device: Device) -> Tensor {
    let scaled = |targets: &[f64]| -> Vec<f64> {
        targets.iter().enumerate().map(|(index, &target)| scale(index % width, target)).collect()
    };
    let mut targets = scaled(&batch.targets);
    if targets.is_empty() {
        targets = vec![0.0; batch.len() * width]; // images that are made up to see whether they fit
    }
    if let Some(mixed) = &batch.mixed {
        for (own, other) in targets.iter_mut().zip(scaled(&mixed.targets)) {
            *own = *own * mixed.share + other * (1.0 - mixed.share);
        }
    }
    let targets: Vec<f32> = targets.into_iter().map(|target| target as f32).collect();
    let targets = Tensor::from_slice(&targets).view([batch.len() as i64, width as i64]);
    targets.to_device_(device, Kind::Float, true, false)
}

/// What decides which of two models is better, and its value.
pub(crate) fn deciding(scorer: &dyn Scorer) -> (Metric, f64) {
    match scorer.metrics().into_iter().next() {
        Some(metric) => {
            let value = scorer.scores().get(&metric.name);
            (metric, value)
        }
        None => (Metric::error("loss"), scorer.loss()),
    }
}

/// What records and evaluations call something else: a metric cannot have such a name.
const TAKEN: [&str; 16] = [
    "epoch",
    "step",
    "loss",
    "lr",
    "samples",
    "metrics",
    "classes",
    "confusion",
    "worst",
    "train_loss",
    "val_loss",
    "images_per_second",
    "data_wait",
    "communication_wait",
    "elapsed_seconds",
    "note",
];

/// Refuses metrics that cannot be told apart in a record.
pub(crate) fn refuse_names(task: &dyn Task) -> anyhow::Result<()> {
    let metrics = task.scorer().metrics();
    for (index, Metric { name, .. }) in metrics.iter().enumerate() {
        anyhow::ensure!(
            !TAKEN.contains(&name.as_str()),
            "the task has a metric called '{name}', which is the name of another value in records"
        );
        let is_twice = metrics[..index].iter().any(|other| other.name == *name);
        anyhow::ensure!(!is_twice, "the task has two metrics called '{name}'");
    }
    Ok(())
}

/// Gives a path and an image, small, of samples by number.
pub type Show<'a> = dyn Fn(&[usize]) -> Vec<(String, Option<String>)> + 'a;

/// Scores in words: `top-1 97.50 %, top-5 100.00 %`.
pub(crate) fn words(metrics: &[Metric], scores: &Scores) -> String {
    let word = |metric: &Metric| metric.words(scores.get(&metric.name));
    metrics.iter().map(word).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Measured(&'static [&'static str]);

    impl Task for Measured {
        fn targets(&self, _: &Batch, _: Device) -> Targets {
            Targets::of(Vec::new())
        }

        fn loss(&self, outputs: &[Tensor], _: &Targets) -> Tensor {
            outputs[0].shallow_clone()
        }

        fn scorer(&self) -> Box<dyn Scorer> {
            Box::new(Means::new(self.0.iter().map(|name| Metric::error(name)).collect(), |_, _| Vec::new()))
        }
    }

    #[test]
    fn metrics_that_a_record_could_not_tell_apart_are_refused() {
        let refused = |names| refuse_names(&Measured(names)).map_err(|error| error.to_string());
        assert_eq!((refused(&["mae", "rmse"]), refused(&[])), (Ok(()), Ok(())));
        assert!(refused(&["mae", "loss"]).unwrap_err().contains("called 'loss'"));
        assert!(refused(&["mae", "mae"]).unwrap_err().contains("two metrics called 'mae'"));
    }
}
