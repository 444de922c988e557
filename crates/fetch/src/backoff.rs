//! Pauses between attempts.

use std::time::Duration;

use rand::RngExt;

/// Pauses that double from `first` up to `longest`, each shortened at random down to a half: clients that failed
/// together must not come back together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// The pause after attempt number `attempt`, counted from 0; at least what the server asked for, within reason.
    pub(crate) fn pause(&self, attempt: usize, asked: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(attempt as u32).unwrap_or(u32::MAX));
        let pause = doubled.min(self.longest).mul_f64(rand::rng().random_range(0.5..=1.0));
        pause.max(asked.unwrap_or_default().min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_grow_and_stay_bounded(attempt in 0usize..200, asked in 0u64..1000) {
            let backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(30) };
            let pause = backoff.pause(attempt, Some(Duration::from_secs(asked)));
            prop_assert!(pause <= backoff.longest);
            prop_assert!(pause >= Duration::from_secs(asked.min(30)));
            if attempt >= 6 {
                prop_assert!(pause >= backoff.longest / 2);
            }
        }
    }
}
