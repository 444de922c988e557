//! What all ranks decide together: whether to stop, and what to make of a loss that is not a number or of memory that does not
//! suffice. A rank never decides alone. A step's flags travel with its gradients; only where one is not made do the ranks ask each
//! other why.

use std::time::{Duration, Instant};

use world::{Reduction, Signal, Signals, World};

use super::time_limit::TimeLimit;
use crate::errors::Stop;

/// How a rank's passes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// It gave a loss.
    Good,
    /// It gave a loss that is NaN or infinite.
    BadLoss,
    /// The memory did not suffice for it.
    OutOfMemory,
}

/// What all ranks know after a synchronization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// The worst of all passes, and the first rank that had it.
    pub pass: Pass,
    pub rank: usize,
    /// Whether the run is to end after this step.
    pub stop: Option<Stop>,
}

/// Step synchronization: makes the ranks agree.
#[derive(Debug)]
pub(crate) struct Agreement<'a> {
    world: &'a World,
    signals: Signals,
    limit: TimeLimit,
}

impl<'a> Agreement<'a> {
    pub(crate) fn new(world: &'a World, signals: Signals, limit: TimeLimit) -> Self {
        Self { world, signals, limit }
    }

    /// Waits for the other ranks: whether the run is to end. One small all-reduce. Collective.
    pub(crate) fn stop(&mut self) -> world::Result<Option<Stop>> {
        let mut wish = [self.wish()];
        self.world.control().all_reduce(&mut wish, Reduction::Max)?;
        Ok(stop_of(wish[0]))
    }

    /// Waits for the hosts of all ranks: one that is missing is named, which a device's own collectives cannot do. Collective.
    pub(crate) fn meet(&self) -> world::Result<()> {
        self.world.control().barrier()
    }

    /// What to make of a step of which all ranks know whether it `is_made`, and the largest [`wish`](Self::wish); `pass` is how
    /// this rank's own passes went. Collective where it is not made.
    pub(crate) fn agree(&self, pass: Pass, is_made: bool, wish: u8) -> world::Result<Agreed> {
        let stop = stop_of(wish);
        if is_made {
            return Ok(Agreed { pass: Pass::Good, rank: 0, stop });
        }
        let all = self.world.control().all_gather(&[pass as u8])?;
        let of = |pass: Pass| all.iter().position(|&other| other == pass as u8).map(|rank| (pass, rank));
        let (pass, rank) = of(Pass::OutOfMemory).or_else(|| of(Pass::BadLoss)).unwrap_or((Pass::BadLoss, 0));
        Ok(Agreed { pass, rank, stop })
    }

    /// A step took so long: the time limit must leave room for another.
    pub(crate) fn note_step(&mut self, took: Duration) {
        self.limit.note_step(took);
    }

    /// Seconds that the time limit would have to be for what was done so far and `rest`; none where there is no limit.
    pub(crate) fn time_needed(&self, rest: Duration) -> Option<u64> {
        self.limit.needed(Instant::now(), rest)
    }

    /// Saving took so long: the time limit must leave room for it.
    pub(crate) fn note_save(&mut self, took: Duration) {
        self.limit.note_save(took);
    }

    /// What this rank wants: 0 to go on, or one more than the place in [`Stop::ALL`].
    pub(crate) fn wish(&self) -> u8 {
        // submitit, for one, sends USR2 where others send USR1.
        let signalled = [Signal::Terminate, Signal::Interrupt, Signal::User1, Signal::User2];
        if signalled.into_iter().any(|signal| self.signals.arrived(signal)) {
            2
        } else {
            u8::from(self.limit.is_over(Instant::now()))
        }
    }
}

fn stop_of(wish: u8) -> Option<Stop> {
    wish.checked_sub(1).map(|index| Stop::ALL[index as usize])
}
