//! The epochs of a run, one after the other, for whoever holds the loop.

use report::EpochLine;

use super::Trainer;
use crate::errors::Stop;

/// The epochs that are left of a run.
pub struct Epochs<'r, 'a> {
    trainer: &'r mut Trainer<'a>,
    stopped: Option<Stop>,
}

impl<'r, 'a> Epochs<'r, 'a> {
    pub(super) fn new(trainer: &'r mut Trainer<'a>) -> Self {
        Self { trainer, stopped: None }
    }

    /// Trains the next epoch, scores it, writes it down and saves it, and gives what it brought; `None` where no epoch is
    /// left, or where the run was asked to stop. Collective: every rank must ask equally often.
    ///
    /// # Errors
    /// What ends the run.
    pub fn next_epoch(&mut self) -> anyhow::Result<Option<EpochLine>> {
        if self.stopped.is_some() || self.trainer.is_over() {
            return Ok(None);
        }
        self.stopped = self.trainer.epoch()?;
        Ok(self.trainer.last_epoch.clone().filter(|_| self.stopped.is_none()))
    }

    /// Whether this is the rank that speaks for all of them.
    pub fn is_rank_zero(&self) -> bool {
        self.trainer.job.world.rank() == 0
    }

    /// Why the run was asked to stop, if it was.
    pub(super) fn stopped(&self) -> Option<Stop> {
        self.stopped
    }
}

impl std::fmt::Debug for Epochs<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epochs").field("stopped", &self.stopped).finish_non_exhaustive()
    }
}

/// All of them.
pub(crate) fn all(epochs: &mut Epochs<'_, '_>) -> anyhow::Result<()> {
    while epochs.next_epoch()?.is_some() {}
    Ok(())
}
