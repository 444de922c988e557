//! Mean and standard deviation of each channel of a set: the same bits whoever adds up which part.

use std::ops::Range;

use rayon::prelude::*;

use super::array::not_a_number;
use super::{ImageSet, OnNan, Stored};
use crate::{Decoder, Error, Normalization, Result};

/// Images that are added up one after the other. What is added up of several of them is added in their order.
const BLOCK: usize = 64;
/// Numbers for each channel of a block: how many there are, their sum, and that of their squares.
const SUMS: usize = 3;

/// A thread's buffers.
pub(super) type Tools = (Decoder, Vec<u8>);

impl ImageSet {
    /// The parts of a set that ranks can share.
    pub fn blocks(&self) -> usize {
        self.len().div_ceil(BLOCK)
    }

    /// The numbers that [`moments`](Self::moments) gives for each block.
    pub fn moments_of_a_block(&self) -> usize {
        self.format().channels() * SUMS
    }

    /// Adds up these blocks: how many numbers each channel of each has, their sum, and that of their squares. Numbers that are none are left out; numbers are taken less
    /// the first of their channel, so that large ones that hardly differ keep what they differ by. Works on the current rayon
    /// pool.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn moments(&self, blocks: Range<usize>) -> Result<Vec<f64>> {
        let pivot = self.pivot()?;
        let tools = || (Decoder::new(self.decoding()), Vec::new());
        let sums = blocks.into_par_iter().map_init(tools, |tools, block| {
            let mut sums = vec![0.0; pivot.len() * SUMS];
            self.each_of_block(block, tools, |channel, number| {
                let number = number - pivot[channel];
                let sums = &mut sums[channel * SUMS..][..SUMS];
                sums[0] += 1.0;
                sums[1] += number;
                sums[2] += number * number;
            })?;
            Ok(sums)
        });
        Ok(sums.collect::<Result<Vec<_>>>()?.concat())
    }

    /// What the sums of all blocks, in order, make of each channel. One whose numbers are all the same is divided by 1.
    ///
    /// # Errors
    /// An image that cannot be read; a channel without a number.
    pub fn normalization(&self, moments: &[f64]) -> Result<Normalization> {
        let pivot = self.pivot()?;
        let (mut mean, mut std) = (Vec::new(), Vec::new());
        for (channel, pivot) in pivot.iter().enumerate() {
            let blocks = moments.chunks_exact(self.moments_of_a_block());
            let sum = |place: usize| blocks.clone().map(|block| block[channel * SUMS + place]).sum::<f64>();
            let (count, sum, squares) = (sum(0), sum(1), sum(2));
            let average = sum / count;
            let deviation = (squares / count - average * average).max(0.0).sqrt();
            if !average.is_finite() || !deviation.is_finite() {
                return Err(Error::Input(format!(
                    "channel {channel} of the training images has no mean: it has no numbers, or infinite ones"
                )));
            }
            mean.push(pivot + average);
            std.push(if deviation > 0.0 { deviation } else { 1.0 });
        }
        Ok(Normalization { mean, std })
    }

    /// A number of each channel: the first of the first image that has one.
    fn pivot(&self) -> Result<Vec<f64>> {
        let mut pivot = vec![f64::NAN; self.format().channels()];
        if !self.is_empty() {
            self.each(0, &mut (Decoder::new(self.decoding()), Vec::new()), |channel, number| {
                if pivot[channel].is_nan() && number.is_finite() {
                    pivot[channel] = number;
                }
            })?;
        }
        Ok(pivot.into_iter().map(|number| if number.is_nan() { 0.0 } else { number }).collect())
    }

    /// Calls `take` with each number of the images of a block that is one, and its channel.
    pub(super) fn each_of_block(
        &self,
        block: usize,
        tools: &mut Tools,
        mut take: impl FnMut(usize, f64),
    ) -> Result<()> {
        for index in block * BLOCK..((block + 1) * BLOCK).min(self.len()) {
            let mut missing = None;
            self.each(index, tools, |channel, number| match number.is_finite() {
                true => take(channel, number),
                false => missing = Some(channel),
            })?;
            if let (Some(channel), OnNan::Fail) = (missing, self.on_nan()) {
                return Err(self.broken(index, not_a_number(channel)));
            }
        }
        Ok(())
    }

    /// Calls `take` with each number of an image, as normalization sees it, and its channel.
    fn each(&self, index: usize, (decoder, scratch): &mut Tools, mut take: impl FnMut(usize, f64)) -> Result<()> {
        let mut bytes = |pixels: &[u8]| {
            for pixel in pixels.as_chunks::<3>().0 {
                pixel.iter().enumerate().for_each(|(channel, &byte)| take(channel, f64::from(byte) / 255.0));
            }
        };
        let stored = self.stored(index, scratch)?;
        let decoded = match &stored {
            Stored::Pixels(_, pixels) => {
                bytes(pixels);
                return Ok(());
            }
            Stored::Array(layout, _, numbers) => {
                layout.each(numbers, take);
                return Ok(());
            }
            Stored::Encoded(decoding, _) | Stored::OnDisk(decoding, _) if decoding.numbers.is_some() => {
                decoder.numbers(stored.source()).map(|(layout, numbers)| layout.each(numbers, take))
            }
            Stored::Encoded(..) | Stored::OnDisk(..) => {
                decoder.decode_source(stored.source()).map(|(_, pixels)| bytes(pixels))
            }
        };
        decoded.map_err(|reason| self.broken(index, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moments_are_those_of_all_pixels_whoever_adds_them_up() {
        let pixels: Vec<u8> = (0..150 * 2 * 2 * 3u32).map(|index| (index * index % 251) as u8).collect();
        let images = ImageSet::from_memory(pixels.clone(), vec![0; 150], 2);
        let parts = [0..1, 1..3].map(|part| images.moments(part).unwrap()).concat();
        let together = images.moments(0..3).unwrap();
        assert_eq!(parts, together);
        let found = images.normalization(&together).unwrap();
        for channel in 0..3 {
            let values: Vec<f64> =
                pixels.iter().skip(channel).step_by(3).map(|&byte| f64::from(byte) / 255.0).collect();
            let mean = values.iter().sum::<f64>() / 600.0;
            let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 600.0).sqrt();
            assert!((found.mean[channel] - mean).abs() < 1e-12 && (found.std[channel] - std).abs() < 1e-12);
        }
        let even = ImageSet::from_memory(vec![51; 12 * 4], vec![0; 4], 2);
        assert_eq!(even.normalization(&even.moments(0..1).unwrap()).unwrap().std, [1.0; 3]);
    }
}
