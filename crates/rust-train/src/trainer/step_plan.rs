//! How a run is divided into epochs and phases.

use crate::config::plan::Plan;
use crate::run::checkpoint::Position;

/// The way of a run through its epochs. A step belongs to one epoch, and all epochs have equally many samples.
#[derive(Clone, Debug)]
pub(crate) struct StepPlan {
    /// Samples of a step, over all ranks.
    batch: usize,
    /// Samples of an epoch.
    samples: usize,
    pub steps_per_epoch: usize,
    pub epochs: usize,
    /// Steps after which it ends, wherever it is then.
    max_steps: Option<usize>,
    /// Epochs in which only the head is trained.
    frozen_epochs: usize,
}

impl StepPlan {
    /// The step_plan of a run over `samples` training images.
    pub(crate) fn new(plan: &Plan, samples: usize) -> Self {
        let batch = plan.batch.global();
        Self {
            batch,
            samples,
            steps_per_epoch: samples / batch,
            epochs: plan.flags.epochs,
            max_steps: plan.flags.max_steps,
            frozen_epochs: plan.frozen_epochs,
        }
    }

    /// Steps of all epochs, or fewer where the run is to stop in the middle of one.
    pub(crate) fn total_steps(&self) -> usize {
        self.all_steps().min(self.max_steps.unwrap_or(usize::MAX))
    }

    fn all_steps(&self) -> usize {
        self.steps_per_epoch.saturating_mul(self.epochs)
    }

    /// How far along a run is, in steps of this plan: a fraction of one where it began with another batch. Schedules go
    /// by this.
    pub(super) fn progress(&self, position: &Position) -> f64 {
        if self.max_steps.is_some_and(|most| most < self.all_steps()) {
            return position.step as f64; // its end is a number of steps
        }
        let of_epoch = position.samples as f64 / self.batch as f64;
        (position.epoch * self.steps_per_epoch) as f64 + of_epoch.min(self.steps_per_epoch as f64)
    }

    /// Steps that are left of the epoch under way.
    pub(super) fn steps_left(&self, position: &Position) -> usize {
        let of_epoch = self.samples.saturating_sub(position.samples) / self.batch;
        of_epoch.min(self.max_steps.unwrap_or(usize::MAX).saturating_sub(position.step))
    }

    /// A step was made.
    pub(super) fn advance(&self, position: &mut Position) {
        position.step += 1;
        position.samples += self.batch;
        position.scored = false;
    }

    /// The epoch under way was scored. It is over where no step is left of it, but for those that `--max-steps` has cut off.
    pub(super) fn score(&self, position: &mut Position) {
        position.trained = false;
        if self.samples.saturating_sub(position.samples) < self.batch {
            (position.epoch, position.samples, position.scored) = (position.epoch + 1, 0, false);
        } else {
            position.scored = true;
        }
    }

    /// Whether there is nothing left to do.
    pub(super) fn is_over(&self, position: &Position) -> bool {
        let is_between = position.scored || (position.samples == 0 && position.step > 0);
        position.epoch >= self.epochs
            || (self.max_steps.is_some_and(|most| position.step >= most) && is_between && !position.trained)
    }

    /// Whether a run that stands at `position` still has its backbone frozen: until the step after the phase's end.
    pub(crate) fn is_frozen(&self, position: &Position) -> bool {
        position.epoch < self.frozen_epochs || self.is_after_frozen(position)
    }

    /// Whether the backbone is to be unfrozen when `epoch` begins.
    pub(super) fn unfreezes(&self, epoch: usize) -> bool {
        epoch >= self.frozen_epochs
    }

    /// Whether the next step is the first of a phase, or none follows in this one: its buckets of gradients are new.
    pub(super) fn is_phase_start(&self, position: &Position) -> bool {
        let is_last_frozen = position.trained && position.epoch + 1 == self.frozen_epochs;
        position.step == 0 || is_last_frozen || self.is_after_frozen(position)
    }

