//! How a global batch is shared: `global = micro × accumulation × ranks`.

use std::num::NonZeroUsize;

/// A global batch and the equal shares of it that every rank computes.
///
/// `global = micro × accumulation × ranks`, all counted in samples. Every rank takes `accumulation` micro-batches of
/// `micro` samples for one optimizer step.
///
/// ```
/// use layout::BatchLayout;
///
/// let batch = BatchLayout::of_global(64, 4, 1)?;
/// assert_eq!(batch.micro(), 16);
/// # Ok::<(), layout::BatchError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLayout {
    micro: usize,
    accumulation: usize,
    ranks: usize,
}

/// Why a global batch cannot be shared evenly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// One of the factors is zero.
    #[error("{what} must be at least 1")]
    Zero {
        /// Which factor.
        what: &'static str,
    },
    /// The global batch is not a multiple of `ranks × accumulation`.
    #[error("a global batch of {global} cannot be shared evenly by {}; {}", sharers(*.ranks, *.accumulation), fits(*.global, *.ranks, *.accumulation))]
    Uneven {
        /// Samples per optimizer step, over all ranks.
        global: usize,
        /// Data-parallel ranks.
        ranks: usize,
        /// Micro-batches per rank and step.
        accumulation: usize,
    },
}

fn sharers(ranks: usize, accumulation: usize) -> String {
    let ranks_text = if ranks == 1 { "1 rank".to_owned() } else { format!("{ranks} ranks") };
    if accumulation == 1 { ranks_text } else { format!("{ranks_text} × {accumulation} accumulation steps") }
}

/// The help: batches near by that fit these ranks, and numbers of ranks near by that fit this batch.
fn fits(global: usize, ranks: usize, accumulation: usize) -> String {
    let batches = nearest_multiples(global, ranks.saturating_mul(accumulation));
    let mut text = format!("nearest batches that fit: {}", join(&batches));
    if global.is_multiple_of(accumulation) {
        let worlds = nearest_divisors(global / accumulation, ranks);
        text += &format!("; nearest numbers of ranks for {global}: {}", join(&worlds));
    }
    text
}

fn join(values: &[usize]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl BatchLayout {
    /// Shares `global` samples over `ranks`, each taking its part in `accumulation` micro-batches.
    ///
    /// # Errors
    /// A factor of zero, or a batch that is not a multiple of `ranks × accumulation`.
    pub fn of_global(global: usize, ranks: usize, accumulation: usize) -> Result<Self, BatchError> {
        for (value, what) in [(global, "the batch"), (ranks, "the number of ranks"), (accumulation, "the accumulation")]
        {
            if value == 0 {
                return Err(BatchError::Zero { what });
            }
        }
        let sharers = ranks.saturating_mul(accumulation);
        if !global.is_multiple_of(sharers) {
            return Err(BatchError::Uneven { global, ranks, accumulation });
        }
        Ok(Self { micro: global / sharers, accumulation, ranks })
    }

    /// Samples per optimizer step, over all ranks.
    pub fn global(&self) -> usize {
        self.micro * self.accumulation * self.ranks
    }

    /// Samples per optimizer step on one rank.
    pub fn per_rank(&self) -> usize {
        self.micro * self.accumulation
    }

    /// Samples in one forward pass on one rank.
    pub fn micro(&self) -> usize {
        self.micro
    }

    /// Micro-batches per rank and optimizer step.
    pub fn accumulation(&self) -> usize {
        self.accumulation
    }

    /// Data-parallel ranks.
    pub fn ranks(&self) -> usize {
        self.ranks
    }
}

/// The multiples of `step` next to `value`, below first; never zero.
///
/// `value` itself is among them when it is a multiple.
pub fn nearest_multiples(value: usize, step: usize) -> Vec<usize> {
    let Some(step) = NonZeroUsize::new(step) else { return Vec::new() };
    let below = value / step * step.get();
    if below == value && value > 0 {
        return vec![value];
    }
    [below, below.saturating_add(step.get())].into_iter().filter(|&multiple| multiple > 0).collect()
}

/// The divisors of `value` next to `near`, below first.
///
/// `near` itself is the only one when it is a divisor.
pub fn nearest_divisors(value: usize, near: usize) -> Vec<usize> {
    if value == 0 || near == 0 || value > LARGEST_FACTORED {
        return Vec::new();
    }
    if value.is_multiple_of(near) {
        return vec![near];
    }
    let divisors = divisors(value);
    let above = divisors.partition_point(|&divisor| divisor < near);
    let below = above.checked_sub(1).map(|index| divisors[index]);
    below.into_iter().chain(divisors.get(above).copied()).collect()
}

/// The largest value whose divisors are listed: a million trial divisions, and more than any batch.
const LARGEST_FACTORED: usize = 1 << 40;

fn divisors(value: usize) -> Vec<usize> {
    let mut small = Vec::new();
    let mut large = Vec::new();
    for divisor in (1..).take_while(|divisor| *divisor <= value / divisor) {
        if value.is_multiple_of(divisor) {
            small.push(divisor);
            if divisor != value / divisor {
                large.push(value / divisor);
            }
        }
    }
    small.extend(large.into_iter().rev());
    small
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_equal_or_refused_with_what_fits() {
        let cases: &[(usize, usize, usize, Result<usize, &str>)] = &[
            (64, 4, 1, Ok(16)),
            (64, 4, 2, Ok(8)),
            (1, 1, 1, Ok(1)),
            (
                64,
                3,
                1,
                Err(
                    "a global batch of 64 cannot be shared evenly by 3 ranks; nearest batches that fit: 63, 66; nearest numbers of ranks for 64: 2, 4",
                ),
            ),
            (
                2,
                8,
                1,
                Err(
                    "a global batch of 2 cannot be shared evenly by 8 ranks; nearest batches that fit: 8; nearest numbers of ranks for 2: 2",
                ),
            ),
            (
                63,
                4,
                2,
                Err(
                    "a global batch of 63 cannot be shared evenly by 4 ranks × 2 accumulation steps; nearest batches that fit: 56, 64",
                ),
            ),
            (0, 4, 1, Err("the batch must be at least 1")),
            (64, 0, 1, Err("the number of ranks must be at least 1")),
            (64, 4, 0, Err("the accumulation must be at least 1")),
        ];
        for &(global, ranks, accumulation, expected) in cases {
            let got = BatchLayout::of_global(global, ranks, accumulation);
            match expected {
                Ok(micro) => assert_eq!(got.unwrap().micro(), micro),
                Err(text) => assert_eq!(got.unwrap_err().to_string(), text),
            }
        }
    }

    proptest! {
        #[test]
        fn an_accepted_batch_is_its_factors(global in 1usize..10_000, ranks in 1usize..64, accumulation in 1usize..8) {
            if let Ok(batch) = BatchLayout::of_global(global, ranks, accumulation) {
                prop_assert_eq!(batch.global(), global);
                prop_assert_eq!(batch.per_rank() * ranks, global);
            }
        }

        #[test]
        fn what_is_proposed_fits(global in 1usize..10_000, ranks in 1usize..200) {
            for batch in nearest_multiples(global, ranks) {
                prop_assert!(BatchLayout::of_global(batch, ranks, 1).is_ok());
                prop_assert!(batch.abs_diff(global) <= ranks);
            }
            let worlds = nearest_divisors(global, ranks);
            prop_assert!(!worlds.is_empty());
            for world in worlds {
                prop_assert!(BatchLayout::of_global(global, world, 1).is_ok());
            }
        }
    }
}
