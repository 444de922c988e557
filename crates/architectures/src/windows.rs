//! The arithmetic of Swin's windows: how a grid is cut, which tokens see each other, which offset they have.

/// How a grid of tokens is cut into windows: padded below and on the right, rolled up and left, cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowCut {
    /// Rows and columns of the grid.
    pub grid: [usize; 2],
    /// Side of a window.
    pub window: usize,
    /// Rows and columns of windows.
    pub windows: [usize; 2],
    /// By how many rows and columns the padded grid is rolled.
    pub shift: [usize; 2],
}

impl WindowCut {
    /// The cut of a grid of `height`×`width` tokens.
    pub fn of(height: usize, width: usize, window: usize, shift: usize) -> Self {
        let grid = [height, width];
        let windows = grid.map(|side| side.div_ceil(window));
        // A single window has nothing to exchange with others.
        let shift = windows.map(|count| if count > 1 { shift } else { 0 });
        Self { grid, window, windows, shift }
    }

    /// Rows and columns that are added.
    pub fn padding(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.windows[axis] * self.window - self.grid[axis])
    }

    /// Whether the grid is rolled.
    pub fn is_shifted(&self) -> bool {
        self.shift != [0, 0]
    }

    /// For each window and each token in it, the part of the grid that the token comes from; tokens of different parts,
    /// which only the roll made neighbours, do not see each other. Windows·window² values.
    pub fn regions(&self) -> Vec<i64> {
        let Self { window, windows: [rows, columns], .. } = *self;
        // The grid falls into at most three bands each way: all windows but the last, and the two parts of the last.
        let band = |position: usize, axis: usize| {
            let (side, shift) = (self.windows[axis] * window, self.shift[axis]);
            let is_rolled = shift > 0;
            i64::from(is_rolled && position >= side - window) + i64::from(is_rolled && position >= side - shift)
        };
        let mut regions = Vec::with_capacity(rows * columns * window * window);
        for row in 0..rows {
            for column in 0..columns {
                for token in 0..window * window {
                    let (y, x) = (row * window + token / window, column * window + token % window);
                    regions.push(3 * band(y, 0) + band(x, 1));
                }
            }
        }
        regions
    }
}

/// For every pair of tokens of a window, the row of the position table for the offset between them: window⁴ values.
pub fn relative_position_index(window: usize) -> Vec<i64> {
    let tokens = window * window;
    let row = |pair: usize| {
        let (from, to) = (pair / tokens, pair % tokens);
        let down = from / window + window - 1 - to / window;
        let right = from % window + window - 1 - to % window;
        (down * (2 * window - 1) + right) as i64
    };
    (0..tokens * tokens).map(row).collect()
}

/// For every offset between two tokens of a window, row by row, the values of [`Op::LogOffsets`](crate::Op::LogOffsets) down and right:
/// 2·(2·window − 1)² values.
pub fn log_offsets(window: usize) -> Vec<f32> {
    let most = window as f32 - 1.0;
    let value = |offset: usize| {
        // In single precision, step by step as the original: the table is stored with weights.
        let offset = (offset as f32 - most) / most * 8.0;
        offset.signum() * (offset.abs() + 1.0).log2() / 3.0
    };
    let side = 2 * window - 1;
    (0..side * side).flat_map(|row| [row / side, row % side]).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_position_index_depends_on_the_offset_alone() {
        // torchvision's for a window of two.
        assert_eq!(relative_position_index(2), [4, 3, 1, 0, 5, 4, 2, 1, 7, 6, 4, 3, 8, 7, 5, 4]);
    }

    #[test]
    fn offsets_are_even_in_their_logarithms() {
        let offsets = log_offsets(8);
        assert_eq!(offsets.len(), 2 * 15 * 15);
        assert_eq!(offsets[..2], [-9_f32.log2() / 3.0; 2]);
        assert_eq!(offsets[2 * (7 * 15 + 7)..][..2], [0.0; 2], "a token and itself");
        assert!((offsets[2 * (7 * 15 + 8) + 1] - (8.0 / 7.0 + 1.0_f32).log2() / 3.0).abs() < 1e-6);
        let pairs: Vec<_> = offsets.chunks(2).collect();
        assert!(pairs.iter().zip(pairs.iter().rev()).all(|(one, other)| one[0] == -other[0] && one[1] == -other[1]));
    }

    proptest! {
        /// Two tokens of one window see each other exactly if the roll moved them together: if they are as far apart in
        /// the grid as in the window.
        #[test]
        fn a_region_is_a_piece_of_the_grid(height in 1..24_usize, width in 1..24_usize, window in 1..7_usize, shift in 0..6_usize) {
            let cut = WindowCut::of(height, width, window, shift % window);
            let [rows, columns] = cut.windows.map(|count| count * window);
            let tokens = window * window;
            let regions = cut.regions();
            prop_assert_eq!(regions.len(), rows * columns);
            for (number, window_regions) in regions.chunks(tokens).enumerate() {
                let corner = [number / cut.windows[1] * window, number % cut.windows[1] * window];
                // Where a token of this window was before the roll.
                let origin = |token: usize| {
                    [(corner[0] + token / window + cut.shift[0]) % rows, (corner[1] + token % window + cut.shift[1]) % columns]
                };
                for (from, to) in (0..tokens).flat_map(|from| (0..tokens).map(move |to| (from, to))) {
                    let together = (0..2).all(|axis| {
                        let place = |token: usize| if axis == 0 { token / window } else { token % window } as isize;
                        origin(from)[axis] as isize - origin(to)[axis] as isize == place(from) - place(to)
                    });
                    prop_assert_eq!(window_regions[from] == window_regions[to], together, "{} {}", from, to);
                }
            }
        }
    }

    #[test]
    fn only_the_last_windows_have_several_regions() {
        let cut = WindowCut::of(8, 8, 4, 2);
        let parts: Vec<_> = cut
            .regions()
            .chunks(16)
            .map(|window| {
                let mut parts = window.to_vec();
                parts.sort_unstable();
                parts.dedup();
                parts.len()
            })
            .collect();
        assert_eq!(parts, [1, 2, 2, 4]);
        let single = WindowCut::of(3, 9, 4, 2);
        assert_eq!((single.windows, single.shift, single.padding()), ([1, 3], [0, 2], [1, 3]));
    }
}
