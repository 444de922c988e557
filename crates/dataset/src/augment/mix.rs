//! Mixing images: mixup (Zhang et al., 2017) and cutmix (Yun et al., 2019).
//!
//! The image at each place of a global batch is mixed with the one at the next place (torchvision's roll by one) that
//! is of another sample, by one random share for the whole batch: so the mixture depends on the batch, and not on which
//! rank has which part.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};

/// Whether images are mixed. Where both are asked for, each batch gets one of the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// The parameter of mixup's Beta distribution; 0 for no mixup.
    pub mixup: f64,
    /// The parameter of cutmix's; 0 for no cutmix.
    pub cutmix: f64,
}

impl Mix {
    /// No mixing.
    pub const NONE: Self = Self { mixup: 0.0, cutmix: 0.0 };
}

/// The second labels of a batch of mixed images. The loss is `share` of that with the first labels, and the rest of
/// that with these.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// The label of the image that was mixed in, for each image.
    pub labels: Vec<i64>,
    /// Its numbers, N×K, where labels are rows of numbers.
    pub targets: Vec<f64>,
    /// The share of the first label, 0–1.
    pub share: f64,
}

/// How the images of one batch are mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mixture {
    /// This many 256ths of the first image, and the rest of the second.
    Blend { parts: u16 },
    /// A rectangle of the second in the first, in pixels.
    Paste { left: usize, top: usize, width: usize, height: usize },
}

/// Draws the mixture of a batch; `None` where nothing is mixed.
pub(crate) fn draw(mix: Mix, side: usize, random: &mut ChaCha8Rng) -> Option<Mixture> {
    let blends = mix.mixup > 0.0 && (mix.cutmix <= 0.0 || random.random_bool(0.5));
    let alpha = if blends { mix.mixup } else { mix.cutmix };
    let share = Beta::new(alpha, alpha).ok()?.sample(random);
    if blends {
        return Some(Mixture::Blend { parts: (share * 256.0).round() as u16 });
    }
    let half = (0.5 * (1.0 - share).sqrt() * side as f64) as usize;
    let mut span = || {
        let center = random.random_range(0..side as u32) as usize;
        let start = center.saturating_sub(half);
        (start, (center + half).min(side) - start)
    };
    let ((left, width), (top, height)) = (span(), span());
    Some(Mixture::Paste { left, top, width, height })
}

/// The place whose image is mixed into that of each place of `part`, a part of the global `batch`: the next one round
/// the batch that holds another sample, or if there is none, the next one.
pub(crate) fn partners(part: Range<usize>, batch: &Range<usize>, sample_at: impl Fn(usize) -> usize) -> Vec<usize> {
    let next = |place: usize| if place + 1 == batch.end { batch.start } else { place + 1 };
    let others_of = |place: usize| {
        let sample = sample_at(place);
        let others = std::iter::successors(Some(next(place)), |&other| Some(next(other)));
        others.take(batch.len()).find(|&other| sample_at(other) != sample)
    };
    let Some(last) = part.clone().next_back() else { return Vec::new() };
    let Some(mut partner) = others_of(last) else { return part.map(next).collect() };
    // From the last to the first: in a row of one sample, all have the partner of the last.
    let mut partners: Vec<_> = part
        .rev()
        .map(|place| {
            if place != last && sample_at(place) != sample_at(place + 1) {
                partner = place + 1;
            }
            partner
        })
        .collect();
    partners.reverse();
    partners
}

impl Mixture {
    /// The share of the first image, 0–1.
    pub fn share(self, side: usize) -> f64 {
        match self {
            Self::Blend { parts } => f64::from(parts) / 256.0,
            Self::Paste { width, height, .. } => 1.0 - (width * height) as f64 / (side * side) as f64,
        }
    }

