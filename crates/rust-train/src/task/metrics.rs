//! How good a model is: what is counted of each sample, added up exactly over all ranks.

use std::path::Path;

use dataset::Loader;
use report::{Confusion, Evaluation, WorstSample};
use serde::Serialize;
use tch::{Kind, Tensor};
use world::{Channel, Reduction};

/// The samples with the highest loss that are kept.
const MOST_WORST: usize = 24;

/// How good a model is on a set of images.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Scores {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of samples whose class has the highest logit, 0–1.
    pub top1: f64,
    /// Share of samples whose class is among the five highest logits, 0–1.
    pub top5: f64,
    /// Samples, over all ranks.
    pub samples: usize,
}

impl Scores {
    /// Nothing was scored.
    pub(crate) const NONE: Self = Self { loss: f64::NAN, top1: f64::NAN, top5: f64::NAN, samples: 0 };
}

/// A sample and how wrong the model is about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Miss {
    /// Its number in the set.
    pub index: usize,
    label: u32,
    predicted: u32,
    probability: f64,
    label_probability: f64,
    loss: f64,
}

/// What an evaluation has found so far: on this rank, or after [`gather`](Self::gather) on all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    loss: f64,
    right: u64,
    among_five: u64,
    samples: u64,
    confusion: Confusion,
    /// The samples with the highest loss, highest first.
    worst: Vec<Miss>,
}

impl Tally {
    /// Counts a batch: its logits, N×classes in single precision, and labels; the first sample is number `first` of the
    /// set.
    pub(crate) fn add(&mut self, logits: &Tensor, labels: &[i64], first: usize) -> anyhow::Result<()> {
        let targets = Tensor::from_slice(labels).to_device(logits.device()).unsqueeze(1);
        let logs = logits.log_softmax(-1, Kind::Float);
        let (best, predicted) = logs.topk(5.min(logits.size()[1]), 1, true, true);
        self.among_five += predicted.eq_tensor(&targets).sum(Kind::Int64).int64_value(&[]) as u64;
        let column = |tensor: Tensor| Vec::<f64>::try_from(tensor.select(1, 0).to_kind(Kind::Double));
        let (best, predicted) = (column(best)?, column(predicted)?);
        let of_label = column(logs.gather(1, &targets, false))?;
        for (sample, &label) in labels.iter().enumerate() {
            let miss = Miss {
                index: first + sample,
                label: label as u32,
                predicted: predicted[sample] as u32,
                probability: best[sample].exp(),
                label_probability: of_label[sample].exp(),
                loss: -of_label[sample],
            };
            self.loss += miss.loss;
            self.right += u64::from(miss.label == miss.predicted);
            self.confusion.add(miss.label, miss.predicted);
            self.worst.push(miss);
        }
        self.samples += labels.len() as u64;
        self.keep_worst();
        Ok(())
    }

    /// Of equal losses the first sample counts as worse, so that the choice does not depend on the number of ranks.
    fn keep_worst(&mut self) {
        self.worst.sort_by(|one, other| other.loss.total_cmp(&one.loss).then(one.index.cmp(&other.index)));
        self.worst.truncate(MOST_WORST);
    }

    /// What all ranks have found together. Collective.
    pub(crate) fn gather(mut self, channel: &Channel) -> anyhow::Result<Self> {
        let mut loss = [self.loss];
        channel.all_reduce(&mut loss, Reduction::Sum)?;
        let mut counts = [self.right, self.among_five, self.samples];
        channel.all_reduce(&mut counts, Reduction::Sum)?;
        let entries: Vec<_> =
            self.confusion.entries().map(|(label, taken, count)| [label.into(), taken.into(), count]).collect();
        let mut confusion = Confusion::default();
        for [label, taken, count] in gather_rows(channel, &entries)? {
            confusion.add_many(label as u32, taken as u32, count);
        }
        let worst: Vec<_> = self.worst.iter().map(|miss| miss.to_bits()).collect();
        self.worst = gather_rows(channel, &worst)?.into_iter().map(Miss::of_bits).collect();
        self.keep_worst();
        let [right, among_five, samples] = counts;
        Ok(Self { loss: loss[0], right, among_five, samples, confusion, worst: self.worst })
    }

    /// How many samples were taken for what they are.
    pub(crate) fn right(&self) -> u64 {
        self.right
    }

