//! `--batch auto`: in how many micro-batches a step is made, so that it fits in the memory of all ranks.

use world::Reduction;

use super::Trainer;
use crate::errors::{agree, usage};

impl Trainer<'_> {
    /// `--batch auto`: finds the largest micro-batch that fits on all ranks, of what is trained at present. Collective.
    pub(crate) fn fit_memory(&mut self) -> anyhow::Result<()> {
        if !self.job.plan.flags.batch.fit_memory {
            return Ok(());
        }
        // A rank whose memory does not suffice leaves its pass in the middle: no other may wait for it there.
        self.step.model.pause_batch_norm_synchronization(true);
        let fitted = self.find_what_fits();
        self.step.model.pause_batch_norm_synchronization(false);
        fitted
    }

    fn find_what_fits(&mut self) -> anyhow::Result<()> {
        let whole = self.job.plan.batch.per_rank();
        let buffers: Vec<_> =
            self.step.model.buffers().into_iter().map(|(_, buffer)| (buffer.copy(), buffer)).collect();
        for parts in self.micro_batches(self.job.plan.batch.accumulation()) {
            let fits = self.step.fits(self.task, whole / parts, self.job.plan.images.image_size)?;
            let mut misfits = [u64::from(!fits)];
            self.job.world.control().all_reduce(&mut misfits, Reduction::Sum)?;
            if misfits[0] == 0 {
                for (before, buffer) in &buffers {
                    buffer.detach().f_copy_(before)?;
                }
                self.step.micro_batches = parts;
                if self.job.world.rank() == 0 {
                    log::info!("a step is made in {parts} micro-batches of {} images a rank", whole / parts);
                }
                return Ok(());
            }
        }
        let least = self.micro_batches(1).last().map_or(1, |parts| whole / parts);
        agree(
            self.job.world,
            Err(usage(format!("--batch auto: the memory does not suffice for a micro-batch of {least}"))),
        )
    }

    /// In how many equal micro-batches a rank may compute its part of a batch: in `least` or more, none too small for
    /// BatchNorm.
    pub(super) fn micro_batches(&self, least: usize) -> Vec<usize> {
        let whole = self.job.plan.batch.per_rank();
        let may = |parts: &usize| whole.is_multiple_of(*parts) && whole / parts >= self.job.plan.least_micro_batch;
        (least..=whole).filter(may).collect()
    }
}
