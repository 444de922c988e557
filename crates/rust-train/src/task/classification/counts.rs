//! What is counted of each sample, added up exactly over all ranks.

use report::{Confusion, Evaluation, Metric, Scores, WorstSample};
use tch::{Device, Kind, Tensor};
use torch_ext::Numbers;
use world::{Channel, Reduction};

use crate::task::exact_sum::ExactSum;
use crate::task::gather::gather_rows;
use crate::task::{Scorer, Show, Targets};

/// The samples with the highest loss that are kept.
const MOST_WORST: usize = 24;

/// A sample and how wrong the model is about it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    /// Its number in the set.
    index: usize,
    label: u32,
    predicted: u32,
    probability: f64,
    label_probability: f64,
    loss: f64,
}

/// The scores of a classification: the first outputs are logits, N×classes, and the first targets labels.
#[derive(Debug, Default)]
pub struct Counts {
    loss: ExactSum,
    right: u64,
    among_five: u64,
    samples: u64,
    confusion: Confusion,
    /// The samples with the highest loss, highest first.
    worst: Vec<Sample>,
    /// The last batch, where a device is still at it.
    pending: Option<Pending>,
}

/// What is read of a batch, on its way from a device.
#[derive(Debug)]
struct Pending {
    /// The number of its first sample.
    first: usize,
    /// N of each: whether the label is among the best five, the highest logarithm of a probability, its class, the
    /// logarithm of the label's, the label. Single precision counts more classes than there are.
    numbers: Numbers,
}

impl Counts {
    /// Counts a batch: its logits, N×classes in single precision, and labels; the first sample is number `first` of the
    /// set. A device is given the batch to do, and what it found of the one before is read meanwhile.
    fn count(&mut self, logits: &Tensor, labels: &Tensor, first: usize) -> anyhow::Result<()> {
        let targets = labels.unsqueeze(1);
        let logs = logits.f_log_softmax(-1, Kind::Float)?;
        let (best, predicted) = logs.f_topk(5.min(logits.size()[1]), 1, true, true)?;
        let is_among = predicted.f_eq_tensor(&targets)?.f_sum_dim_intlist(1, false, Kind::Float)?;
        let [best, predicted] = [best, predicted].map(|ranked| ranked.select(1, 0));
        let of_label = logs.f_gather(1, &targets, false)?.select(1, 0);
        let columns = [&is_among, &best, &predicted, &of_label, labels].map(|column| column.to_kind(Kind::Float));
        let numbers = Numbers::on_their_way(&Tensor::f_cat(&columns, 0)?)?;
        let before = self.pending.replace(Pending { first, numbers });
        before.map_or(Ok(()), |before| self.take(&before))?;
        // On the host they are there.
        if logits.device() == Device::Cpu { self.take_last() } else { Ok(()) }
    }

    fn take_last(&mut self) -> anyhow::Result<()> {
        self.pending.take().map_or(Ok(()), |last| self.take(&last))
    }

    /// Takes in what was found of a batch.
    fn take(&mut self, Pending { first, numbers }: &Pending) -> anyhow::Result<()> {
        let numbers = numbers.get()?;
        let of = numbers.len() / 5;
        for number in 0..of {
            let [is_among, best, predicted, of_label, label] =
                [0, 1, 2, 3, 4].map(|column| f64::from(numbers[column * of + number]));
            let sample = Sample {
                index: first + number,
                label: label as u32,
                predicted: predicted as u32,
                probability: best.exp(),
                label_probability: of_label.exp(),
                loss: -of_label,
            };
            self.loss.add(sample.loss);
            self.right += u64::from(sample.label == sample.predicted);
            self.among_five += u64::from(is_among > 0.0);
            self.confusion.add(sample.label, sample.predicted);
            self.worst.push(sample);
        }
        self.samples += of as u64;
        self.keep_worst();
        Ok(())
    }

    /// Of equal losses the first sample counts as worse, so that the choice does not depend on the number of ranks.
    fn keep_worst(&mut self) {
        self.worst.sort_by(|one, other| other.loss.total_cmp(&one.loss).then(one.index.cmp(&other.index)));
        self.worst.truncate(MOST_WORST);
    }
}

