//! Scores that are means over the samples.

use report::{Metric, Scores};
use tch::{Device, Kind, Tensor};
use world::{Channel, Reduction};

use super::exact_sum::ExactSum;
use super::{Scorer, Targets};

/// Gives the loss of each image, and its value of each metric: N numbers each.
type Measure = dyn Fn(&[Tensor], &Targets) -> Vec<Tensor>;

/// A scorer that adds up what each sample gives, and divides by their number: exact, whatever the number of ranks.
pub struct Means {
    metrics: Vec<Metric>,
    measure: Box<Measure>,
    /// In the order of the metrics; the loss is in front.
    sums: Vec<ExactSum>,
    samples: u64,
}

impl Means {
    /// `measure` gives the loss of each image of a batch, and then its value of each of the `metrics`, N numbers each.
    /// Without metrics the model of the lowest loss is the best one.
    pub fn new(metrics: Vec<Metric>, measure: impl Fn(&[Tensor], &Targets) -> Vec<Tensor> + 'static) -> Self {
        let sums = vec![ExactSum::default(); metrics.len() + 1];
        Self { metrics, measure: Box::new(measure), sums, samples: 0 }
    }
}

impl std::fmt::Debug for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Means").field("metrics", &self.metrics).field("samples", &self.samples).finish_non_exhaustive()
    }
}

impl Scorer for Means {
    fn metrics(&self) -> Vec<Metric> {
        self.metrics.clone()
    }

    fn add(&mut self, outputs: &[Tensor], targets: &Targets, _first: usize) -> anyhow::Result<()> {
        let values = (self.measure)(outputs, targets);
        anyhow::ensure!(
            values.len() == self.sums.len(),
            "the task measures {} values, and has a loss and {} metrics",
            values.len(),
            self.metrics.len()
        );
        let count = targets.tensors.first().map_or(0, |tensor| tensor.size()[0]);
        for (sum, values) in self.sums.iter_mut().zip(values) {
            anyhow::ensure!(values.size() == [count], "the task measures {:?}, and has {count} images", values.size());
            let values = values.f_to_kind(Kind::Double)?.f_to_device(Device::Cpu)?.contiguous();
            Vec::<f64>::try_from(values)?.into_iter().for_each(|value| sum.add(value));
        }
        self.samples += count as u64;
        Ok(())
    }

    fn gather(&mut self, channel: &Channel) -> anyhow::Result<()> {
        ExactSum::gather(&mut self.sums, channel)?;
        let mut samples = [self.samples];
        channel.all_reduce(&mut samples, Reduction::Sum)?;
        [self.samples] = samples;
        Ok(())
    }

    fn samples(&self) -> u64 {
        self.samples
    }

    fn loss(&self) -> f64 {
        self.sums[0].value() / self.samples as f64
    }

    fn scores(&self) -> Scores {
        let value = |(metric, sum): (&Metric, &ExactSum)| (metric.name.clone(), sum.value() / self.samples as f64);
        Scores(self.metrics.iter().zip(&self.sums[1..]).map(value).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::deciding;

    /// The distance of an output from its target, squared and not.
    fn distances(outputs: &[Tensor], targets: &Targets) -> Vec<Tensor> {
        let off = &outputs[0] - &targets.tensors[0];
        vec![off.square(), off.abs()]
    }

    #[test]
    fn scores_are_means_whatever_the_batches() {
        let outputs = Tensor::from_slice(&[1.0f32, 2.0, 4.0]);
        let targets = Targets::of(vec![Tensor::from_slice(&[0.0f32, 2.0, 2.0])]);
        for batches in [&[3][..], &[1, 2]] {
            let mut means = Means::new(vec![Metric::error("mae")], distances);
            let mut first = 0;
            for &count in batches {
                let part = outputs.narrow(0, first, count);
                means.add(&[part], &targets.part(first, count), first as usize).unwrap();
                first += count;
            }
            assert_eq!((means.samples(), means.loss(), means.scores().get("mae")), (3, 5.0 / 3.0, 1.0));
        }
        let mut plain = Means::new(Vec::new(), |outputs, targets| distances(outputs, targets).drain(..1).collect());
        plain.add(&[outputs], &targets, 0).unwrap();
        let (metric, value) = deciding(&plain);
        assert_eq!((metric.name.as_str(), value, plain.scores().0.len()), ("loss", 5.0 / 3.0, 0));
    }

    #[test]
    fn a_task_that_measures_something_else_is_told() {
        let (outputs, targets) = ([Tensor::from_slice(&[1.0f32])], Targets::of(vec![Tensor::from_slice(&[1.0f32])]));
        let error = |metrics, measure: fn(&[Tensor], &Targets) -> Vec<Tensor>| {
            Means::new(metrics, measure).add(&outputs, &targets, 0).unwrap_err().to_string()
        };
        assert!(error(Vec::new(), distances).contains("measures 2 values, and has a loss and 0 metrics"));
        let mean = |outputs: &[Tensor], _: &Targets| vec![outputs[0].mean(Kind::Float)];
        assert!(error(Vec::new(), mean).contains("measures [], and has 1 images"));
    }
}
