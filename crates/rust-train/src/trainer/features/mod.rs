//! Features: what a model makes of images before it tells classes apart. They are computed once, over all ranks, of images as in
//! evaluation; then a head is fitted to them (`probe.rs`), or images are told by their neighbours (`neighbours.rs`).

mod minimize;
mod neighbours;
mod probe;

use std::rc::Rc;
use std::time::Instant;

use anyhow::Context;
use dataset::Loader;
use tch::{Kind, Tensor, no_grad};
use torch_ext::ReduceOp;

use self::neighbours::Neighbours;
use self::probe::Probe;
use super::Trainer;
use super::buffers::distribute_buffers;
use super::job::Job;
use super::step::TrainStep;
use crate::data::normalize::Normalize;
use crate::distributed::synchronization::Agreement;
use crate::errors::{Stop, Usage, agree, usage};
use crate::observe::progress::{Progress, Throughput};
use crate::observe::timers::Work;
use crate::task::{Scorer, Targets};

/// Of this rank's part of a set of images.
#[derive(Debug)]
struct Features {
    /// N×F, in single precision.
    rows: Tensor,
    /// The class of each.
    labels: Tensor,
    /// The number of the first image in the set.
    first: usize,
}

impl Trainer<'_> {
    /// `--linear-probe`: the one epoch of such a run, in which the head is made the one that fits the features of the training images best.
    pub(super) fn probe_epoch(&mut self) -> anyhow::Result<(Throughput, Option<Stop>)> {
        let begin = Instant::now();
        let spent = self.step.timeline.spent();
        let images = self.sizes.train;
        let throughput = |step: &TrainStep<'_>| {
            Throughput::new(step.timeline.spent() - spent, 1, images, begin.elapsed().as_secs_f64())
        };
        let Self { step, agreement, train, normalize, job, .. } = self;
        let features = match features(step, agreement, train, normalize, job)? {
            Ok(features) => features,
            Err(stop) => return Ok((throughput(&self.step), Some(stop))),
        };
        let (group, classes) = (self.step.group, self.sizes.classes.len());
        let (activity, agreement) = (self.step.timeline.activity(), &mut self.agreement);
        let mut stop = None;
        let mut goes_on = || {
            activity.beat();
            stop = agreement.stop()?;
            Ok(stop.is_none())
        };
        let probe = match Probe::fit(&features, classes, self.job.plan.flags.probe_penalty, group, &mut goes_on) {
            // What all ranks see in the same numbers; any other error is of this rank alone, while the others wait for it.
            Err(error) if error.is::<Usage>() => agree(self.job.world, Err(error))?,
            fitted => fitted?,
        };
        let Some(probe) = probe else { return Ok((throughput(&self.step), stop)) };
        if self.job.world.rank() == 0 {
            log::info!("{probe}");
        }
        let headless = self.step.model.without_head().context("the model had a head")?;
        let (weight, bias) = headless.head.context("the head was linear")?;
        probe.set(weight, bias)?;
        (self.position.samples, self.position.trained) = (images, true);
        (self.position.loss_sum, self.position.losses) = (probe.loss, 1);
        Ok((throughput(&self.step), None))
    }

    /// `--knn K`: scores the classes that the nearest of the training images have, in the place of the head's, by the features of the weights
    /// that are evaluated.
    pub(super) fn evaluate_neighbours(&mut self, count: usize) -> anyhow::Result<Result<Box<dyn Scorer>, Stop>> {
        let known = self.sizes.train;
        if count > known {
            agree(self.job.world, Err(usage(format!("--knn {count}: there are only {known} training images"))))?;
        }
        let distribute = self.job.plan.flags.distribute_bn;
        distribute_buffers(self.step.model, self.step.group, distribute)?;
        let Self { step, agreement, train, val, normalize, job, task, sizes, .. } = self;
        step.with_average(|step| {
            if step.averaged.is_some() {
                distribute_buffers(step.model, step.group, distribute)?;
            }
            let train = match features(step, agreement, train, normalize, job)? {
                Ok(features) => features,
                Err(stop) => return Ok(Err(stop)),
            };
            let val = match features(step, agreement, val, normalize, job)? {
                Ok(features) => features,
                Err(stop) => return Ok(Err(stop)),
            };
            let votes = Neighbours::find(&train, &val, count, step.group)?.votes(sizes.classes.len())?;
            let mut scorer = task.scorer();
            if votes.size()[0] > 0 {
                scorer.add(&[votes.log()], &Targets::of(vec![val.labels]), val.first)?;
            }
            scorer.gather(job.world.control())?;
            Ok(Ok(scorer))
        })
    }
}

