//! The order of samples, and the randomness of each: a matter of seed and epoch alone, never of ranks or threads.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a random stream is for; keeps the streams apart.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Stream {
    Order = 1,
    Augmentation = 2,
    Mix = 3,
}

/// The random stream of (seed, epoch, index).
pub(crate) fn stream(stream: Stream, seed: u64, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([stream as u64, seed, epoch, index]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// How the samples of an epoch are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// Every sample once, in random order.
    #[default]
    Shuffled,
    /// Samples are drawn with replacement, every class as often as any other: for sets whose classes differ in size.
    Balanced,
}

/// The samples of one epoch, by their position in it.
#[derive(Debug)]
pub(crate) struct EpochOrder {
    samples: Vec<u32>,
    repeats: usize,
}

impl EpochOrder {
    /// The order of this epoch. Each sample comes `repeats` times in a row, and the epoch is as long as ever: repeated
    /// augmentation sees fewer samples of an epoch, in more forms.
    pub fn new(labels: &[i64], sampling: Sampling, repeats: usize, seed: u64, epoch: u64) -> Self {
        let samples = match sampling {
            Sampling::Shuffled => permutation(labels.len(), seed, epoch),
            Sampling::Balanced => balanced(labels, seed, epoch),
        };
        Self { samples, repeats: repeats.max(1) }
    }

    /// The sample at a position, and which of its repetitions stands there.
    pub fn at(&self, position: usize) -> (usize, u64) {
        (self.samples[position / self.repeats] as usize, (position % self.repeats) as u64)
    }
}

/// As many samples as there are, of random classes.
fn balanced(labels: &[i64], seed: u64, epoch: u64) -> Vec<u32> {
    let mut of_class: Vec<Vec<u32>> = Vec::new();
    for (sample, &label) in labels.iter().enumerate() {
        let class = usize::try_from(label).expect("labels are classes");
        of_class.resize(of_class.len().max(class + 1), Vec::new());
        of_class[class].push(u32::try_from(sample).expect("fewer than 2^32 samples"));
    }
    of_class.retain(|samples| !samples.is_empty()); // skipped pictures may have been all of a class
    let mut random = stream(Stream::Order, seed, epoch, 0);
    let mut below = |limit: usize| random.random_range(0..limit as u64) as usize;
    (0..labels.len())
        .map(|_| {
            let samples = &of_class[below(of_class.len())];
            samples[below(samples.len())]
        })
        .collect()
}

/// All sample indices below `length`, in the order of this epoch.
fn permutation(length: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..u32::try_from(length).expect("fewer than 2^32 samples")).collect();
    let mut random = stream(Stream::Order, seed, epoch, 0);
    // Fisher–Yates, written out so that the order never changes with a library's version.
    for last in (1..order.len()).rev() {
        order.swap(last, random.random_range(0..=last as u64) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_sample_comes_once(length in 0usize..2000, seed: u64, epoch in 0u64..100) {
            let mut order = permutation(length, seed, epoch);
            order.sort_unstable();
            prop_assert!(order.iter().enumerate().all(|(index, &sample)| index == sample as usize));
        }
    }

    #[test]
    fn a_balanced_epoch_has_all_classes_alike() {
        let labels: Vec<i64> = (0..1000).map(|sample| i64::from(sample < 20)).collect(); // 20 of 1000
        let order = EpochOrder::new(&labels, Sampling::Balanced, 1, 5, 0);
        let rare = (0..1000).filter(|&position| order.at(position).0 < 20).count();
        assert!((430..570).contains(&rare), "{rare} of 1000");
    }

    #[test]
    fn repeated_samples_come_in_a_row() {
        let order = EpochOrder::new(&[0; 10], Sampling::Shuffled, 3, 5, 0);
        let all: Vec<_> = (0..10).map(|position| order.at(position)).collect();
        assert!(all[..3].iter().all(|(sample, _)| *sample == all[0].0));
        assert_eq!(all.iter().map(|(_, repeat)| *repeat).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn epochs_and_seeds_differ_and_repeat() {
        assert_eq!(permutation(100, 1, 2), permutation(100, 1, 2));
        assert_ne!(permutation(100, 1, 2), permutation(100, 1, 3));
        assert_ne!(permutation(100, 1, 2), permutation(100, 2, 2));
    }
}
