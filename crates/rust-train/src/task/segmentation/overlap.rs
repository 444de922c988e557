//! How far what the model tells and the masks overlap, added up exactly over all ranks.

use dataset::IGNORED;
use report::{Confusion, Evaluation, Metric, OutputScores, Scores, WorstMask, mask_overlay};
use tch::{Device, Kind, Tensor};
use torch_ext::Numbers;
use world::{Channel, Reduction};

use super::classes_of;
use super::loss::Criterion;
use crate::task::exact_sum::ExactSum;
use crate::task::gather::gather_rows;
use crate::task::{Scorer, Show, Targets};

/// The images with the highest loss that are kept.
const MOST_WORST: usize = 12;
/// Height and width of the masks that a page shows, in pixels, at most.
const LARGEST_SHOWN: i64 = 96;

/// Images whose losses are computed at a time.
const TOGETHER: i64 = 4;

/// The scores of a segmentation.
#[derive(Debug)]
pub(super) struct Overlap {
    classes: usize,
    criterion: Criterion,
    loss: ExactSum,
    samples: u64,
    /// On the device of the outputs: how many pixels of each class were taken for each class, row by row, and behind these those that
    /// do not count.
    on_device: Option<Tensor>,
    /// The same of all ranks, without the last.
    pixels: Vec<u64>,
    /// The images with the highest loss, highest first.
    worst: Vec<Sample>,
    /// The last batch, where a device is still at it.
    pending: Option<Pending>,
}

/// An image and how wrong the model is about it.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    /// Its number in the set.
    index: usize,
    loss: f64,
    /// The share of its pixels that are right.
    accuracy: f64,
    /// The classes of its mask and those that the model tells, as a page shows them, one behind the other; empty where another rank
    /// has them.
    shown: Vec<u8>,
}

/// What is read of a batch, on its way from a device.
#[derive(Debug)]
struct Pending {
    first: usize,
    /// N losses, and N shares of pixels that are right.
    numbers: Numbers,
    /// N×2×side×side bytes.
    shown: Tensor,
}

impl Overlap {
    pub(super) fn new(classes: usize, criterion: Criterion) -> Self {
        Self {
            classes,
            criterion,
            loss: ExactSum::default(),
            samples: 0,
            on_device: None,
            pixels: vec![0; classes * classes],
            worst: Vec::new(),
            pending: None,
        }
    }

    /// Takes in what was found of a batch.
    fn take(&mut self, Pending { first, numbers, shown }: &Pending) -> anyhow::Result<()> {
        let numbers = numbers.get()?;
        let count = numbers.len() / 2;
        for number in 0..count {
            let [loss, accuracy] = [0, 1].map(|column| f64::from(numbers[column * count + number]));
            self.loss.add(loss);
            let index = first + number;
            let is_worse = |worst: &Sample| Sample::order((loss, index), (worst.loss, worst.index)).is_lt();
            if self.worst.len() < MOST_WORST || self.worst.last().is_some_and(is_worse) {
                // Few images come here once the first batches are over.
                let shown = shown.f_select(0, number as i64)?.f_to_device(Device::Cpu)?.contiguous().view(-1);
                self.worst.push(Sample { index, loss, accuracy, shown: Vec::try_from(shown)? });
                self.keep_worst();
            }
        }
        self.samples += count as u64;
        Ok(())
    }

    fn take_last(&mut self) -> anyhow::Result<()> {
        self.pending.take().map_or(Ok(()), |last| self.take(&last))
    }

    fn keep_worst(&mut self) {
        self.worst.sort_by(|one, other| Sample::order((one.loss, one.index), (other.loss, other.index)));
        self.worst.truncate(MOST_WORST);
    }