impl Scorer for Counts {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::share("top1", "top-1"), Metric::share("top5", "top-5")]
    }

    fn add(&mut self, outputs: &[Tensor], targets: &Targets, first: usize) -> anyhow::Result<()> {
        self.count(&outputs[0], &targets.tensors[0], first)
    }

    fn gather(&mut self, channel: &Channel) -> anyhow::Result<()> {
        self.take_last()?;
        let mut loss = [self.loss];
        ExactSum::gather(&mut loss, channel)?;
        let mut counts = [self.right, self.among_five, self.samples];
        channel.all_reduce(&mut counts, Reduction::Sum)?;
        let entries: Vec<_> =
            self.confusion.entries().map(|(label, taken, count)| [label.into(), taken.into(), count]).collect();
        let mut confusion = Confusion::default();
        for [label, taken, count] in gather_rows(channel, &entries)? {
            confusion.add_many(label as u32, taken as u32, count);
        }
        let worst: Vec<_> = self.worst.iter().map(|sample| sample.to_bits()).collect();
        self.worst = gather_rows(channel, &worst)?.into_iter().map(Sample::of_bits).collect();
        self.keep_worst();
        ([self.loss], [self.right, self.among_five, self.samples]) = (loss, counts);
        self.confusion = confusion;
        Ok(())
    }

    fn samples(&self) -> u64 {
        self.samples
    }

    fn loss(&self) -> f64 {
        self.loss.value() / self.samples as f64
    }

    fn scores(&self) -> Scores {
        let share = |count: u64| count as f64 / self.samples as f64;
        Scores(vec![("top1".to_owned(), share(self.right)), ("top5".to_owned(), share(self.among_five))])
    }

    fn summary(&self) -> String {
        format!("{} of {} right", self.right, self.samples)
    }

    fn evaluation(&self, epoch: Option<usize>, classes: &[String], show: &Show<'_>) -> Evaluation {
        // A sample that is right is not an example of what goes wrong.
        let wrong: Vec<_> = self.worst.iter().filter(|sample| sample.label != sample.predicted).collect();
        let shown = show(&wrong.iter().map(|sample| sample.index).collect::<Vec<_>>());
        let worst = wrong.into_iter().zip(shown).map(|(sample, (path, thumbnail))| WorstSample {
            path,
            label: sample.label,
            predicted: sample.predicted,
            probability: sample.probability,
            label_probability: sample.label_probability,
            loss: sample.loss,
            thumbnail,
        });
        Evaluation {
            classes: self.confusion.scores(classes),
            worst: worst.collect(),
            confusion: self.confusion.clone(),
            ..Evaluation::plain(epoch, self.loss(), self.samples, self.metrics(), self.scores())
        }
    }
}

impl Sample {
    fn to_bits(self) -> [u64; 6] {
        let Self { index, label, predicted, probability, label_probability, loss } = self;
        let [probability, label_probability, loss] = [probability, label_probability, loss].map(f64::to_bits);
        [index as u64, label.into(), predicted.into(), probability, label_probability, loss]
    }

    fn of_bits([index, label, predicted, probability, label_probability, loss]: [u64; 6]) -> Self {
        let [probability, label_probability, loss] = [probability, label_probability, loss].map(f64::from_bits);
        let (label, predicted) = (label as u32, predicted as u32);
        Self { index: index as usize, label, predicted, probability, label_probability, loss }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six samples of three classes, and their labels.
    fn samples() -> (Tensor, [i64; 6]) {
        let logits =
            [[5.0f32, 0.0, 1.0], [0.0, 4.0, 1.0], [0.0, 3.0, 1.0], [9.0, 0.0, 0.0], [1.0, 1.5, 0.0], [0.0, 0.0, 2.0]];
        (Tensor::from_slice2(&logits), [0, 1, 2, 1, 1, 2])
    }

    /// Counts them in batches of these lengths.
    fn counted(batches: &[usize]) -> Counts {
        let (logits, labels) = samples();
        let mut counts = Counts::default();
        let mut first = 0;
        for &length in batches {
            let logits = logits.narrow(0, first as i64, length as i64);
            let labels = Tensor::from_slice(&labels[first..first + length]);
            counts.add(&[logits], &Targets::of(vec![labels]), first).unwrap();
            first += length;
        }
        counts
    }

    #[test]
    fn scores_are_those_of_torch_whatever_the_batches() {
        let (logits, labels) = samples();
        let loss = logits.cross_entropy_for_logits(&Tensor::from_slice(&labels)).double_value(&[]);
        for batches in [&[6][..], &[1, 3, 2]] {
            let counts = counted(batches);
            let scores = counts.scores();
            assert!((counts.loss() - loss).abs() < 1e-6, "{} instead of {loss}", counts.loss());
            assert_eq!((scores.get("top1"), scores.get("top5"), counts.samples()), (4.0 / 6.0, 1.0, 6));
            let entries: Vec<_> = counts.confusion.entries().collect();
            assert_eq!(entries, [(0, 0, 1), (1, 0, 1), (1, 1, 2), (2, 1, 1), (2, 2, 1)]);
        }
    }

    #[test]
    fn the_worst_samples_are_those_that_are_most_wrong() {
        let names = ["ant", "bee", "cat"].map(str::to_owned);
        let evaluation = counted(&[3, 3]).evaluation(Some(7), &names, &|indices| {
            assert_eq!(indices, [3, 2], "the bee that is surely an ant, then the cat that is a bee");
            indices.iter().map(|index| (format!("{index}.png"), None)).collect()
        });
        let worst = &evaluation.worst[0];
        assert_eq!((worst.path.as_str(), worst.label, worst.predicted), ("3.png", 1, 0));
        assert!(worst.probability > 0.999 && worst.label_probability < 0.001 && worst.loss > 8.9);
        assert_eq!(evaluation.classes[1].recall, Some(2.0 / 3.0));
    }

    #[test]
    fn a_sample_survives_its_way_to_another_rank() {
        let sample = counted(&[6]).worst[0];
        assert_eq!(Sample::of_bits(sample.to_bits()), sample);
    }
}
