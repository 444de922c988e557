//! Where a run stands: in epochs and samples, so that it means the same under another batch.

use anyhow::Context;
use flags::BatchSize;
use serde::{Deserialize, Serialize};

use super::State;
use crate::config::learning_rate::Plateau;

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Whether a program's hook has said that the last epoch was the last one.
    #[serde(default)]
    pub ended: bool,
    /// Optimizer steps made, of whatever batch: what records and checkpoints are numbered by.
    pub step: usize,
    /// Epochs that are over: their steps are made, their scores known.
    pub epoch: usize,
    /// Samples of the epoch under way that steps were made with.
    #[serde(default)]
    pub samples: usize,
    /// Whether the steps of the epoch under way are made, and only its evaluation is left.
    pub trained: bool,
    /// Whether the epoch under way was scored in its middle, because the run was to end there.
    #[serde(default)]
    pub scored: bool,
    /// The sum of the losses of the epoch under way, and how many there are.
    pub loss_sum: f64,
    pub losses: usize,
    /// Steps in a row that were left out because of a loss that was no number.
    pub skipped: usize,
    /// The best epoch's value of the metric that decides.
    pub best: Option<f64>,
    /// The best epoch, from 1; 0 where it is not known.
    #[serde(default)]
    pub best_epoch: usize,
    /// How the validation loss has gone, for --schedule plateau.
    #[serde(default)]
    pub plateau: Plateau,
    /// Time that the run has taken, in seconds.
    pub elapsed: f64,
}

impl Position {
    /// Epochs whose scores are known, one that ended in its middle included.
    pub(crate) fn scored_epochs(&self) -> usize {
        self.epoch + usize::from(self.scored)
    }

    /// Whether training has come further than `before`.
    pub(crate) fn is_beyond(&self, before: &Self) -> bool {
        let place = |position: &Self| (position.step, position.epoch, position.trained, position.scored);
        place(self) != place(before)
    }
}

/// The position of a checkpoint of format 1, which counted steps of one batch: an epoch that ended in its middle counted as
/// one.
pub(super) fn of_steps(state: &State) -> anyhow::Result<Position> {
    let position = state.position.clone();
    let batch = match state.plan.get("batch") {
        Some(toml::Value::String(text)) => text.parse::<BatchSize>().ok().map(|batch| batch.images),
        Some(value) => value.as_integer().and_then(|batch| usize::try_from(batch).ok()),
        None => None,
    };
    let batch =
        batch.filter(|&batch| batch > 0).context("its plan names no batch, so that it is not known where it stands")?;
    let steps_per_epoch = (state.dataset.train / batch).max(1);
    let ended_early = position.step < position.epoch * steps_per_epoch;
    let epoch = position.epoch - usize::from(ended_early);
    let samples = position.step.saturating_sub(epoch * steps_per_epoch) * batch;
    Ok(Position { epoch, samples, scored: ended_early, ..position })
}

#[cfg(test)]
mod tests {
    use super::super::tests::checkpoint;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A last bit that is lost is found in the record of the epoch.
        #[test]
        fn no_bit_of_a_number_is_lost(loss_sum in 0.0f64..1e4, best in 0.0f64..1.0, elapsed in 0.0f64..1e7) {
            let mut state = checkpoint(7).state;
            state.position = Position { loss_sum, elapsed, best: Some(best), ..state.position };
            state.plan.insert("lr".to_owned(), best.into());
            let read = State::parse(&serde_json::to_vec_pretty(&state).unwrap()).unwrap();
            prop_assert_eq!((&read.position, &read.plan), (&state.position, &state.plan));
        }
    }

    #[test]
    fn steps_of_form_1_become_epochs_and_samples() {
        let mut state = checkpoint(0).state;
        state.dataset.train = 100; // 3 steps of 32
        let cases = [
            // step, epoch, trained -> epoch, samples, scored
            ((0, 0, false), (0, 0, false)),
            ((2, 0, false), (0, 64, false)),
            ((3, 0, true), (0, 96, false)),
            ((3, 1, false), (1, 0, false)),
            ((7, 2, false), (2, 32, false)),
            ((4, 2, false), (1, 32, true)), // --max-steps 4
        ];
        for batch in ["batch = 32", "batch = \"auto:32\""] {
            state.plan = batch.parse().unwrap();
            for ((step, epoch, trained), expected) in cases {
                state.position = Position { step, epoch, trained, ..Position::default() };
                let got = of_steps(&state).unwrap();
                assert_eq!((got.epoch, got.samples, got.scored), expected, "step {step}");
                assert_eq!((got.step, got.trained), (step, trained));
            }
        }
        state.plan = toml::Table::new();
        assert!(of_steps(&state).unwrap_err().to_string().contains("names no batch"));
    }
}
