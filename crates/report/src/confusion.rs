//! Which classes were taken for which, and the scores of each class that follow from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How often the samples of one class were taken for another. Only pairs that occur take memory: as many as there are
/// samples at most, whatever the number of classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusion(BTreeMap<(u32, u32), u64>);

/// How well one class is told from the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// The class's name.
    pub name: String,
    /// Samples of the class.
    pub support: u64,
    /// Samples that were taken for it.
    pub predicted: u64,
    /// Samples of the class that were taken for it.
    pub correct: u64,
    /// Share of what was taken for the class that is of it, 0–1; `None` where nothing was.
    pub precision: Option<f64>,
    /// Share of the class that was taken for it, 0–1; `None` where there are no samples of it.
    pub recall: Option<f64>,
    /// Harmonic mean of both: 2·correct / (support + predicted); `None` where neither occurs.
    pub f1: Option<f64>,
}

impl Confusion {
    /// Counts one sample of class `label` that was taken for class `predicted`.
    pub fn add(&mut self, label: u32, predicted: u32) {
        self.add_many(label, predicted, 1);
    }

    /// Counts `count` such samples.
    pub fn add_many(&mut self, label: u32, predicted: u32, count: u64) {
        if count > 0 {
            *self.0.entry((label, predicted)).or_default() += count;
        }
    }

    /// Label, predicted class and how often, for all pairs that occur, in order.
    pub fn entries(&self) -> impl Iterator<Item = (u32, u32, u64)> + '_ {
        self.0.iter().map(|(&(label, predicted), &count)| (label, predicted, count))
    }

    /// How often class `label` was taken for class `predicted`.
    pub fn count(&self, label: u32, predicted: u32) -> u64 {
        self.0.get(&(label, predicted)).copied().unwrap_or(0)
    }

    /// The classes that were most often taken for another: label, predicted class and how often.
    pub fn most_confused(&self, pairs: usize) -> Vec<(u32, u32, u64)> {
        let mut wrong: Vec<_> = self.entries().filter(|(label, predicted, _)| label != predicted).collect();
        wrong.sort_by_key(|&(label, predicted, count)| (std::cmp::Reverse(count), label, predicted));
        wrong.truncate(pairs);
        wrong
    }

    /// The scores of each class of `names`, in order.
    pub fn scores(&self, names: &[String]) -> Vec<ClassScores> {
        let [mut support, mut predicted, mut correct] = [(); 3].map(|()| vec![0u64; names.len()]);
        for (label, guess, count) in self.entries() {
            for (sums, class) in [(&mut support, label), (&mut predicted, guess)] {
                if let Some(sum) = sums.get_mut(class as usize) {
                    *sum += count;
                }
            }
            if label == guess
                && let Some(sum) = correct.get_mut(label as usize)
            {
                *sum += count;
            }
        }
        let scores = |(class, name): (usize, &String)| {
            let (support, predicted, correct) = (support[class], predicted[class], correct[class]);
            ClassScores {
                name: name.clone(),
                support,
                predicted,
                correct,
                precision: share(correct, predicted),
                recall: share(correct, support),
                f1: share(2 * correct, support + predicted),
            }
        };
        names.iter().enumerate().map(scores).collect()
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scores_are_those_of_a_known_table() {
        // 3 cats (2 right, 1 a dog), 2 dogs (1 right, 1 a cat), no eel, and nothing was taken for one.
        let mut confusion = Confusion::default();
        for (label, predicted, count) in [(0, 0, 2), (0, 1, 1), (1, 1, 1), (1, 0, 1)] {
            confusion.add_many(label, predicted, count);
        }
        let names = ["cat", "dog", "eel"].map(str::to_owned);
        let [cat, dog, eel] = &confusion.scores(&names)[..] else { panic!("three classes") };
        assert_eq!((cat.support, cat.predicted, cat.correct), (3, 3, 2));
        assert_eq!((cat.precision, cat.recall, cat.f1), (Some(2.0 / 3.0), Some(2.0 / 3.0), Some(4.0 / 6.0)));
        assert_eq!((dog.precision, dog.recall, dog.f1), (Some(0.5), Some(0.5), Some(0.5)));
        assert_eq!((eel.precision, eel.recall, eel.f1), (None, None, None));
        assert_eq!(confusion.most_confused(1), [(0, 1, 1)]);
    }

    proptest! {
        #[test]
        fn every_sample_is_counted_once(samples in prop::collection::vec((0u32..7, 0u32..7), 0..200)) {
            let mut confusion = Confusion::default();
            samples.iter().for_each(|&(label, predicted)| confusion.add(label, predicted));
            let names: Vec<_> = (0..7).map(|class| class.to_string()).collect();
            let scores = confusion.scores(&names);
            let total = |of: fn(&ClassScores) -> u64| scores.iter().map(of).sum::<u64>();
            prop_assert_eq!(total(|class| class.support), samples.len() as u64);
            prop_assert_eq!(total(|class| class.predicted), samples.len() as u64);
            let right = samples.iter().filter(|(label, predicted)| label == predicted).count() as u64;
            prop_assert_eq!(total(|class| class.correct), right);
            let wrong: u64 = confusion.most_confused(usize::MAX).iter().map(|&(_, _, count)| count).sum();
            prop_assert_eq!(wrong, samples.len() as u64 - right);
            for class in scores {
                // F1 is the harmonic mean where both exist.
                if let (Some(precision), Some(recall), Some(f1)) = (class.precision, class.recall, class.f1)
                    && precision + recall > 0.0
                {
                    prop_assert!((f1 - 2.0 * precision * recall / (precision + recall)).abs() < 1e-12);
                }
            }
        }
    }
}
