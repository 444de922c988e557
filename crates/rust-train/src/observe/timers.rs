//! How much time the thread that trains has spent on what.

use std::ops::Sub;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use report::Parts;

/// The kinds of work that are told apart. What is part of another is counted in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Waiting for a batch.
    Data,
    /// Logits and loss.
    Forward,
    /// The gradients, and what is left of their exchange when the last of them is computed.
    Backward,
    /// That rest alone: from the moment at which the last gradient is ready, this rank waits for others, and for what
    /// travels between them.
    Exchange,
    /// What all ranks must know of a step, behind its gradients: waiting for the slowest rank.
    Synchronization,
    /// The update of the weights.
    Optimizer,
    /// Logits in evaluation.
    Evaluation,
}

impl Work {
    const COUNT: usize = 7;

    /// Its name in a trace.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Data => "data wait",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Exchange => "exchange",
            Self::Synchronization => "synchronization",
            Self::Optimizer => "optimizer",
            Self::Evaluation => "evaluation",
        }
    }
}

/// Time by [`Work`], since the start or between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Spent([Duration; Work::COUNT]);

impl Spent {
    pub(crate) fn on(&self, work: Work) -> Duration {
        self.0[work as usize]
    }

    /// Time in which this rank could do nothing but wait for the others.
    pub(crate) fn communication(&self) -> Duration {
        self.on(Work::Exchange) + self.on(Work::Synchronization)
    }

    /// Its parts of each of `steps` steps, which took `total` in all.
    pub(crate) fn parts(&self, steps: usize, total: Duration) -> Parts {
        let each = |time: Duration| time.as_secs_f64() / steps as f64;
        let parts = Parts {
            data: each(self.on(Work::Data)),
            forward: each(self.on(Work::Forward)),
            backward: each(self.on(Work::Backward).saturating_sub(self.on(Work::Exchange))),
            exchange: each(self.communication()),
            optimizer: each(self.on(Work::Optimizer)),
            other: 0.0,
        };
        Parts { other: (each(total) - parts.step()).max(0.0), ..parts }
    }
}

impl Sub for Spent {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self(std::array::from_fn(|work| self.0[work].saturating_sub(earlier.0[work])))
    }
}

/// A clock that adds up. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Arc<Mutex<Spent>>);

impl Clock {
    pub(crate) fn add(&self, work: Work, time: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0[work as usize] += time;
    }

    /// What was spent since the start.
    pub(crate) fn read(&self) -> Spent {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_make_up_the_step() {
        let clock = Clock::default();
        clock.add(Work::Data, Duration::from_millis(9)); // before
        let before = clock.read();
        for (work, milliseconds) in [
            (Work::Data, 2),
            (Work::Forward, 10),
            (Work::Backward, 30),
            (Work::Exchange, 6),
            (Work::Synchronization, 4),
            (Work::Optimizer, 2),
        ] {
            clock.add(work, Duration::from_millis(milliseconds));
        }
        let spent = clock.read() - before;
        assert_eq!(spent.communication(), Duration::from_millis(10));
        let parts = spent.parts(2, Duration::from_millis(50));
        let expected = [0.001, 0.005, 0.012, 0.005, 0.001, 0.001];
        let Parts { data, forward, backward, exchange, optimizer, other } = parts;
        for (got, expected) in [data, forward, backward, exchange, optimizer, other].into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{parts:?}");
        }
        assert!((parts.step() - 0.025).abs() < 1e-12);
    }
}