    /// Of all ranks' worst images those that are worst of all, with what a page shows of them. Collective.
    fn gather_worst(&mut self, channel: &Channel) -> anyhow::Result<()> {
        let own = std::mem::take(&mut self.worst);
        let rows: Vec<_> =
            own.iter().map(|sample| [sample.index as u64, sample.loss.to_bits(), sample.accuracy.to_bits()]).collect();
        let sample = |[index, loss, accuracy]: [u64; 3]| {
            let [loss, accuracy] = [loss, accuracy].map(f64::from_bits);
            Sample { index: index as usize, loss, accuracy, shown: Vec::new() }
        };
        self.worst = gather_rows(channel, &rows)?.into_iter().map(sample).collect();
        self.keep_worst();
        let mut length = [own.first().map_or(0, |sample| sample.shown.len() as u64)];
        channel.all_reduce(&mut length, Reduction::Max)?;
        // Each image is one rank's, and zeros on all others: eight pixels a number.
        let words = (length[0] as usize).div_ceil(8);
        let mut shown = vec![0_u64; self.worst.len() * words];
        for (sample, place) in self.worst.iter().zip(shown.chunks_exact_mut(words.max(1))) {
            let Some(own) = own.iter().find(|own| own.index == sample.index) else { continue };
            for (word, bytes) in place.iter_mut().zip(own.shown.chunks(8)) {
                *word = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            }
        }
        channel.all_reduce(&mut shown, Reduction::Sum)?;
        for (sample, words) in self.worst.iter_mut().zip(shown.chunks_exact(words.max(1))) {
            sample.shown = words.iter().flat_map(|word| word.to_le_bytes()).take(length[0] as usize).collect();
        }
        Ok(())
    }

    /// Pixels of the class, those that are taken for it, and those that are both.
    fn counts(&self, class: usize) -> [u64; 3] {
        let of = self.classes;
        let truth = self.pixels[class * of..(class + 1) * of].iter().sum();
        let predicted = self.pixels.iter().skip(class).step_by(of).sum();
        [truth, predicted, self.pixels[class * of + class]]
    }

    /// Intersection over union of a class; `None` where there is none of it in masks or outputs.
    fn iou(&self, class: usize) -> Option<f64> {
        let [truth, predicted, both] = self.counts(class);
        share(both, truth + predicted - both)
    }
}

