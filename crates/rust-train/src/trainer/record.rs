//! What a run writes down on its way: every step's loss, every epoch's scores, and how it ended.

use report::{EpochLine, Metric, Scores, StepLine};
use world::Reduction;

use super::Trainer;
use super::evaluate::Scored;
use super::hooks::Flow;
use super::job::Job;
use crate::errors::{RunOutcome, agree};
use crate::files;
use crate::observe::progress::Throughput;
use crate::run::bits::BitsLine;
use crate::run::checkpoint::Checkpoints;
use crate::run::results::{self, Results};
use crate::task::words;

impl Trainer<'_> {
    /// Opens the files that rank 0 writes while the run goes on: those of a run that `goes_on` in its own folder are cut
    /// back to where it stands. Collective.
    pub(crate) fn open_results(&mut self, goes_on: bool) -> anyhow::Result<()> {
        let Job { world, device, threads, plan, .. } = self.job;
        let session = results::session(world, device, threads, plan.batch.global(), self.position.step)?;
        let (step, epochs) = (self.position.step, self.position.scored_epochs());
        let open = || -> anyhow::Result<Results> {
            if goes_on {
                let checkpoints = Checkpoints::of_run(self.output);
                checkpoints.cut_back(step)?;
                checkpoints.prune(self.job.plan.flags.run.keep_checkpoints)?;
            }
            // Also where a run begins: one before may have been killed before it had anything to go on with.
            files::remove_leftovers(self.output)?;
            let goes_on = goes_on.then_some((step, epochs));
            Results::open(self.output, goes_on, session, self.sizes.classes.clone(), plan.flags.record_bits)
        };
        let opened = (self.job.world.rank() == 0).then(open).transpose();
        self.results = agree(self.job.world, opened)?;
        Ok(())
    }

    /// Rank 0 writes down how the run ended.
    pub(crate) fn close_results(&mut self, outcome: RunOutcome) {
        let how = match outcome {
            RunOutcome::Complete => "done",
            RunOutcome::Stopped(stop) => stop.words(),
        };
        if let Some(results) = &mut self.results {
            results.end(self.position.step, how, &self.val);
        }
        log::debug!("optimizer state: {:.1} MB on this rank", self.step.optimizer_bytes() as f64 / 1e6);
    }

    /// Writes down each step's loss over the global batch: the mean of the ranks' equal parts.
    pub(super) fn write_losses(&mut self) -> anyhow::Result<()> {
        let (mut losses, rates): (Vec<_>, Vec<_>) = std::mem::take(&mut self.losses).into_iter().unzip();
        // Where steps are of fixed parts each rank knows the loss of all.
        if self.job.plan.flags.virtual_ranks.is_none() {
            self.job.world.control().all_reduce(&mut losses, Reduction::Sum)?;
            losses.iter_mut().for_each(|loss| *loss /= self.job.world.size() as f64);
        }
        for loss in losses.iter().filter(|loss| loss.is_finite()) {
            self.position.loss_sum += loss;
            self.position.losses += 1;
        }
        let first = self.position.step - losses.len();
        let line = |(index, (loss, lr))| StepLine { step: first + index, loss, lr };
        let lines: Vec<_> = losses.into_iter().zip(rates).enumerate().map(line).collect();
        agree(self.job.world, self.results.as_mut().map_or(Ok(()), |results| results.write_steps(&lines)))
    }

    /// Writes down what all ranks computed up to step `number`, where that is recorded. Collective.
    pub(super) fn write_bits(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(bits) = &mut self.step.bits else { return Ok(()) };
        let own: Vec<_> = bits.extract_if(.., |line| line.step <= number).collect();
        let of_ranks = self.job.world.control().all_gather_text(&serde_json::to_string(&own)?)?;
        let Some(results) = &mut self.results else { return Ok(()) };
        let mut lines = Vec::new();
        for of_rank in of_ranks {
            lines.extend(serde_json::from_str::<Vec<BitsLine>>(&of_rank)?);
        }
        lines.sort_by_key(|line| (line.step, line.part.unwrap_or(usize::MAX)));
        results.write_bits(&lines)
    }

    /// Rank 0 writes down what an epoch brought; all ranks learn whether it could. The epoch is over with that. Gives whether
    /// its model is the best so far.
    pub(super) fn record(&mut self, (scorer, is_best): Scored, throughput: Throughput) -> anyhow::Result<bool> {
        // Where nothing is scored the record has the same columns, of nothing.
        let none = |metric: Metric| (metric.name, f64::NAN);
        let unscored = || Scores(self.task.scorer().metrics().into_iter().map(none).collect());
        let line = EpochLine {
            epoch: self.position.epoch + 1,
            train_loss: self.position.loss_sum / self.position.losses as f64,
            val_loss: scorer.as_ref().map_or(f64::NAN, |scorer| scorer.loss()),
            scores: scorer.as_ref().map_or_else(unscored, |scorer| scorer.scores()),
            images_per_second: throughput.images_per_second,
            data_wait: throughput.data_wait,
            communication_wait: throughput.communication_wait,
            elapsed_seconds: self.elapsed(),
        };
        if scorer.is_some() {
            self.look_for_plateau(line.val_loss);
        }
        self.position.ended = self.ask_whether_to_end(&line)? || self.is_out_of_patience(line.epoch);
        let mut after = self.position.clone();
        self.step_plan.score(&mut after);
        let is_last = self.position.ended || self.step_plan.is_over(&after);
        let Self { results, val, position, .. } = self;
        let written = results.as_mut().map_or(Ok(()), |results| {
            let validation = scorer.as_ref().map_or_else(String::new, |scorer| {
                let scores = words(&scorer.metrics(), &line.scores);
                let scores = if scores.is_empty() { scores } else { format!(" {scores},") };
                format!(" val loss {:.4},{scores}", line.val_loss)
            });
            log::info!("epoch {}: train loss {:.4},{validation} {throughput}", line.epoch, line.train_loss);
            results.write_epoch(&line, position.step, scorer, val, is_last)
        });
        agree(self.job.world, written)?;
        self.step_plan.score(&mut self.position);
        (self.position.loss_sum, self.position.losses) = (0.0, 0);
        self.last_epoch = Some(line);
        Ok(is_best)
    }

    /// Lowers the learning rate where the validation `loss` falls no more and the schedule is to follow it: the same on all ranks.
    fn look_for_plateau(&mut self, loss: f64) {
        let step = self.step_plan.progress(&self.position);
        if !self.schedule.observe(&mut self.position.plateau, loss, step) || self.job.world.rank() != 0 {
            return;
        }
        let lr = self.schedule.at(step, self.position.plateau.cuts).lr;
        log::info!(
            "the validation loss falls no more: the learning rate is {lr:.3e} from here on (--schedule plateau)"
        );
    }

    /// Whether `epoch`, the one that has just ended, is the last one by `--patience`: the same on all ranks.
    fn is_out_of_patience(&self, epoch: usize) -> bool {
        let Some(patience) = self.job.plan.flags.run.patience else { return false };
        let without = epoch - self.position.best_epoch;
        if without < patience || epoch >= self.step_plan.epochs {
            return false;
        }
        if self.job.world.rank() == 0 {
            log::info!("{without} epochs in a row have not been better: the run ends after epoch {epoch} (--patience)");
        }
        true
    }

    /// Asks whether a hook on any rank says that the epoch of `line` is the last one. Collective.
    fn ask_whether_to_end(&self, line: &EpochLine) -> anyhow::Result<bool> {
        let world = self.job.world;
        let flow = agree(world, self.hooks.borrow_mut().epoch_end(line))?;
        let mut ends = [u8::from(flow == Flow::End)];
        world.control().all_reduce(&mut ends, Reduction::Max)?;
        if ends[0] == 1 && world.rank() == 0 {
            log::info!("the program ends the run after epoch {}", line.epoch);
        }
        Ok(ends[0] == 1)
    }
}
