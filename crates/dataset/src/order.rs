//! The order of samples, and the randomness of each: a matter of seed and epoch alone, never of ranks or threads.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a random stream is for; keeps the streams apart.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Stream {
    Order = 1,
    Augmentation = 2,
}

/// The random stream of (seed, epoch, index).
pub(crate) fn stream(stream: Stream, seed: u64, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([stream as u64, seed, epoch, index]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// All sample indices below `length`, in the order of this epoch.
pub(crate) fn permutation(length: usize, seed: u64, epoch: u64) -> Vec<u32> {
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
    fn epochs_and_seeds_differ_and_repeat() {
        assert_eq!(permutation(100, 1, 2), permutation(100, 1, 2));
        assert_ne!(permutation(100, 1, 2), permutation(100, 1, 3));
        assert_ne!(permutation(100, 1, 2), permutation(100, 2, 2));
    }
}
