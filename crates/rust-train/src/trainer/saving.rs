//! What a run saves, and how it goes on.

use std::collections::BTreeMap;

use anyhow::Context;
use tch::{Kind, Tensor};
use world::Reduction;

use super::Trainer;
use crate::errors::{Stop, agree, usage};
use crate::machine::fingerprint;
use crate::model::tensors::{Tensors, copies, restore, tensors};
use crate::run::checkpoint::{self, Checkpoint, Position, Saved, State, Writer};
use crate::run::results::Results;
use crate::task::deciding;
use crate::trainer::step::AVERAGE;

impl Trainer<'_> {
    /// Begins to save where the run stands; training goes on meanwhile. A disk that is full now may not be later: the
    /// run goes on without this checkpoint. Collective.
    pub(super) fn save(&mut self, is_best: bool) -> anyhow::Result<()> {
        let is_busy = self.writer.as_ref().is_some_and(Writer::is_busy);
        let is_left_out = is_busy && !is_best && !self.is_over();
        if is_left_out {
            log::debug!("the checkpoint before is still being written; this one is left out");
        }
        let checkpoint = self.checkpoint(!is_left_out, is_best)?;
        let (Some(writer), Some(checkpoint)) = (&mut self.writer, checkpoint) else { return Ok(()) };
        match writer.finish() {
            Ok(saved) => saved.into_iter().for_each(|saved| self.agreement.note_save(saved.took)),
            Err(error) => log::warn!("{error:#}; training continues, and this is tried again later"),
        }
        // Whoever went on from a checkpoint that is ahead of the record would never write the lines between.
        match self.results.as_mut().map_or(Ok(()), Results::flush) {
            Ok(()) => writer.start(checkpoint),
            Err(error) => {
                log::warn!("{error:#}; until that is written no checkpoint is saved");
                writer.keep_best(checkpoint);
            }
        }
        Ok(())
    }

    /// Saves where the run stands, to the disk, because it is to stop. Collective.
    pub(super) fn save_and_wait(&mut self, stop: Stop) -> anyhow::Result<()> {
        let checkpoint = self.checkpoint(true, false)?;
        let saved = self.write_and_wait(checkpoint);
        let recorded = self.results.as_mut().map_or(Ok(()), Results::settle);
        let saved = agree(self.job.world, saved.and_then(|saved| recorded.map(|()| saved)))?;
        if let Some(Saved { path, .. }) = saved {
            log::info!(
                "{} after step {}; saved {}; resume with --resume auto --output {}",
                stop.words(),
                self.position.step,
                path.display(),
                self.output.display(),
            );
        }
        Ok(())
    }

    /// The end: waits until everything is on the disk. Collective.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        if let Some(Err(error)) = self.writer.as_mut().map(Writer::finish) {
            log::warn!("{error:#}; it is tried again");
        }
        // A disk that was full when the last checkpoint came may not be any more.
        let step = self.position.step;
        let mut is_missing = [u8::from(self.writer.as_ref().is_some_and(|writer| writer.saved() != Some(step)))];
        self.job.world.control().all_reduce(&mut is_missing, Reduction::Max)?;
        if is_missing[0] == 1 {
            let checkpoint = self.checkpoint(true, false)?;
            let saved = self.write_and_wait(checkpoint);
            agree(self.job.world, saved)?;
        }
        agree(self.job.world, self.results.as_mut().map_or(Ok(()), Results::settle))?;
        if self.job.world.rank() == 0 {
            let best = match (self.position.best, self.sizes.val) {
                (_, 0) => "nothing to validate on".to_owned(),
                (None, _) => "no validation loss was finite".to_owned(),
                (Some(best), held_out) => {
                    let (metric, _) = deciding(&*self.task.scorer());
                    format!("{} at best, on {held_out} held-out images", metric.words(best))
                }
            };
            let output = self.output.display();
            // What the catalogue has can be used by itself.
            let is_usable = self.job.plan.architecture.is_some() && !self.card.is_of_own_program();
            let next = if is_usable { format!("; next: rust-train eval {output}") } else { String::new() };
            log::info!("done: {best}, in {:.1} s; results in {output}{next}", self.elapsed());
        }
        Ok(())
    }

    /// Writes the record, and then rank 0's checkpoint, to the disk.
    fn write_and_wait(&mut self, checkpoint: Option<Checkpoint>) -> anyhow::Result<Option<Saved>> {
        let (Some(writer), Some(checkpoint)) = (&mut self.writer, checkpoint) else { return Ok(None) };
        if let Err(error) = writer.finish() {
            log::warn!("{error:#}");
        }
        self.results.as_mut().map_or(Ok(()), Results::flush)?;
        writer.start(checkpoint);
        writer.finish()
    }

    /// Where the run stands, on rank 0, if it is `wanted` there: the others cannot know, and do their part. `is_best`: its
    /// model has scored best so far. Collective.
    fn checkpoint(&mut self, wanted: bool, is_best: bool) -> anyhow::Result<Option<Checkpoint>> {
        let world = self.job.world;
        let mut is_left_out = [u8::from(!wanted)];
        world.control().all_reduce(&mut is_left_out, Reduction::Max)?;
        if is_left_out[0] == 0 {
            agree(world, self.hooks.borrow_mut().checkpoint(self.output, self.position.step))?;
        }
        let (optimizer, scaler) = self.step.state()?;
        let averages = self.step.averages()?;
        let model = self.step.model.state();
        // After an epoch's evaluation all ranks have the same statistics.
        let position = &self.position;
        let differ = self.job.world.size() > 1 && (position.losses > 0 || position.trained);
        let buffers = if differ { self.buffers_of_all()? } else { Vec::new() };
        if self.job.world.rank() != 0 || !wanted {
            return Ok(None);
        }
        let position = Position { elapsed: self.elapsed(), ..position.clone() };
        let mut model = copies(&model);
        let mut ema = copies(&averages);
        for (name, mean) in means(&buffers) {
            let (tensors, name) = match name.strip_prefix(AVERAGE) {
                Some(averaged) => (&mut ema, averaged),
                None => (&mut model, name.as_str()),
            };
            if let Some(entry) = tensors.iter_mut().find(|(known, _)| *known == name) {
                entry.1 = backbones::from_torch(&mean);
            }
        }
        let ranks = buffers.iter().enumerate().flat_map(|(rank, buffers)| {
            buffers.iter().map(move |(name, tensor)| (of_rank(rank, name), tensor.shallow_clone()))
        });
        Ok(Some(Checkpoint {
            state: State {
                format_version: State::FORMAT_VERSION,
                is_complete: self.is_over(),
                is_best,
                best_model: None, // whoever writes it knows
                position,
                ranks: self.job.world.size(),
                dataset: self.sizes.clone(),
                scaler,
                scores: self.scores.clone(),
                plan: self.job.plan.mathematics(),
                teacher: self.teacher.clone(),
                versions: self.fingerprint.clone(),
                files: BTreeMap::new(),
            },
            model,
            optimizer: copies(&optimizer),
            ranks: copies(&ranks.collect::<Vec<_>>()),
            ema,
            card: Some(self.card.clone()),
        }))
    }

    /// The buffers of every rank, on rank 0. Collective.
    fn buffers_of_all(&self) -> anyhow::Result<Vec<Vec<(String, Tensor)>>> {
        let buffers = self.step.buffers();
        let mut all = Vec::new();
        for rank in 0..self.job.world.size() {
            let copies: Vec<_> = buffers.iter().map(|(_, tensor)| tensor.detach().copy()).collect();
            self.step.group.broadcast(&copies, rank)?;
            if self.job.world.rank() == 0 {
                all.push(buffers.iter().map(|(name, _)| name.clone()).zip(copies).collect());
            }
        }
        Ok(all)
    }

    /// Goes on from `checkpoint`. Collective.
    pub(crate) fn restore(&mut self, checkpoint: Checkpoint) -> anyhow::Result<()> {
        let Checkpoint { state, model, optimizer, ranks, ema, card: _ } = checkpoint;
        agree(self.job.world, self.refuse_other_data(&state))?;
        agree(self.job.world, self.refuse_other_teacher(&state))?;
        if !self.step_plan.is_phase_start(&state.position) {
            self.step.rehearse(self.job.plan.images.image_size)?;
        }
        let keeps_optimizer = self.keeps_optimizer(&state);
        let mut restore = || -> anyhow::Result<()> {
            restore(&self.step.model.state(), &model).context("the model of the checkpoint")?;
            if let Some(average) = &mut self.step.averaged {
                match ema.is_empty() {
                    true => average.restart()?, // the run began without
                    false => restore(&average.state(), &ema).context("the averages of the checkpoint")?,
                }
            }
            if state.ranks == self.job.world.size() {
                let prefix = of_rank(self.job.world.rank(), "");
                let own = ranks
                    .iter()
                    .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_owned(), tensor.clone())));
                let own: Tensors = own.collect();
                if !own.is_empty() {
                    restore(&self.step.buffers(), &own).context("this rank's buffers")?;
                }
            }
            let optimizer = if keeps_optimizer { tensors(&optimizer) } else { Vec::new() };
            match self.step.load_state(&optimizer, state.scaler) {
                Err(torch_ext::Error::OtherOptimizer { saved, own }) => {
                    if self.job.world.rank() == 0 {
                        log::warn!(
                            "the optimizer is {own}, and was {saved}: what it remembers of earlier steps starts over"
                        );
                    }
                    Ok(self.step.load_state(&[], state.scaler)?)
                }
                loaded => Ok(loaded?),
            }
        };
        let restored = restore();
        agree(self.job.world, restored)?;
        self.position = state.position;
        // An older program did not write it down: patience begins here.
        if self.position.best.is_some() && self.position.best_epoch == 0 {
            self.position.best_epoch = self.position.epoch;
        }
        self.scores = state.scores;
        if let Some(writer) = &mut self.writer {
            writer.goes_on(self.position.step, state.best_model);
        }
        // Whoever changes the plan of a run that a program ended wants it to go further.
        self.position.ended &= !self.job.plan.flags.run.allow_changed_plan;
        // A run that was to end in the middle of an epoch, and is to go further now, does not count that epoch.
        if !self.is_over() {
            self.position.scored = false;
        }
        if self.job.world.rank() == 0 {
            let Position { step, epoch, .. } = self.position;
            let ranks = match state.ranks {
                ranks if ranks == self.job.world.size() => String::new(),
                ranks => format!(", saved by {ranks} ranks"),
            };
            log::info!("resumes after step {step}, in epoch {}{ranks}", epoch + 1);
            let changes = fingerprint::changes(&state.versions, &self.fingerprint);
            if self.job.plan.flags.virtual_ranks.is_some() && !changes.is_empty() {
                log::warn!(
                    "--virtual-ranks: from here on the bits may be others than without the stop: {}",
                    changes.join("; ")
                );
            }
        }
        Ok(())
    }

    /// Whether what the optimizer of the checkpoint remembers is of use to this one; where not, this says so.
    fn keeps_optimizer(&self, state: &State) -> bool {
        let name = |plan: &toml::Table| plan.get("optimizer").and_then(|name| name.as_str()).map(str::to_owned);
        let (then, now) = (name(&state.plan), name(&self.job.plan.mathematics()));
        if then == now {
            return true;
        }
        if self.job.world.rank() == 0 {
            let [then, now] = [then, now].map(Option::unwrap_or_default);
            let average =
                if then == "adamw-schedule-free" { ", and so does the average that was evaluated" } else { "" };
            log::warn!(
                "the optimizer is {now}, and was {then}: what it remembers of earlier steps starts over{average}"
            );
        }
        false
    }

    /// Refuses a teacher that teaches something else than the one before.
    fn refuse_other_teacher(&self, state: &State) -> anyhow::Result<()> {
        match (&state.teacher, &self.teacher) {
            (Some(then), Some(now)) if then != now && !self.job.plan.flags.run.allow_changed_plan => Err(usage(
                "--teacher: its weights are others than those that the run has learned from so far; add --allow-changed-plan to go on with it",
            )),
            _ => Ok(()),
        }
    }

    fn refuse_other_data(&self, state: &State) -> anyhow::Result<()> {
        let (then, now) = (&state.dataset, &self.sizes);
        if then == now {
            return Ok(());
        }
        let shown = |sizes: &checkpoint::DatasetSize| {
            format!("{} training and {} validation images of {} classes", sizes.train, sizes.val, sizes.classes.len())
        };
        let names = if shown(then) == shown(now) { ", and other names of classes" } else { "" };
        Err(usage(format!("--resume: the data are others: {}, now {}{names}", shown(then), shown(now))))
    }
}

/// The name of a buffer of one rank in a checkpoint.
fn of_rank(rank: usize, name: &str) -> String {
    format!("rank-{rank}/{name}")
}

/// The mean of each buffer of floating-point numbers over the ranks: what one rank of another number of them gets.
fn means(buffers: &[Vec<(String, Tensor)>]) -> Vec<(String, Tensor)> {
    let Some(first) = buffers.first() else { return Vec::new() };
    let floats = first.iter().enumerate().filter(|(_, (_, tensor))| tensor.is_floating_point());
    floats
        .map(|(index, (name, tensor))| {
            let all: Vec<_> = buffers.iter().map(|buffers| buffers[index].1.to_kind(Kind::Double)).collect();
            (name.clone(), Tensor::stack(&all, 0).mean_dim([0].as_slice(), false, Kind::Double).to_kind(tensor.kind()))
        })
        .collect()
}