    /// The scores of what was counted.
    pub(crate) fn scores(&self) -> Scores {
        let share = |count: u64| count as f64 / self.samples as f64;
        let loss = self.loss / self.samples as f64;
        Scores { loss, top1: share(self.right), top5: share(self.among_five), samples: self.samples as usize }
    }

    /// All of it, for people: with the names of the classes, and with what `show` gives of the worst samples, a path and
    /// an image of each.
    pub(crate) fn evaluation(
        &self,
        epoch: Option<usize>,
        classes: &[String],
        show: impl FnOnce(&[usize]) -> Vec<(String, Option<String>)>,
    ) -> Evaluation {
        let Scores { loss, top1, top5, .. } = self.scores();
        // A sample that is right is not an example of what goes wrong.
        let wrong: Vec<_> = self.worst.iter().filter(|miss| miss.label != miss.predicted).collect();
        let shown = show(&wrong.iter().map(|miss| miss.index).collect::<Vec<_>>());
        let worst = wrong.into_iter().zip(shown).map(|(miss, (path, thumbnail))| WorstSample {
            path,
            label: miss.label,
            predicted: miss.predicted,
            probability: miss.probability,
            label_probability: miss.label_probability,
            loss: miss.loss,
            thumbnail,
        });
        Evaluation {
            epoch,
            loss,
            top1,
            top5,
            samples: self.samples,
            classes: self.confusion.scores(classes),
            worst: worst.collect(),
            confusion: self.confusion.clone(),
        }
    }
}

/// The paths and thumbnails of samples of `loader`. An image that cannot be read any more is left out of the page.
pub(crate) fn show(loader: &Loader, indices: &[usize]) -> Vec<(String, Option<String>)> {
    let paths = loader.images().names(indices);
    let image = |&index: &usize| {
        let batch = loader.sample(index).ok()?;
        report::thumbnail(&batch.pixels, batch.side)
    };
    paths.iter().map(|path| text(path)).zip(indices.iter().map(image)).collect()
}

/// A path for a page.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Miss {
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

/// The rows of all ranks, which may have unequally many. Collective.
fn gather_rows<const N: usize>(channel: &Channel, rows: &[[u64; N]]) -> anyhow::Result<Vec<[u64; N]>> {
    let counts = channel.all_gather(&[rows.len() as u64])?;
    let most = counts.iter().copied().max().unwrap_or(0) as usize;
    let mut padded = rows.concat();
    padded.resize(most * N, 0);
    let all = channel.all_gather(&padded)?;
    let mut gathered = Vec::new();
    for (rank, &count) in counts.iter().enumerate() {
        let own = &all[rank * most * N..][..count as usize * N];
        gathered.extend(own.as_chunks::<N>().0);
    }
    Ok(gathered)
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
    fn tally(batches: &[usize]) -> Tally {
        let (logits, labels) = samples();
        let mut tally = Tally::default();
        let mut first = 0;
        for &length in batches {
            let logits = logits.narrow(0, first as i64, length as i64);
            tally.add(&logits, &labels[first..first + length], first).unwrap();
            first += length;
        }
        tally
    }

    #[test]
    fn scores_are_those_of_torch_whatever_the_batches() {
        let (logits, labels) = samples();
        let loss = logits.cross_entropy_for_logits(&Tensor::from_slice(&labels)).double_value(&[]);
        for batches in [&[6][..], &[1, 3, 2]] {
            let tally = tally(batches);
            let scores = tally.scores();
            assert!((scores.loss - loss).abs() < 1e-6, "{} instead of {loss}", scores.loss);
            assert_eq!((scores.top1, scores.top5, scores.samples), (4.0 / 6.0, 1.0, 6));
            let entries: Vec<_> = tally.confusion.entries().collect();
            assert_eq!(entries, [(0, 0, 1), (1, 0, 1), (1, 1, 2), (2, 1, 1), (2, 2, 1)]);
        }
    }

    #[test]
    fn the_worst_samples_are_those_that_are_most_wrong() {
        let names = ["ant", "bee", "cat"].map(str::to_owned);
        let evaluation = tally(&[3, 3]).evaluation(Some(7), &names, |indices| {
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
        let miss = tally(&[6]).worst[0];
        assert_eq!(Miss::of_bits(miss.to_bits()), miss);
    }
}
