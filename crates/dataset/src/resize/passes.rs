//! The two passes of a scaling: along rows and along columns, each rounded to bytes, as Pillow does it. Compiled for processors with
//! AVX2, too, which is what nearly all are: it is asked for when the program runs.

use super::weights::{WEIGHT_BITS, Weights};

const HALF: i32 = 1 << (WEIGHT_BITS - 1);
/// Bytes that are summed at a time, in registers.
const LANES: usize = 32;
/// Bytes that must follow the last pixel of a row, because they may be read.
pub(super) const SLACK: usize = 16;

/// Scales two rows of pixels of 3 bytes. A byte may be written behind the last pixel of each.
pub(super) fn along_rows(rows: [&[u8]; 2], weights: &Weights, out: [&mut [u8]; 2]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions.
        #[expect(unsafe_code, reason = "a function of instructions that not every processor has")]
        return unsafe { avx2::along_rows(rows, weights, out) };
    }
    for (row, out) in rows.into_iter().zip(out) {
        along_row(row, weights, out);
    }
}

/// One row out of several, each `pitch` bytes behind the one before: the sum of each column.
pub(super) fn along_columns(rows: &[u8], pitch: usize, weights: &[i32], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions.
        #[expect(unsafe_code, reason = "a function of instructions that not every processor has")]
        return unsafe { avx2::along_columns(rows, pitch, weights, out) };
    }
    sum_columns(rows, pitch, weights, out);
}

fn along_row(row: &[u8], weights: &Weights, out: &mut [u8]) {
    for (out, (from, weights)) in out.chunks_exact_mut(3).zip(weights.sums()) {
        let mut sums = [HALF; 4]; // the fourth is nobody's: four lanes are one vector
        let pixels = &row[from * 3..(from + weights.len()) * 3 + 1];
        for (weight, pixel) in weights.iter().zip(pixels.windows(4).step_by(3)) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(value) * weight;
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = (sum >> WEIGHT_BITS).clamp(0, 255) as u8;
        }
    }
}

#[inline(always)] // into each of its callers, with their instructions
fn sum_columns(rows: &[u8], pitch: usize, weights: &[i32], out: &mut [u8]) {
    let mut blocks = out.chunks_exact_mut(LANES);
    let mut column = 0;
    for block in &mut blocks {
        let mut sums = [HALF; LANES];
        for (row, &weight) in rows[column..].chunks(pitch).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(&row[..LANES]) {
                *sum += i32::from(value) * weight;
            }
        }
        for (out, sum) in block.iter_mut().zip(sums) {
            *out = (sum >> WEIGHT_BITS).clamp(0, 255) as u8;
        }
        column += LANES;
    }
    for (column, out) in (column..).zip(blocks.into_remainder()) {
        let values = rows.iter().skip(column).step_by(pitch);
        let sum = weights.iter().zip(values).fold(HALF, |sum, (weight, &value)| sum + i32::from(value) * weight);
        *out = (sum >> WEIGHT_BITS).clamp(0, 255) as u8;
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::super::weights::{LOWER_BITS, WEIGHT_BITS, Weights};
    use super::{HALF, sum_columns};

    #[target_feature(enable = "avx2")]
    pub(super) fn along_columns(rows: &[u8], pitch: usize, weights: &[i32], out: &mut [u8]) {
        sum_columns(rows, pitch, weights, out);
    }

    /// The pixel of each of two rows, as sums of two pixels at a time. Products of bytes and 16 bits are added in pairs in one
    /// instruction, so each weight is a multiple of 2¹² and the rest: exact, and twice as fast as products of 32 bits.
    #[target_feature(enable = "avx2")]
    pub(super) fn along_rows(rows: [&[u8]; 2], weights: &Weights, out: [&mut [u8]; 2]) {
        // r r' g g' b b' of two pixels side by side, as 16 bits each.
        let side_by_side =
            _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
        let [out, other] = out;
        for (index, (from, pairs)) in weights.pairs().enumerate() {
            let (mut upper, mut lower) = (_mm256_setzero_si256(), _mm256_set1_epi32(HALF));
            let (mut row, mut second) = (&rows[0][from * 3..], &rows[1][from * 3..]);
            for pair in pairs {
                let pixels = _mm256_shuffle_epi8(_mm256_set_m128i(load(second), load(row)), side_by_side);
                (row, second) = (&row[6..], &second[6..]);
                upper = _mm256_add_epi32(upper, _mm256_madd_epi16(pixels, _mm256_set1_epi32(pair[0])));
                lower = _mm256_add_epi32(lower, _mm256_madd_epi16(pixels, _mm256_set1_epi32(pair[1])));
            }
            let sum = _mm256_add_epi32(_mm256_slli_epi32::<{ LOWER_BITS as i32 }>(upper), lower);
            let words = _mm256_srai_epi32::<{ WEIGHT_BITS as i32 }>(sum);
            let bytes = _mm256_packus_epi16(_mm256_packs_epi32(words, words), words);
            let place = index * 3..index * 3 + 4;
            out[place.clone()].copy_from_slice(&_mm256_extract_epi32::<0>(bytes).to_le_bytes());
            other[place].copy_from_slice(&_mm256_extract_epi32::<4>(bytes).to_le_bytes());
        }
    }

    /// The first 16 bytes.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(bytes: &[u8]) -> __m128i {
        let mut halves = [[0; 8]; 2];
        halves.as_flattened_mut().copy_from_slice(&bytes[..16]);
        _mm_set_epi64x(i64::from_le_bytes(halves[1]), i64::from_le_bytes(halves[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::weights::Direction;
    use super::*;
    use crate::Resample;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the processor has, the bits are the same.
        #[test]
        fn all_instructions_give_the_same(
            bytes in proptest::collection::vec(any::<u8>(), 2 * 90), width in 1usize..25, side in 1usize..40, is_cubic: bool,
        ) {
            let resample = if is_cubic { Resample::Bicubic } else { Resample::Bilinear };
            let mut weights = Weights::default();
            weights.set(resample, &Direction::new(width as u32, 0.0, width as f64, side), side, 0..width);
            let (first, second) = bytes.split_at(90);
            let mut fast = [vec![0; side * 3 + 1], vec![0; side * 3 + 1]];
            let [a, b] = &mut fast;
            along_rows([first, second], &weights, [a, b]);
            for (row, fast) in [first, second].into_iter().zip(&fast) {
                let mut slow = vec![0; side * 3];
                along_row(row, &weights, &mut slow);
                prop_assert_eq!(&slow, &fast[..side * 3]);
            }
            let pitch = 180 / width;
            for (from, weights) in weights.sums() {
                let (mut fast, mut slow) = (vec![0; pitch], vec![0; pitch]);
                along_columns(&bytes[from * pitch..], pitch, weights, &mut fast);
                sum_columns(&bytes[from * pitch..], pitch, weights, &mut slow);
                prop_assert_eq!(fast, slow);
            }
        }
    }
}