impl Sample {
    /// Which of two losses is shown first: the higher one, and of equal ones that of the image that comes first, so that the choice
    /// does not depend on the number of ranks.
    fn order(one: (f64, usize), other: (f64, usize)) -> std::cmp::Ordering {
        other.0.total_cmp(&one.0).then(one.1.cmp(&other.1))
    }
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

impl Scorer for Overlap {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::share("miou", "mIoU"), Metric::share("pixel_accuracy", "pixel accuracy")]
    }

    fn add(&mut self, outputs: &[Tensor], targets: &Targets, first: usize) -> anyhow::Result<()> {
        let (logits, masks) = (&outputs[0], classes_of(targets));
        let (classes, size) = (self.classes as i64, logits.size());
        anyhow::ensure!(
            size.len() == 4 && size[1] == classes && [size[0], size[2], size[3]] == masks.size()[..],
            "the model gives {size:?} numbers, and the masks have {:?} pixels of {classes} classes",
            masks.size()
        );
        let predicted = logits.f_argmax(1, false)?;
        let counted = masks.f_ne(i64::from(IGNORED))?;
        let pairs = (&masks * classes + &predicted).f_where_scalarother(&counted, classes * classes)?;
        let counts = pairs.f_view(-1)?.f_bincount(None::<&Tensor>, classes * classes + 1)?;
        self.on_device = Some(match self.on_device.take() {
            Some(before) => before + counts,
            None => counts,
        });
        let right = predicted.f_eq_tensor(&masks)?.f_sum_dim_intlist([1, 2].as_slice(), false, Kind::Float)?;
        let of = counted.f_sum_dim_intlist([1, 2].as_slice(), false, Kind::Float)?.f_clamp_min(1.0)?;
        // In double precision, then rounded: where a kernel divides its work among threads, the last bits of what it computes differ,
        // and how many threads a rank has depends on the number of ranks.
        // Of a few images at a time: logits of all of them would be as large again, several times.
        let few = |(logits, masks): (Tensor, Tensor)| -> anyhow::Result<Tensor> {
            Ok(self.criterion.each(&logits.f_to_kind(Kind::Double)?, &masks).f_to_kind(Kind::Float)?)
        };
        let parts = logits.f_split(TOGETHER, 0)?.into_iter().zip(masks.f_split(TOGETHER, 0)?);
        let losses = Tensor::f_cat(&parts.map(few).collect::<anyhow::Result<Vec<_>>>()?, 0)?;
        let numbers = Tensor::f_cat(&[losses, right / of], 0)?;
        let side = size[2].min(LARGEST_SHOWN);
        let both = Tensor::f_stack(&[masks, predicted], 1)?.f_to_kind(Kind::Float)?;
        let shown = both.f_upsample_nearest2d([side, side], None, None)?.f_to_kind(Kind::Uint8)?;
        let pending = Pending { first, numbers: Numbers::on_their_way(&numbers)?, shown };
        let before = self.pending.replace(pending);
        before.map_or(Ok(()), |before| self.take(&before))?;
        // On the host they are there.
        if logits.device() == Device::Cpu { self.take_last() } else { Ok(()) }
    }

    fn gather(&mut self, channel: &Channel) -> anyhow::Result<()> {
        self.take_last()?;
        if let Some(counts) = self.on_device.take() {
            let counts = Vec::<i64>::try_from(counts.f_to_device(Device::Cpu)?)?;
            self.pixels.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count as u64);
        }
        channel.all_reduce(&mut self.pixels, Reduction::Sum)?;
        let (mut loss, mut samples) = ([self.loss], [self.samples]);
        ExactSum::gather(&mut loss, channel)?;
        channel.all_reduce(&mut samples, Reduction::Sum)?;
        ([self.loss], [self.samples]) = (loss, samples);
        self.gather_worst(channel)
    }

    fn samples(&self) -> u64 {
        self.samples
    }

    fn loss(&self) -> f64 {
        self.loss.value() / self.samples as f64
    }

    /// The mean of the intersections over unions of the classes that there are, and the share of all pixels that are right.
    fn scores(&self) -> Scores {
        let ious: Vec<f64> = (0..self.classes).filter_map(|class| self.iou(class)).collect();
        let miou = if ious.is_empty() { f64::NAN } else { ious.iter().sum::<f64>() / ious.len() as f64 };
        let right = (0..self.classes).map(|class| self.counts(class)[2]).sum();
        let accuracy = share(right, self.pixels.iter().sum()).unwrap_or(f64::NAN);
        Scores([("miou", miou), ("pixel_accuracy", accuracy)].map(|(name, value)| (name.to_owned(), value)).to_vec())
    }

    fn summary(&self) -> String {
        format!("{} images", self.samples)
    }

    fn evaluation(&self, epoch: Option<usize>, classes: &[String], show: &Show<'_>) -> Evaluation {
        let output = |(class, name): (usize, &String)| {
            let [truth, predicted, both] = self.counts(class);
            let values = [
                ("iou", self.iou(class)),
                ("dice", share(2 * both, truth + predicted)),
                ("precision", share(both, predicted)),
                ("recall", share(both, truth)),
            ];
            let scores = values.map(|(name, value)| (name.to_owned(), value.unwrap_or(f64::NAN))).to_vec();
            OutputScores { name: name.clone(), support: truth, scores: Scores(scores), curves: Vec::new() }
        };
        let mut confusion = Confusion::default();
        for (pair, &count) in self.pixels.iter().enumerate() {
            confusion.add_many((pair / self.classes) as u32, (pair % self.classes) as u32, count);
        }
        let shown = show(&self.worst.iter().map(|sample| sample.index).collect::<Vec<_>>());
        let worst_masks = self.worst.iter().zip(shown).map(|(sample, (path, thumbnail))| {
            let (truth, predicted) = sample.shown.split_at(sample.shown.len() / 2);
            let overlay = |classes: &[u8]| {
                thumbnail.as_ref()?;
                mask_overlay(classes, classes.len().isqrt())
            };
            let (truth, predicted) = (overlay(truth), overlay(predicted));
            WorstMask { path, accuracy: sample.accuracy, loss: sample.loss, thumbnail, truth, predicted }
        });
        Evaluation {
            outputs: classes.iter().enumerate().take(self.classes).map(output).collect(),
            confusion,
            worst_masks: worst_masks.collect(),
            ..Evaluation::plain(epoch, self.loss(), self.samples, self.metrics(), self.scores())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flags::LossKind;

    const PLAIN: Criterion = Criterion { kind: LossKind::Ce, label_smoothing: 0.0 };

    /// Three images of 2×2 pixels, of three classes of which the last does not occur.
    fn counted(batches: &[usize]) -> Overlap {
        let masks = [[0_u8, 0, 1, 255], [1, 1, 1, 1], [0, 0, 0, 1]];
        let told = [[0, 1, 1, 2], [1, 1, 1, 0], [0, 0, 0, 1]];
        let logit = |image: usize, class: usize, pixel: usize| if told[image][pixel] == class { 2.0_f32 } else { 0.0 };
        let mut overlap = Overlap::new(3, PLAIN);
        let mut first = 0;
        for &count in batches {
            let values: Vec<f32> = (first..first + count)
                .flat_map(|image| (0..3).flat_map(move |class| (0..4).map(move |pixel| logit(image, class, pixel))))
                .collect();
            let logits = Tensor::from_slice(&values).view([count as i64, 3, 2, 2]);
            let masks = Tensor::from_slice(&masks[first..first + count].concat()).view([count as i64, 2, 2]);
            overlap.add(&[logits], &Targets::of(vec![masks]), first).unwrap();
            first += count;
        }
        let counts = Vec::<i64>::try_from(overlap.on_device.take().unwrap()).unwrap();
        overlap.pixels.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count as u64);
        overlap
    }

    #[test]
    fn scores_are_those_of_all_pixels_whatever_the_batches() {
        for batches in [&[3][..], &[1, 2]] {
            let overlap = counted(batches);
            let scores = overlap.scores();
            // Class 0: 4 right, 1 taken for 1, 1 of 1 taken for it. Class 1: 5 right. Class 2 is neither in masks that count nor told there.
            assert!((scores.get("miou") - (4.0 / 6.0 + 5.0 / 7.0) / 2.0).abs() < 1e-12, "{scores:?}");
            assert!((scores.get("pixel_accuracy") - 9.0 / 11.0).abs() < 1e-12);
            assert_eq!((overlap.samples(), overlap.iou(2)), (3, None));
            let order: Vec<_> = overlap.worst.iter().map(|sample| sample.index).collect();
            assert_eq!(order, [0, 1, 2]);
            assert_eq!(overlap.worst[1].shown, [1, 1, 1, 1, 1, 1, 1, 0]);
            assert_eq!((overlap.worst[0].accuracy, overlap.worst[1].accuracy), (f64::from(2.0_f32 / 3.0), 0.75));
        }
        assert_eq!(counted(&[3]).loss().to_bits(), counted(&[1, 1, 1]).loss().to_bits());
    }

    #[test]
    fn a_page_shows_the_worst() {
        let names = ["sky", "sea", "ship"].map(str::to_owned);
        let show = |indices: &[usize]| {
            indices.iter().map(|index| (format!("{index}.png"), Some("data:image/png;base64,".to_owned()))).collect()
        };
        let evaluation = counted(&[2, 1]).evaluation(Some(3), &names, &show);
        assert_eq!(evaluation.outputs[1].support, 6);
        assert_eq!(evaluation.outputs[1].scores.get("recall"), 5.0 / 6.0);
        assert!(evaluation.outputs[2].scores.get("iou").is_nan());
        assert_eq!((evaluation.confusion.count(0, 1), evaluation.class(1)), (1, "sea"));
        assert_eq!(evaluation.worst_masks[0].path, "0.png");
        assert!(evaluation.worst_masks[0].truth.as_ref().unwrap().starts_with("data:image/png"));
    }
}