/// Those of this rank's part of a set, by the weights as they are. Collective.
fn features(
    step: &TrainStep<'_>,
    agreement: &mut Agreement<'_>,
    loader: &Loader,
    normalize: &Normalize,
    Job { world, device, .. }: &Job<'_>,
) -> anyhow::Result<Result<Features, Stop>> {
    let headless = step.model.without_head().context("a model without features was refused")?;
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    let steps = loader.evaluation_steps();
    let progress = Progress::new(world, "features", "batches", steps as u64);
    let mut batches = loader.evaluate();
    for done in 1..=steps {
        if let Some(batch) = step.timeline.span(Work::Data, || batches.next()).transpose()? {
            let batch = Rc::new(batch);
            let images = normalize.images(&batch)?;
            labels.extend_from_slice(&batch.labels);
            let compute = || no_grad(|| step.numerics.compute(&images, |images| vec![(headless.features)(images)]));
            rows.extend(step.timeline.span(Work::Evaluation, compute)?);
        }
        step.timeline.activity().beat();
        progress.update(done as u64, String::new);
        if let Some(stop) = agreement.stop()? {
            return Ok(Err(stop));
        }
    }
    progress.finish();
    // A rank without an image knows as little of them as it has to.
    let width = Tensor::from(rows.first().map_or(0, |row: &Tensor| row.size()[1])).to_device(*device);
    step.group.all_reduce(&width, ReduceOp::Max)?;
    rows.push(Tensor::zeros([0, width.int64_value(&[])], (Kind::Float, *device)));
    let labels = Tensor::from_slice(&labels).to_device(*device);
    Ok(Ok(Features { rows: Tensor::f_cat(&rows, 0)?, labels, first: loader.evaluated().start }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::ops::Range;
    use tch::Device;
    use torch_ext::{OnlyRank, ProcessGroup};

    const CLASSES: usize = 3;

    fn alone() -> ProcessGroup {
        ProcessGroup::host(Box::new(OnlyRank)).unwrap()
    }

    /// What `tests/references/features.py` has.
    fn rows(count: i64, phase: f64) -> Tensor {
        let numbers = Tensor::arange(count * 5, (Kind::Double, Device::Cpu));
        let rows = (numbers.square() * 0.013 + phase).sin().view([count, 5]);
        let of_column = |values: [f64; 5]| Tensor::from_slice(&values);
        (rows * of_column([1.0, 3.0, 0.2, 1.0, 0.5]) + of_column([0.5, -2.0, 0.0, 1.0, 0.1])).to_kind(Kind::Float)
    }

    fn references() -> (Value, Features) {
        let text = include_str!("../../../tests/references/features.json");
        let references: Value = serde_json::from_str(text).unwrap();
        let labels: Vec<i64> = numbers(&references["labels"]).into_iter().map(|label| label as i64).collect();
        (references, Features { rows: rows(60, 0.0), labels: Tensor::from_slice(&labels), first: 0 })
    }

    fn numbers(list: &Value) -> Vec<f64> {
        list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    }

    fn assert_close(got: &Tensor, expected: &Value, tolerance: f64, case: &str) {
        let got = Vec::<f64>::try_from(got.to_kind(Kind::Double).flatten(0, -1)).unwrap();
        let expected = numbers(expected);
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            assert!((got - expected).abs() <= tolerance * expected.abs().max(1.0), "{case}: {got}, not {expected}");
        }
    }

    #[test]
    fn a_linear_probe_is_scikit_learns() {
        let (references, features) = references();
        for case in references["probes"].as_array().unwrap() {
            let penalty = case["penalty"].as_f64().unwrap();
            let probe = Probe::fit(&features, CLASSES, Some(penalty), &alone(), &mut || Ok(true)).unwrap().unwrap();
            let (weight, bias) =
                (Tensor::zeros([3, 5], (Kind::Double, Device::Cpu)), Tensor::zeros([3], (Kind::Double, Device::Cpu)));
            probe.set(weight.shallow_clone(), bias.shallow_clone()).unwrap();
            let name = probe.to_string();
            assert_close(&weight, &case["weight"], 1e-4, &name);
            assert_close(&(&bias - bias.mean(Kind::Double)), &case["bias"], 1e-4, &name);
            assert!((probe.loss - case["loss"].as_f64().unwrap()).abs() < 1e-6, "{name}");
        }
        // Nobody has said how strong it is to be: every fifth image decides.
        let chosen = |goes_on: &mut dyn FnMut() -> anyhow::Result<bool>| {
            Probe::fit(&features, CLASSES, None, &alone(), goes_on).unwrap()
        };
        let name = chosen(&mut || Ok(true)).unwrap().to_string();
        assert!(name.contains("under which a fifth of the training images had the least loss"), "{name}");
        // It is asked on the way whether to go on.
        for most in [0, 1, 7, 40] {
            let mut asked = 0;
            let stopped = chosen(&mut || {
                asked += 1;
                Ok(asked <= most)
            });
            assert!(stopped.is_none() && asked == most + 1, "{asked}");
        }
    }

    #[test]
    fn neighbours_vote_as_scikit_learns_do() {
        let (references, train) = references();
        for case in references["neighbours"].as_array().unwrap() {
            let count = case["count"].as_u64().unwrap() as usize;
            let asked = |range: Range<i64>| Features {
                rows: rows(9, 1.0).narrow(0, range.start, range.end - range.start),
                labels: Tensor::zeros([range.end - range.start], (Kind::Int64, Device::Cpu)),
                first: 0,
            };
            let votes =
                |asked: &Features| Neighbours::find(&train, asked, count, &alone()).unwrap().votes(CLASSES).unwrap();
            assert_close(&votes(&asked(0..9)), &case["shares"], 1e-5, &count.to_string());
            assert_eq!(votes(&asked(3..3)).size(), [0, 3], "a rank without images");
        }
    }
}
