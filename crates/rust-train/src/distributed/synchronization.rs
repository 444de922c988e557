//! What all ranks decide together, once a step: whether to stop, and what to make of a loss that is not a number or of
//! memory that does not suffice. A rank never decides alone.

use std::time::{Duration, Instant};

use world::{Reduction, Signal, Signals, World};

use super::time_limit::TimeLimit;
use crate::errors::Stop;

/// How a rank's forward pass went.
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

    /// Waits for the other ranks, `pass` being how this one's forward pass went. One small all-reduce. Collective.
    pub(crate) fn synchronize(&mut self, pass: Pass) -> world::Result<Agreed> {
        let control = self.world.control();
        let mut worst = [pass as u8, self.wish()];
        control.all_reduce(&mut worst, Reduction::Max)?;
        let stop = worst[1].checked_sub(1).map(|index| Stop::ALL[index as usize]);
        let (pass, rank) = match worst[0] {
            0 => (Pass::Good, 0),
            code => {
                let all = control.all_gather(&[pass as u8])?;
                let rank = all.iter().position(|&other| other == code).unwrap_or(0);
                (if code == Pass::BadLoss as u8 { Pass::BadLoss } else { Pass::OutOfMemory }, rank)
            }
        };
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
    fn wish(&self) -> u8 {
        // submitit, for one, sends USR2 where others send USR1.
        let signalled = [Signal::Terminate, Signal::Interrupt, Signal::User1, Signal::User2];
        if signalled.into_iter().any(|signal| self.signals.arrived(signal)) {
            2
        } else {
            u8::from(self.limit.is_over(Instant::now()))
        }
    }
}