    /// Mixes `second` into `first`.
    pub fn apply(self, first: &mut [u8], second: &[u8], side: usize) {
        match self {
            Self::Blend { parts } => {
                let (one, other) = (parts, 256 - parts);
                for (first, &second) in first.iter_mut().zip(second) {
                    let sum = u32::from(*first) * u32::from(one) + u32::from(second) * u32::from(other);
                    *first = ((sum + 128) >> 8) as u8;
                }
            }
            Self::Paste { left, top, width, height } => {
                let part = left * 3..(left + width) * 3;
                let rows = first.chunks_exact_mut(side * 3).zip(second.chunks_exact(side * 3));
                for (first, second) in rows.skip(top).take(height) {
                    first[part.clone()].copy_from_slice(&second[part.clone()]);
                }
            }
        }
    }
}

impl Mixture {
    /// Mixes `second` into `first`, planes of numbers.
    pub fn apply_to_planes(self, first: &mut [f32], second: &[f32], side: usize) {
        match self {
            Self::Blend { parts } => {
                let share = f32::from(parts) / 256.0;
                for (first, second) in first.iter_mut().zip(second) {
                    *first = *first * share + second * (1.0 - share);
                }
            }
            Self::Paste { left, top, width, height } => {
                let planes = first.chunks_exact_mut(side * side).zip(second.chunks_exact(side * side));
                for (first, second) in planes {
                    let rows = first.chunks_exact_mut(side).zip(second.chunks_exact(side));
                    for (first, second) in rows.skip(top).take(height) {
                        first[left..left + width].copy_from_slice(&second[left..left + width]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Stream, stream};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn partners_are_others_whatever_part_a_rank_has(
            start in 0usize..50,
            samples in proptest::collection::vec(0usize..4, 1..20),
            cuts in (0.0..=1.0f64, 0.0..=1.0f64),
        ) {
            let batch = start..start + samples.len();
            let sample_at = |place: usize| samples[place - start];
            let all = partners(batch.clone(), &batch, sample_at);
            for (place, &partner) in batch.clone().zip(&all) {
                let between = (place + 1..place + samples.len()).map(|other| start + (other - start) % samples.len());
                let expected = between.clone().find(|&other| sample_at(other) != sample_at(place));
                prop_assert_eq!(partner, expected.or(between.clone().next()).unwrap_or(place));
            }
            let cut = |share: f64| start + (share * samples.len() as f64) as usize;
            let part = cut(cuts.0.min(cuts.1))..cut(cuts.0.max(cuts.1));
            prop_assert_eq!(partners(part.clone(), &batch, sample_at), &all[part.start - start..part.end - start]);
        }

        #[test]
        fn the_share_is_that_of_the_pixels(seed: u64, side in 1usize..40, which in 0usize..3) {
            let mix = [Mix { mixup: 0.2, cutmix: 0.0 }, Mix { mixup: 0.0, cutmix: 1.0 }, Mix { mixup: 0.4, cutmix: 1.0 }][which];
            let mixture = draw(mix, side, &mut stream(Stream::Mix, seed, 0, 0)).unwrap();
            let mut first = vec![200; side * side * 3];
            mixture.apply(&mut first, &vec![0; side * side * 3], side);
            let mean = first.iter().map(|&value| f64::from(value)).sum::<f64>() / first.len() as f64;
            prop_assert!((mean / 200.0 - mixture.share(side)).abs() < 0.005, "{} and {}", mean, mixture.share(side));
            let mut planes = vec![2.0; side * side * 5];
            mixture.apply_to_planes(&mut planes, &vec![0.0; side * side * 5], side);
            let mean = planes.iter().map(|&value| f64::from(value)).sum::<f64>() / planes.len() as f64;
            prop_assert!((mean / 2.0 - mixture.share(side)).abs() < 1e-5, "{} and {}", mean, mixture.share(side));
        }
    }

    #[test]
    fn nothing_is_mixed_unless_asked_for() {
        assert_eq!(draw(Mix::NONE, 8, &mut stream(Stream::Mix, 0, 0, 0)), None);
    }
}