    fn is_after_frozen(&self, position: &Position) -> bool {
        self.frozen_epochs > 0 && position.epoch == self.frozen_epochs && position.samples == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step_plan(batch: usize, epochs: usize, max_steps: Option<usize>) -> StepPlan {
        StepPlan { batch, samples: 103, steps_per_epoch: 103 / batch, epochs, max_steps, frozen_epochs: 0 }
    }

    fn position(step: usize, epoch: usize, samples: usize) -> Position {
        Position { step, epoch, samples, ..Position::default() }
    }

    #[test]
    fn phases_follow_from_the_position() {
        let step_plan = StepPlan { frozen_epochs: 2, ..step_plan(10, 4, None) };
        let places = [position(0, 0, 0), position(19, 1, 90), position(20, 2, 0), position(21, 2, 10)];
        assert_eq!(places.each_ref().map(|place| step_plan.is_frozen(place)), [true, true, true, false]);
        assert_eq!(places.each_ref().map(|place| step_plan.is_phase_start(place)), [true, false, true, false]);
        assert!(step_plan.is_phase_start(&Position { trained: true, ..position(20, 1, 100) }));
        let never = StepPlan { frozen_epochs: 0, ..step_plan.clone() };
        assert!(!never.is_frozen(&places[0]) && !never.is_phase_start(&places[2]));
        assert!(StepPlan { frozen_epochs: usize::MAX, ..step_plan }.is_frozen(&position(35, 3, 50)));
    }

    /// Runs to the end; gives the samples of each epoch that steps were made with.
    fn run(step_plan: &StepPlan, position: &mut Position) -> Vec<usize> {
        let mut trained = Vec::new();
        while !step_plan.is_over(position) {
            let before = position.samples;
            (0..step_plan.steps_left(position)).for_each(|_| step_plan.advance(position));
            trained.push(position.samples - before);
            position.trained = true;
            assert!(!step_plan.is_over(position), "its scores are not known");
            step_plan.score(position);
        }
        trained
    }

    #[test]
    fn a_run_ends_where_it_is_to() {
        let mut whole = Position::default();
        assert_eq!(run(&step_plan(10, 3, None), &mut whole), [100, 100, 100]);
        assert_eq!((whole.step, whole.epoch, whole.samples), (30, 3, 0));
        let mut cut = Position::default();
        assert_eq!(run(&step_plan(10, 3, Some(14)), &mut cut), [100, 40]);
        assert_eq!((cut.step, cut.epoch, cut.samples, cut.scored_epochs()), (14, 1, 40, 2));
        // It may go further: in the middle of its epoch.
        assert_eq!(run(&step_plan(10, 3, None), &mut cut), [60, 100]);
        let mut at_an_end = Position::default();
        assert_eq!(run(&step_plan(10, 3, Some(10)), &mut at_an_end), [100]);
        assert!(step_plan(10, 3, Some(10)).is_over(&at_an_end) && !step_plan(10, 3, Some(11)).is_over(&at_an_end));
    }

    proptest! {
        /// Whatever the batches, each epoch is trained once, and the schedule goes back by no more than the share of an epoch
        /// that the earlier batch would have dropped at its end and a smaller one still trains.
        #[test]
        fn another_batch_neither_skips_nor_repeats(
            batches in prop::collection::vec((1usize..40, 1usize..60), 1..6),
            epochs in 1usize..5,
        ) {
            let mut at = Position::default();
            let (mut trained, mut progress, mut dropped) = (vec![0; epochs], 0.0, 0.0);
            for (batch, steps) in batches.into_iter().chain([(7, usize::MAX)]) {
                let step_plan = step_plan(batch, epochs, None);
                let mut left = steps;
                prop_assert!(step_plan.progress(&at) / step_plan.total_steps() as f64 >= progress - dropped - 1e-9);
                while left > 0 && !step_plan.is_over(&at) {
                    for _ in 0..step_plan.steps_left(&at).min(left) {
                        step_plan.advance(&mut at);
                        trained[at.epoch] += batch;
                        left -= 1;
                    }
                    if step_plan.steps_left(&at) == 0 {
                        step_plan.score(&mut at);
                    }
                }
                progress = step_plan.progress(&at) / step_plan.total_steps() as f64;
                dropped = (step_plan.samples % batch) as f64 / (step_plan.samples * epochs) as f64;
            }
            prop_assert_eq!(at.epoch, epochs);
            prop_assert!(trained.iter().all(|&samples| (64..=103).contains(&samples)), "{:?}", trained);
        }
    }
}
