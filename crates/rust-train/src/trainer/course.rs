//! How a run is divided into epochs and phases.

use std::ops::Range;

use crate::checkpoint::Position;
use crate::plan::Plan;

/// The steps of a run. A step belongs to one epoch, and all epochs have equally many.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub steps_per_epoch: usize,
    pub epochs: usize,
    /// Steps of all epochs, or fewer where the run is to stop in the middle of one.
    pub total_steps: usize,
    /// Epochs in which only the head is trained.
    frozen_epochs: usize,
}

impl Course {
    /// The course of a run over `samples` training pictures.
    pub(crate) fn new(plan: &Plan, samples: usize) -> Self {
        let (epochs, steps_per_epoch) = (plan.training.epochs, samples / plan.batch.global());
        let all = steps_per_epoch * epochs;
        let total_steps = plan.training.max_steps.unwrap_or(all).min(all);
        Self { steps_per_epoch, epochs, total_steps, frozen_epochs: plan.frozen_epochs }
    }

    /// The steps of `epoch`, counted from 0.
    pub(super) fn steps_of(&self, epoch: usize) -> Range<usize> {
        let first = epoch * self.steps_per_epoch;
        first..(first + self.steps_per_epoch).min(self.total_steps)
    }

    /// Whether there is nothing left to do.
    pub(super) fn is_over(&self, position: &Position) -> bool {
        position.epoch >= self.epochs || (position.step >= self.total_steps && !position.trained && position.step > 0)
    }

    /// Whether a run that has made `step` steps still has its backbone frozen: until the step after the phase's end.
    pub(crate) fn is_frozen(&self, step: usize) -> bool {
        self.frozen_epochs > 0 && step <= self.frozen_steps()
    }

    /// Whether the backbone is to be unfrozen when `epoch` begins.
    pub(super) fn unfreezes(&self, epoch: usize) -> bool {
        epoch >= self.frozen_epochs
    }

    /// Whether a run that has made `step` steps is at the start of a phase: its buckets of gradients are new.
    pub(super) fn is_phase_start(&self, step: usize) -> bool {
        step == 0 || (self.frozen_epochs > 0 && step == self.frozen_steps())
    }

    fn frozen_steps(&self) -> usize {
        self.frozen_epochs.saturating_mul(self.steps_per_epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_and_epochs_follow_from_the_step() {
        let course = Course { steps_per_epoch: 10, epochs: 4, total_steps: 35, frozen_epochs: 2 };
        assert_eq!([0, 1, 3].map(|epoch| course.steps_of(epoch)), [0..10, 10..20, 30..35]);
        assert_eq!([0, 19, 20, 21].map(|step| course.is_frozen(step)), [true, true, true, false]);
        assert_eq!([0, 10, 20, 21].map(|step| course.is_phase_start(step)), [true, false, true, false]);
        let position = |step, epoch, trained| Position { step, epoch, trained, ..Position::default() };
        assert!(!course.is_over(&position(0, 0, false)) && !course.is_over(&position(35, 3, true)));
        assert!(course.is_over(&position(35, 4, false)));
        let never = Course { frozen_epochs: 0, ..course.clone() };
        assert!(!never.is_frozen(0) && !never.is_phase_start(20));
        assert!(Course { frozen_epochs: usize::MAX, ..course }.is_frozen(35));
    }
}
