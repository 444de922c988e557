//! What each pixel of a scaled line is made of: weights of the filter, as whole numbers of 2⁻²², which is how Pillow computes.

use std::ops::Range;

use super::Resample;

/// A weight of 1 is 2²²: 8 bits are left for a pixel, and 2 for sums that go beyond it.
pub(super) const WEIGHT_BITS: u32 = 32 - 8 - 2;
/// A weight is this many lower bits and the rest, each of which fits into 16 bits with its sign.
pub(super) const LOWER_BITS: u32 = 12;

/// The weights of one direction of a scaling.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// The first pixel of each sum, and how many there are.
    spans: Vec<(u32, u32)>,
    /// `stride` of them for each sum, an even number.
    weights: Vec<i32>,
    stride: usize,
    /// Two weights each: their upper parts in two halves of a word, their lower parts in two halves of another.
    pairs: Vec<[i32; 2]>,
}

/// One direction of a scaling: which part of a line is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direction {
    /// Pixels of the line that becomes `scaled` pixels, of which the window takes some.
    pub length: f64,
    pub scaled: f64,
    /// The line's pixels for each scaled one.
    scale: f64,
    /// Where the window begins: in pixels of the line, and in scaled ones.
    start: f64,
    first: f64,
    /// The last pixel that may be looked at, and one more.
    end: usize,
}

impl Direction {
    /// Of a line of `length` pixels the `part` from `start` on becomes `count` pixels. A window of a scaled image gets the very
    /// weights that the whole image gets; any other is taken for the part that it is.
    pub fn new(length: u32, start: f64, part: f64, count: usize) -> Self {
        const NEAR: f64 = 1e-6;
        let (end, length) = (length as usize, f64::from(length));
        let scale = part / count as f64;
        let (all, first) = ((length / scale).round(), (start / scale).round());
        if (length / scale - all).abs() < NEAR && (start / scale - first).abs() < NEAR && all >= 1.0 {
            return Self { length, scaled: all, scale: length / all, start: 0.0, first, end };
        }
        let start = start.clamp(0.0, length);
        let part = part.min(length - start);
        Self { length: part, scaled: count as f64, scale: part / count as f64, start, first: 0.0, end }
    }

    /// Pixels that one scaled pixel is made of, at most: an even number.
    fn most_shares(&self, resample: Resample) -> usize {
        resample.support(self.scale).ceil() as usize * 2 + 2
    }

    /// The share of each pixel in the scaled one number `index`, of those that lie in `there`; the first of them.
    fn shares(&self, resample: Resample, index: usize, there: &Range<usize>, shares: &mut Vec<f64>) -> usize {
        let &Self { scale, start, first, end, .. } = self;
        let support = resample.support(scale);
        let shrink = 1.0 / scale.max(1.0);
        let center = start + (first + index as f64 + 0.5) * scale;
        let from = ((center - support + 0.5) as usize).clamp(there.start, there.end - 1);
        let to = ((center + support + 0.5) as usize).min(end).clamp(from + 1, there.end);
        shares.clear();
        shares.extend((from..to).map(|pixel| resample.weight((pixel as f64 - center + 0.5) * shrink)));
        let sum: f64 = shares.iter().sum();
        if sum != 0.0 {
            shares.iter_mut().for_each(|share| *share /= sum);
        }
        from
    }
}

/// The weights of one direction of a scaling of numbers, not rounded.
#[derive(Debug, Default)]
pub(super) struct FloatWeights {
    /// The first pixel of each sum, and how many there are.
    spans: Vec<(usize, usize)>,
    /// `stride` of them for each sum.
    weights: Vec<f32>,
    stride: usize,
}

impl FloatWeights {
    /// Makes them for `count` pixels of a line of so many.
    pub fn set(&mut self, resample: Resample, direction: &Direction, count: usize, length: usize) {
        self.stride = direction.most_shares(resample);
        self.spans.clear();
        self.weights.clear();
        self.weights.resize(self.stride * count, 0.0);
        let mut shares = Vec::with_capacity(self.stride);
        for (index, weights) in self.weights.chunks_exact_mut(self.stride).enumerate() {
            let from = direction.shares(resample, index, &(0..length), &mut shares);
            weights.iter_mut().zip(&shares).for_each(|(weight, share)| *weight = *share as f32);
            self.spans.push((from, shares.len()));
        }
    }

    /// The first pixel of each sum, and the weights of the pixels from there on.
    pub fn sums(&self) -> impl ExactSizeIterator<Item = (usize, &[f32])> {
        let weights = self.weights.chunks_exact(self.stride.max(1));
        self.spans.iter().zip(weights).map(|(&(from, count), weights)| (from, &weights[..count]))
    }
}

impl Weights {
    /// Makes them for `count` pixels. Of the line those pixels are there that lie in `there`.
    pub fn set(&mut self, resample: Resample, direction: &Direction, count: usize, there: Range<usize>) {
        self.stride = direction.most_shares(resample);
        self.spans.clear();
        self.weights.clear();
        self.weights.resize(self.stride * count, 0);
        let mut shares = Vec::with_capacity(self.stride);
        for (index, weights) in self.weights.chunks_exact_mut(self.stride).enumerate() {
            let from = direction.shares(resample, index, &there, &mut shares);
            for (weight, share) in weights.iter_mut().zip(&shares) {
                *weight = (share * f64::from(1 << WEIGHT_BITS)).round() as i32; // a half away from zero
            }
            self.spans.push(((from - there.start) as u32, shares.len() as u32));
        }
        let pair = |weights: &[i32]| {
            let halves = |part: fn(i32) -> i32| (part(weights[0]) & 0xffff) | part(weights[1]) << 16;
            [halves(|weight| weight >> LOWER_BITS), halves(|weight| weight & ((1 << LOWER_BITS) - 1))]
        };
        self.pairs.clear();
        self.pairs.extend(self.weights.chunks_exact(2).map(pair));
    }

    /// The same as [`sums`](Self::sums), two weights at a time.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (usize, &[[i32; 2]])> {
        let pairs = self.pairs.chunks_exact(self.stride.max(2) / 2);
        self.spans
            .iter()
            .zip(pairs)
            .map(|(&(from, count), pairs)| (from as usize, &pairs[..count.div_ceil(2) as usize]))
    }

    /// The first pixel of each sum, counted from the first that is there, and the weights of the pixels from there on.
    pub fn sums(&self) -> impl ExactSizeIterator<Item = (usize, &[i32])> {
        let weights = self.weights.chunks_exact(self.stride.max(1));
        self.spans.iter().zip(weights).map(|(&(from, count), weights)| (from as usize, &weights[..count as usize]))
    }

    /// The pixels that any sum needs.
    pub fn needed(&self) -> Range<usize> {
        let from = self.spans.first().map_or(0, |span| span.0 as usize);
        from..self.spans.last().map_or(from, |&(first, count)| (first + count) as usize)
    }
}
