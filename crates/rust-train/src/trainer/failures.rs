//! What to do when a step fails on some rank, or the time does not suffice: all ranks do the same.

use std::time::Duration;

use anyhow::{anyhow, bail};
use tch::Tensor;
use world::World;

use super::Trainer;
use super::out_of_memory::HINT;
use crate::config::plan::OnNan;
use crate::errors::{Stop, agree};
use crate::run::checkpoint::Position;

/// Steps in a row without a finite loss after which a run that leaves them out ends all the same.
const MOST_SKIPPED: usize = 100;

impl Trainer<'_> {
    /// The memory of `rank` did not suffice for a step, which nobody has made: it is tried again in smaller parts, if it
    /// may.
    pub(super) fn split_further(&mut self, rank: usize) -> anyhow::Result<()> {
        let step = self.position.step + 1;
        let parts = self.step.micro_batches;
        let more = self.micro_batches(parts + 1).first().copied();
        let Some(more) = more.filter(|_| self.job.plan.flags.batch.fit_memory) else {
            return bail_together(
                self.job.world,
                rank,
                format!("step {step}: out of memory; --batch auto finds what fits, {HINT}"),
            );
        };
        self.step.micro_batches = more;
        if self.job.world.rank() == 0 {
            log::warn!(
                "step {step}: out of memory on rank {rank}; from here on in {more} micro-batches instead of {parts}"
            );
        }
        Ok(())
    }

    /// A step whose loss was no number on `rank`: all ranks have left it out, and go on if they may.
    pub(super) fn leave_out(&mut self, rank: usize) -> anyhow::Result<()> {
        let step = self.position.step + 1;
        let what = format!("the loss of step {step} is NaN or infinite");
        self.position.skipped += 1;
        match self.job.plan.flags.run.on_nan {
            OnNan::Stop => {
                let hint = "lower --lr, use --clip-grad-norm, or leave such steps out with --on-nan skip";
                bail_together(self.job.world, rank, format!("{what}; {hint}"))
            }
            OnNan::Skip if self.position.skipped > MOST_SKIPPED => {
                bail_together(self.job.world, rank, format!("{what}, as those of {MOST_SKIPPED} steps before it"))
            }
            OnNan::Skip => {
                if self.job.world.rank() == 0 {
                    let host = self.job.world.host_of(rank);
                    log::warn!("{what} on rank {rank} on {host}: the step is left out");
                }
                Ok(())
            }
        }
    }

    /// A validation loss that is NaN is the weights' fault, or BatchNorm's statistics': training is over. Gives whether it
    /// is finite, where the run may go on all the same.
    pub(super) fn refuse_nan_scores(&self, loss: f64) -> anyhow::Result<bool> {
        if loss.is_finite() {
            return Ok(true);
        }
        let what = format!("the validation loss of epoch {} is {loss}", self.position.epoch + 1);
        let bad: Vec<_> = self.step.model.state().into_iter().filter(|(_, tensor)| !is_finite(tensor)).collect();
        let cause = match bad.first() {
            Some((name, _)) => format!("{name} holds NaN or infinity, and {} more tensors do", bad.len() - 1),
            None => "the weights are finite, and what they make of some image is not".to_owned(),
        };
        match self.job.plan.flags.run.on_nan {
            OnNan::Stop => {
                let hint = "lower --lr, use --clip-grad-norm, or continue all the same with --on-nan skip";
                agree(self.job.world, Err(anyhow!("{what}: {cause}; {hint}")))
            }
            OnNan::Skip => {
                if self.job.world.rank() == 0 {
                    log::warn!("{what}: {cause}; this epoch cannot be the best");
                }
                Ok(false)
            }
        }
    }

    /// Refuses to begin where the time limit leaves no time for a step. Collective.
    pub(super) fn refuse_no_time(&mut self) -> anyhow::Result<()> {
        let (stop, needed) = (self.agreement.stop()?, self.agreement.time_needed(Duration::ZERO));
        let refused = match (stop, needed) {
            (Some(Stop::TimeLimit), Some(needed)) if self.job.world.rank() == 0 => Err(anyhow!(
                "the time limit leaves no time for a step: {:.0} s went by before the first one, and some are kept for saving; \
                 give at least {needed} s",
                self.start.elapsed().as_secs_f64()
            )),
            _ => Ok(()),
        };
        agree(self.job.world, refused)
    }

    /// Refuses to be called again and again where the time limit has kept this time from coming any further than `begin`.
    /// Collective.
    pub(super) fn refuse_no_progress(&mut self, stop: Stop, begin: &Position) -> anyhow::Result<()> {
        if stop != Stop::TimeLimit || self.position.is_beyond(begin) {
            return Ok(());
        }
        // What was evaluated says how long the rest would have taken.
        let (done, all) = self.evaluated;
        let rest = self.evaluation_time.mul_f64((all.saturating_sub(done)) as f64 / done.max(1) as f64);
        let refused = match self.agreement.time_needed(rest) {
            Some(needed) => Err(anyhow!(
                "the time limit ended the evaluation of epoch {} after {done} of {all} batches, and nothing was achieved: give \
                 at least {needed} s",
                self.position.epoch + 1
            )),
            None => Ok(()), // rank 0 knows
        };
        agree(self.job.world, refused)
    }
}

fn is_finite(tensor: &Tensor) -> bool {
    !tensor.is_floating_point() || tensor.isfinite().all().int64_value(&[]) == 1
}

/// Ends the run with an error that all ranks know to be that of `rank`.
fn bail_together(world: &World, rank: usize, message: String) -> anyhow::Result<()> {
    agree(world, if world.rank() == rank { Err(anyhow!(message)) } else { Ok(()) })?;
    bail!("rank {rank} did not fail after all")
}
