//! Who gets which samples: a rank's contiguous part of any list that all ranks hold in the same order.

use std::ops::Range;

/// One rank's share of the work: part `rank` of `ranks` equal parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    rank: usize,
    ranks: usize,
}

impl Shard {
    /// Everything: the only rank.
    pub const WHOLE: Self = Self { rank: 0, ranks: 1 };

    /// Part `rank` of `ranks`.
    ///
    /// # Panics
    /// If `rank` is not below `ranks`.
    pub fn new(rank: usize, ranks: usize) -> Self {
        assert!(rank < ranks, "rank {rank} of {ranks} ranks");
        Self { rank, ranks }
    }

    /// This part's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many parts there are.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// This rank's part of `range`: contiguous, the parts in rank order are `range` again, and no two parts differ by
    /// more than one in length.
    ///
    /// ```
    /// use layout::Shard;
    ///
    /// assert_eq!(Shard::new(1, 4).of(0..64), 16..32);
    /// assert_eq!(Shard::new(0, 2).of(0..5).len() + Shard::new(1, 2).of(0..5).len(), 5);
    /// ```
    pub fn of(&self, range: Range<usize>) -> Range<usize> {
        let cut = |part: usize| {
            // In u128: a list may be so long that length × rank does not fit.
            let offset = range.len() as u128 * part as u128 / self.ranks as u128;
            range.start + offset as usize
        };
        cut(self.rank)..cut(self.rank + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_cover_the_range_once_and_evenly(start in 0usize..1000, length in 0usize..5000, ranks in 1usize..64) {
            let mut next = start;
            for rank in 0..ranks {
                let part = Shard::new(rank, ranks).of(start..start + length);
                prop_assert_eq!(part.start, next);
                prop_assert!(part.len() == length / ranks || part.len() == length.div_ceil(ranks));
                next = part.end;
            }
            prop_assert_eq!(next, start + length);
        }
    }

    #[test]
    fn long_lists_do_not_overflow() {
        assert_eq!(Shard::new(7, 8).of(0..usize::MAX).end, usize::MAX);
    }
}
