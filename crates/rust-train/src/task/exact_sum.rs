//! Sums that do not depend on the order of their terms: at any number of ranks the last digit is the same.

use world::Channel;

/// The smallest part of a term that counts, as a power of two: whole numbers of 2⁻⁶⁰ are added, without rounding.
const UNIT: f64 = (1_u64 << 60) as f64;

/// A sum of numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExactSum {
    units: i128,
    /// What is too large to be counted like that, or no number: added as it comes.
    rest: f64,
}

impl ExactSum {
    pub(super) fn add(&mut self, number: f64) {
        match number.abs() < 1e12 {
            true => self.units += (number * UNIT) as i128, // what lies below the unit is cut off, of each number alike
            false => self.rest += number,
        }
    }

    /// The sum.
    pub(super) fn value(&self) -> f64 {
        self.units as f64 / UNIT + self.rest
    }

    /// Adds up those of all ranks. Collective.
    pub(super) fn gather(sums: &mut [Self], channel: &Channel) -> world::Result<()> {
        let own: Vec<u64> =
            sums.iter().flat_map(|sum| [sum.units as u64, (sum.units >> 64) as u64, sum.rest.to_bits()]).collect();
        let all = channel.all_gather(&own)?;
        sums.fill(Self::default());
        for rank in all.chunks_exact(own.len().max(1)) {
            for (sum, [low, high, rest]) in sums.iter_mut().zip(rank.as_chunks::<3>().0) {
                sum.units += i128::from(*high as i64) << 64 | i128::from(*low);
                sum.rest += f64::from_bits(*rest);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_does_not_matter(mut numbers in proptest::collection::vec(-1e6f64..1e6, 0..50), seed: usize) {
            let sum = |numbers: &[f64]| {
                let mut sum = ExactSum::default();
                numbers.iter().for_each(|&number| sum.add(number));
                sum.value()
            };
            let (forward, plain) = (sum(&numbers), numbers.iter().sum::<f64>());
            let middle = seed % (numbers.len() + 1);
            numbers.rotate_left(middle);
            prop_assert_eq!(forward.to_bits(), sum(&numbers).to_bits());
            prop_assert!((forward - plain).abs() < 1e-6);
        }
    }

    #[test]
    fn what_is_no_number_makes_the_sum_none() {
        let mut sum = ExactSum::default();
        sum.add(1.5);
        sum.add(-0.25);
        assert_eq!(sum.value(), 1.25);
        sum.add(f64::NAN);
        assert!(sum.value().is_nan());
    }
}
