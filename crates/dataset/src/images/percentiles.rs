//! Percentiles of each channel of a set, exactly, whoever counts which part: the digits of a number in base 4096, from the most
//! significant on, are found one after the other by counting.

use std::ops::Range;

use rayon::prelude::*;

use super::ImageSet;
use crate::{Decoder, Error, Normalization, Result};

/// Bits of each digit.
const DIGITS: [u32; 3] = [12, 12, 8];
/// The percentiles that become −1 and 1, as shares.
const LOW_AND_HIGH: [f64; 2] = [0.01, 0.99];

/// Percentiles that are being found: how far each is known.
#[derive(Clone, Debug)]
pub struct Percentiles {
    /// For each channel and percentile: the digits that are known, and how many numbers with these come before it.
    known: Vec<[(u32, u64); 2]>,
    /// How many digits these are.
    digits: usize,
}

impl Percentiles {
    /// Of so many channels.
    pub fn new(channels: usize) -> Self {
        Self { known: vec![[(0, 0); 2]; channels], digits: 0 }
    }

    /// Whether all is known.
    pub fn is_complete(&self) -> bool {
        self.digits == DIGITS.len()
    }

    fn bins(&self) -> usize {
        1 << DIGITS[self.digits]
    }

    /// Counts, in these blocks of `images`, which next digit the numbers have that begin with the known ones. What several ranks
    /// have counted is added up. Works on the current rayon pool.
    ///
    /// # Errors
    /// An image that cannot be read, or that lacks numbers where that is a fault.
    pub fn count(&self, images: &ImageSet, blocks: Range<usize>) -> Result<Vec<u64>> {
        let (bins, rest) = (self.bins(), DIGITS[self.digits..].iter().sum::<u32>());
        let shift = rest - DIGITS[self.digits];
        let width = self.known.len() * 2 * bins;
        let tools = || (Decoder::new(images.decoding()), Vec::new());
        let counted = blocks.into_par_iter().fold(
            || Ok((vec![0_u64; width], tools())),
            |state: Result<_>, block| {
                let (mut counts, mut tools) = state?;
                images.each_of_block(block, &mut tools, |channel, number| {
                    let key = ordered(number as f32);
                    for (which, (known, _)) in self.known[channel].iter().enumerate() {
                        if u64::from(key) >> rest == u64::from(*known) {
                            counts[(channel * 2 + which) * bins + ((key >> shift) as usize & (bins - 1))] += 1;
                        }
                    }
                })?;
                Ok((counts, tools))
            },
        );
        counted.map(|state| state.map(|(counts, _)| counts)).try_reduce(
            || vec![0; width],
            |mut one, other| {
                one.iter_mut().zip(other).for_each(|(one, other)| *one += other);
                Ok(one)
            },
        )
    }

    /// Goes on with what all ranks have counted.
    ///
    /// # Errors
    /// A channel without numbers.
    pub fn narrow(&mut self, counts: &[u64]) -> Result<()> {
        let bins = self.bins();
        let bits = DIGITS[self.digits];
        let is_first = self.digits == 0;
        for (channel, known) in self.known.iter_mut().enumerate() {
            for (which, (digits, rank)) in known.iter_mut().enumerate() {
                let counts = &counts[(channel * 2 + which) * bins..][..bins];
                if is_first {
                    let count: u64 = counts.iter().sum();
                    if count == 0 {
                        return Err(Error::Input(format!("channel {channel} of the training images has no numbers")));
                    }
                    *rank = (LOW_AND_HIGH[which] * (count - 1) as f64) as u64;
                }
                let mut digit = 0;
                while digit + 1 < bins && *rank >= counts[digit] {
                    *rank -= counts[digit];
                    digit += 1;
                }
                *digits = *digits << bits | digit as u32;
            }
        }
        self.digits += 1;
        Ok(())
    }

    /// Channels whose percentiles are equal: nearly all of their numbers are.
    pub fn flat(&self) -> Vec<usize> {
        (0..self.known.len()).filter(|&channel| self.known[channel][0].0 == self.known[channel][1].0).collect()
    }

    /// What makes −1 and 1 of the percentiles. A [flat](Self::flat) channel is divided by 1.
    pub fn normalization(&self) -> Normalization {
        let ends = self.known.iter().map(|known| known.map(|(key, _)| f64::from(number_of(key))));
        let (mean, std) =
            ends.map(|[low, high]| ((low + high) / 2.0, if high > low { (high - low) / 2.0 } else { 1.0 })).unzip();
        Normalization { mean, std }
    }
}

/// A number as one that is larger where the number is.
fn ordered(number: f32) -> u32 {
    let bits = number.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn number_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_their_numbers(one: f32, other: f32) {
            prop_assume!(!one.is_nan() && !other.is_nan());
            prop_assert_eq!(ordered(one).cmp(&ordered(other)), one.total_cmp(&other));
            prop_assert_eq!(number_of(ordered(one)).to_bits(), one.to_bits());
        }
    }

    #[test]
    fn percentiles_are_those_of_all_numbers_whoever_counts_them() {
        let pixels: Vec<u8> = (0..150 * 2 * 2 * 3u32).map(|index| (index * index % 251) as u8).collect();
        let images = ImageSet::from_memory(pixels.clone(), vec![0; 150], 2);
        let find = |parts: &[Range<usize>]| {
            let mut found = Percentiles::new(3);
            while !found.is_complete() {
                let counts = parts.iter().map(|part| found.count(&images, part.clone()).unwrap());
                let sum = counts.reduce(|one, other| one.iter().zip(&other).map(|(a, b)| a + b).collect()).unwrap();
                found.narrow(&sum).unwrap();
            }
            found.normalization()
        };
        let found = find(&[0..2, 2..3]);
        assert_eq!(found, find(&[0..1, 1..2, 2..3]));
        for channel in 0..3 {
            let mut values: Vec<f64> =
                pixels.iter().skip(channel).step_by(3).map(|&byte| f64::from(f64::from(byte) as f32 / 255.0)).collect();
            values.sort_by(f64::total_cmp);
            // numpy.percentile(values, [1, 99], method="lower")
            let [low, high] = LOW_AND_HIGH.map(|share| values[(share * 599.0) as usize]);
            assert!((found.mean[channel] - (low + high) / 2.0).abs() < 1e-6, "{} {low} {high}", found.mean[channel]);
            assert!((found.std[channel] - (high - low) / 2.0).abs() < 1e-6);
        }
    }
}
