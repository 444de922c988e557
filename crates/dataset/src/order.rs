//! The order of samples, and the randomness of each: a matter of seed and epoch alone, never of ranks or threads.

use std::iter::repeat_n;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a random stream is for; keeps the streams apart.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Stream {
    Order = 1,
    Augmentation = 2,
    Mix = 3,
    Places = 4,
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

/// What stands at a position of an epoch: a sample, and the how-many-eth time it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Draw {
    /// The sample's index.
    sample: u32,
    /// How often the sample was drawn before in this epoch.
    earlier: u32,
}

impl Draw {
    /// A sample's first draw.
    pub fn first(sample: usize) -> Self {
        Self { sample: u32::try_from(sample).expect("fewer than 2^32 samples"), earlier: 0 }
    }

    /// The sample's index.
    pub fn sample(self) -> usize {
        self.sample as usize
    }

    /// The randomness of this draw's augmentation: another for each draw of a sample, so that none is a copy.
    pub fn augmentation(self, seed: u64, epoch: u64) -> ChaCha8Rng {
        let index = u64::from(self.sample) | u64::from(self.earlier) << 32;
        stream(Stream::Augmentation, seed, epoch, index)
    }
}

/// The draws of one epoch, by their position in it.
#[derive(Debug)]
pub(crate) enum EpochOrder {
    /// Each sample once, and nothing more to be kept of it.
    Once(Vec<u32>),
    Draws(Vec<Draw>),
}

impl EpochOrder {
    /// The order of this epoch, which is cut into batches of `global_batch` from position `first` on.
    ///
    /// With `repeats`, a batch holds each of its samples so many times, at random places: in a row they would be all on
    /// one rank, and mixed with the same image. The epoch is as long as ever: it sees fewer samples, in more forms.
    pub fn new(
        labels: &[i64],
        sampling: Sampling,
        repeats: usize,
        (global_batch, first): (usize, usize),
        seed: u64,
        epoch: u64,
    ) -> Self {
        if (sampling, repeats.max(1)) == (Sampling::Shuffled, 1) {
            return Self::Once(permutation(labels.len(), seed, epoch));
        }
        let samples = match sampling {
            Sampling::Shuffled => permutation(labels.len(), seed, epoch),
            Sampling::Balanced => balanced(labels, seed, epoch),
        };
        let mut times = vec![0; labels.len()];
        let mut draw = |sample: u32| {
            let times: &mut u32 = &mut times[sample as usize];
            *times += 1;
            Draw { sample, earlier: *times - 1 }
        };
        let repeated = samples.iter().flat_map(|&sample| repeat_n(sample, repeats.max(1)));
        let mut draws: Vec<_> = repeated.take(samples.len()).map(&mut draw).collect();
        if repeats > 1 {
            let rest = draws.get_mut(first..).unwrap_or_default();
            for (step, places) in rest.chunks_mut(global_batch).enumerate() {
                shuffle(places, &mut stream(Stream::Places, seed, epoch, (first / global_batch + step) as u64));
            }
        }
        Self::Draws(draws)
    }

    /// What stands at a position.
    pub fn at(&self, position: usize) -> Draw {
        match self {
            Self::Once(samples) => Draw { sample: samples[position], earlier: 0 },
            Self::Draws(draws) => draws[position],
        }
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
    of_class.retain(|samples| !samples.is_empty()); // skipped images may have been all of a class
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
    shuffle(&mut order, &mut stream(Stream::Order, seed, epoch, 0));
    order
}

/// Fisher–Yates, written out so that the order never changes with a library's version.
fn shuffle<T>(items: &mut [T], random: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.random_range(0..=last as u64) as usize);
    }
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

        /// A batch of repeated samples holds what it would hold if they came in a row, and no draw comes twice.
        #[test]
        fn repeats_stay_in_their_batch(
            length in 1usize..300, repeats in 1usize..9, batch in 1usize..64, is_balanced: bool, seed: u64, epoch: u64,
        ) {
            let sampling = if is_balanced { Sampling::Balanced } else { Sampling::Shuffled };
            let labels: Vec<i64> = (0..length as i64).map(|sample| sample % 7 * (sample % 3)).collect();
            let samples = match sampling {
                Sampling::Shuffled => permutation(length, seed, epoch),
                Sampling::Balanced => balanced(&labels, seed, epoch),
            };
            let order = EpochOrder::new(&labels, sampling, repeats, (batch, 0), seed, epoch);
            for start in (0..length).step_by(batch) {
                let positions = start..(start + batch).min(length);
                let mut in_a_row: Vec<_> = positions.clone().map(|place| samples[place / repeats] as usize).collect();
                let mut found: Vec<_> = positions.map(|position| order.at(position).sample()).collect();
                if repeats == 1 {
                    prop_assert_eq!(&found, &in_a_row);
                }
                in_a_row.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, in_a_row);
            }
            let draws = (0..length).map(|position| order.at(position));
            let mut draws: Vec<_> = draws.map(|draw| (draw.sample, draw.earlier)).collect();
            draws.sort_unstable();
            // Each sample's draws are counted from 0, without a gap.
            let follows = |one: (u32, u32), next: (u32, u32)| {
                if next.0 == one.0 { next.1 == one.1 + 1 } else { next.1 == 0 }
            };
            prop_assert!(draws.windows(2).all(|pair| follows(pair[0], pair[1])));
            prop_assert_eq!(draws[0].1, 0);
        }
    }

    #[test]
    fn a_balanced_epoch_has_all_classes_alike() {
        let labels: Vec<i64> = (0..1000).map(|sample| i64::from(sample < 20)).collect(); // 20 of 1000
        let order = EpochOrder::new(&labels, Sampling::Balanced, 1, (100, 0), 5, 0);
        let rare = (0..1000).filter(|&position| order.at(position).sample() < 20).count();
        assert!((430..570).contains(&rare), "{rare} of 1000");
    }

    #[test]
    fn epochs_and_seeds_differ_and_repeat() {
        assert_eq!(permutation(100, 1, 2), permutation(100, 1, 2));
        assert_ne!(permutation(100, 1, 2), permutation(100, 1, 3));
        assert_ne!(permutation(100, 1, 2), permutation(100, 2, 2));
    }
}
