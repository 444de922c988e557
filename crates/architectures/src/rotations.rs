//! The arithmetic of rotary position embeddings in two dimensions.

/// By which angles, in radians, the pairs of neighbouring values of a head of so many values are turned, tokens×`head`/2: those of the
/// first `others` tokens by none, of the patches of a square, row by row, the first half of the pairs by the row and the others by
/// the column. Pair `i` of a half turns by 10000^(−4·`i`/`head`) from a patch to the next where `reference` patches make up a side, and by as much
/// over the whole side where more or fewer do.
pub fn rotations(tokens: usize, others: usize, head: usize, reference: usize) -> Vec<f32> {
    let (side, half) = ((tokens - others).isqrt(), head / 4);
    let angle = |place: usize, pair: usize| {
        // In single precision, step by step as the original.
        let place = place as f32 / side as f32 * reference as f32;
        place * (1.0 / 10_000_f32.powf(pair as f32 / half as f32))
    };
    let of_patch = |patch: usize| {
        let [row, column] = [patch / side, patch % side].map(|place| (0..half).map(move |pair| angle(place, pair)));
        row.chain(column)
    };
    std::iter::repeat_n(0.0, others * 2 * half).chain((0..side * side).flat_map(of_patch)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_grow_along_rows_and_columns() {
        let angles = rotations(1 + 4, 1, 8, 2);
        let expected = [
            [0.0, 0.0, 0.0, 0.0], // the class token
            [0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, 0.01],
            [1.0, 0.01, 0.0, 0.0],
            [1.0, 0.01, 1.0, 0.01],
        ];
        assert_eq!(angles, expected.concat());
        // Twice as many patches a side are half as far apart.
        assert_eq!(rotations(16, 0, 8, 2)[4..8], [0.0, 0.0, 0.5, 0.005]);
    }
}
