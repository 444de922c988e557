//! Where a program of somebody's own takes part in a run, without a copy of the loop.

use std::path::Path;

use report::{EpochLine, Scores};

/// Called at five points of a run, on every rank, in the same order everywhere. All do nothing by default.
///
/// An error ends the job: with the same error for all ranks, except for that of [`step_end`](Self::step_end), after which
/// nobody waits for the others, and which aborts them.
pub trait Hooks {
    /// A step was made, or left out because its loss was NaN.
    ///
    /// # Errors
    /// Whatever is to end the job.
    fn step_end(&mut self, step: &StepEnd) -> anyhow::Result<()> {
        let _ = step;
        Ok(())
    }

    /// The model was scored; `is_best`: better than ever before. Without validation images this is not called.
    ///
    /// # Errors
    /// Whatever is to end the job.
    fn evaluation(&mut self, epoch: usize, loss: f64, scores: &Scores, is_best: bool) -> anyhow::Result<()> {
        let _ = (epoch, loss, scores, is_best);
        Ok(())
    }

    /// An epoch is over and scored, and is about to be written down. `Flow::End` on any rank makes it the last one: the run
    /// is complete then, and going on with it takes `--allow-changed-plan`.
    ///
    /// # Errors
    /// Whatever is to end the job.
    fn epoch_end(&mut self, epoch: &EpochLine) -> anyhow::Result<Flow> {
        let _ = epoch;
        Ok(Flow::Continue)
    }

    /// A checkpoint of the run in the folder `run`, after so many steps, is about to be written there, if the disk takes it.
    ///
    /// # Errors
    /// Whatever is to end the job.
    fn checkpoint(&mut self, run: &Path, steps: usize) -> anyhow::Result<()> {
        let _ = (run, steps);
        Ok(())
    }

    /// The run was asked to stop, by a signal or its time limit, after so many steps. Its checkpoint is saved already.
    ///
    /// # Errors
    /// Whatever is to end the job.
    fn stop(&mut self, why: &str, steps: usize) -> anyhow::Result<()> {
        let _ = (why, steps);
        Ok(())
    }
}

/// Nothing happens there.
impl Hooks for () {}

/// A step that was made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepEnd {
    /// Its number, from 1.
    pub step: usize,
    /// The epoch that it belongs to, from 1.
    pub epoch: usize,
    /// The mean loss over this rank's part of the batch; NaN where it was left out.
    pub loss: f64,
    /// The learning rate that it was made with.
    pub lr: f64,
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// This was its last epoch.
    End,
}
