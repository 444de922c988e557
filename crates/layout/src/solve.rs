//! `global = micro × accumulation × ranks` where some of the factors are given: what follows, and what contradicts.

use crate::batch::{BatchError, BatchLayout};

/// The factors that somebody has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchFactors {
    /// Samples per optimizer step, over all ranks.
    pub global: Option<usize>,
    /// Samples in one forward pass on one rank.
    pub micro: Option<usize>,
    /// Micro-batches per rank and optimizer step.
    pub accumulation: Option<usize>,
}

/// Why the factors do not make a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SolveError {
    /// Neither the global batch nor the micro-batch is given.
    #[error("neither the global batch nor the micro-batch is given")]
    TooFew,
    /// All are given, and their product is another number.
    #[error("a global batch of {global} is not {micro} × {accumulation} accumulation steps × {ranks} ranks = {}", .micro.saturating_mul(*.accumulation).saturating_mul(*.ranks))]
    Contradiction {
        /// Samples per optimizer step, over all ranks.
        global: usize,
        /// Samples in one forward pass on one rank.
        micro: usize,
        /// Micro-batches per rank and optimizer step.
        accumulation: usize,
        /// Data-parallel ranks.
        ranks: usize,
    },
    /// No whole number is left for the missing factor.
    #[error(transparent)]
    Uneven(#[from] BatchError),
}

impl BatchFactors {
    /// The batch of `ranks` ranks that has these factors. Accumulation counts as 1 where it is neither given nor follows
    /// from the others.
    ///
    /// ```
    /// use layout::BatchFactors;
    ///
    /// let given = BatchFactors { global: Some(4096), micro: Some(64), accumulation: None };
    /// assert_eq!(given.solve(32)?.accumulation(), 2);
    /// # Ok::<(), layout::SolveError>(())
    /// ```
    ///
    /// # Errors
    /// A factor of zero, too few factors, factors that contradict each other, or no whole number for the missing one.
    pub fn solve(self, ranks: usize) -> Result<BatchLayout, SolveError> {
        let at_least = |value: Option<usize>, what| match value {
            Some(0) => Err(BatchError::Zero { what }),
            _ => Ok(()),
        };
        at_least(self.global, "the batch")?;
        at_least(self.micro, "the micro-batch")?;
        at_least(self.accumulation, "the accumulation")?;
        at_least(Some(ranks), "the number of ranks")?;
        let product = |micro: usize, accumulation: usize| micro.saturating_mul(accumulation).saturating_mul(ranks);
        match self {
            Self { global: Some(global), micro: Some(micro), accumulation: Some(accumulation) } => {
                if product(micro, accumulation) != global {
                    return Err(SolveError::Contradiction { global, micro, accumulation, ranks });
                }
                Ok(BatchLayout::of_global(global, ranks, accumulation)?)
            }
            Self { global: Some(global), micro: Some(micro), accumulation: None } => {
                let step = product(micro, 1);
                if !global.is_multiple_of(step) {
                    // As if the micro-batches were the sharers: what fits is a multiple of both.
                    return Err(BatchError::Uneven { global, ranks, accumulation: micro }.into());
                }
                Ok(BatchLayout::of_global(global, ranks, global / step)?)
            }
            Self { global: Some(global), micro: None, accumulation } => {
                Ok(BatchLayout::of_global(global, ranks, accumulation.unwrap_or(1))?)
            }
            Self { global: None, micro: Some(micro), accumulation } => {
                let accumulation = accumulation.unwrap_or(1);
                Ok(BatchLayout::of_global(product(micro, accumulation), ranks, accumulation)?)
            }
            Self { global: None, micro: None, .. } => Err(SolveError::TooFew),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_follows_and_what_contradicts() {
        let cases: &[(Option<usize>, Option<usize>, Option<usize>, usize, Result<(usize, usize, usize), &str>)] = &[
            (Some(64), None, None, 4, Ok((64, 16, 1))),
            (Some(64), None, Some(2), 4, Ok((64, 8, 2))),
            (Some(64), Some(4), None, 4, Ok((64, 4, 4))),
            (None, Some(4), Some(2), 4, Ok((32, 4, 2))),
            (None, Some(4), None, 4, Ok((16, 4, 1))),
            (Some(64), Some(16), Some(1), 4, Ok((64, 16, 1))),
            (
                Some(64),
                Some(16),
                Some(2),
                4,
                Err("a global batch of 64 is not 16 × 2 accumulation steps × 4 ranks = 128"),
            ),
            (None, None, Some(2), 4, Err("neither the global batch nor the micro-batch is given")),
            (Some(64), None, None, 0, Err("the number of ranks must be at least 1")),
        ];
        for &(global, micro, accumulation, ranks, expected) in cases {
            let got = BatchFactors { global, micro, accumulation }.solve(ranks);
            let got = got.map(|batch| (batch.global(), batch.micro(), batch.accumulation()));
            assert_eq!(got.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
        }
    }

    proptest! {
        #[test]
        fn any_two_factors_give_the_third(micro in 1usize..200, accumulation in 1usize..20, ranks in 1usize..200) {
            let whole = BatchFactors { global: None, micro: Some(micro), accumulation: Some(accumulation) }.solve(ranks)?;
            for left_out in 0..3 {
                let given = BatchFactors {
                    global: (left_out != 0).then_some(whole.global()),
                    micro: (left_out != 1).then_some(micro),
                    accumulation: (left_out != 2).then_some(accumulation),
                };
                prop_assert_eq!(given.solve(ranks)?, whole);
            }
        }
    }
}
