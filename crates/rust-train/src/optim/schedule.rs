//! The learning rate of each step, and with one-cycle the momentum: functions of how far the run is alone, so that a run
//! that goes on in its middle needs to know nothing else, and with another batch goes on at the same fraction.
//!
//! How far is counted in steps: between two of them lies a run that has come to its place with another batch.

use std::f64::consts::PI;

use crate::config::learning_rate::{LearningRate, Plateau, Shape};

/// One-cycle begins at this fraction of its highest rate (PyTorch's `div_factor`).
const ONE_CYCLE_START: f64 = 1.0 / 25.0;

impl LearningRate {
    /// The schedule of a run of so many steps.
    pub(crate) fn in_steps(&self, steps_per_epoch: usize, total_steps: usize) -> Schedule {
        let warmup_steps = (self.warmup_epochs * steps_per_epoch as f64).round() as usize;
        Schedule { rate: self.clone(), steps_per_epoch, warmup_steps, total_steps }
    }
}

/// What a step is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    pub lr: f64,
    /// Where the schedule says one.
    pub momentum: Option<f64>,
    /// The weight decay, as a share of what the flags say.
    pub decay: Option<f64>,
}

/// The rates of a run, by step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    rate: LearningRate,
    steps_per_epoch: usize,
    warmup_steps: usize,
    total_steps: usize,
}

impl Schedule {
    /// What `step` is made with, counted from 0, after so many [`Plateau::cuts`].
    pub(crate) fn at(&self, step: f64, cuts: usize) -> Rate {
        let lr = match self.rate.shape {
            Shape::Plateau { gamma, .. } if step >= self.warmup_steps as f64 => {
                (self.rate.peak * gamma.powi(cuts as i32)).max(self.rate.floor)
            }
            _ => self.learning_rate(step),
        };
        Rate { lr, momentum: self.momentum(step), decay: self.decay(step) }
    }

    /// Takes in the validation loss of an epoch whose last step was before `step`. Gives whether the rate falls by it.
    pub(crate) fn observe(&self, plateau: &mut Plateau, loss: f64, step: f64) -> bool {
        match self.rate.shape {
            Shape::Plateau { patience, .. } if step > self.warmup_steps as f64 => plateau.observe(loss, patience),
            _ => false,
        }
    }

    fn decay(&self, step: f64) -> Option<f64> {
        let end = self.rate.decay_at_end?;
        Some(half_cosine(1.0, end, (step / self.total_steps.max(1) as f64).min(1.0)))
    }

    /// The learning rate of `step`, counted from 0.
    fn learning_rate(&self, step: f64) -> f64 {
        let LearningRate { shape, peak, floor, .. } = &self.rate;
        if *shape == Shape::OneCycle {
            return self.cycle(step, peak * ONE_CYCLE_START, *peak, *floor);
        }
        let warmup_steps = self.warmup_steps as f64;
        if step < warmup_steps {
            return peak * (step + 1.0).min(warmup_steps) / warmup_steps;
        }
        let length = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - warmup_steps) / length as f64).min(1.0);
        let epoch = (step / self.steps_per_epoch.max(1) as f64) as usize;
        let times = |gamma: f64, cuts: usize| (peak * gamma.powi(cuts as i32)).max(*floor);
        match shape {
            Shape::Cosine => half_cosine(*peak, *floor, progress),
            Shape::Linear => peak + (floor - peak) * progress,
            Shape::Step { every, gamma } => times(*gamma, epoch / every),
            Shape::MultiStep { milestones, gamma } => {
                times(*gamma, milestones.iter().filter(|&&milestone| milestone <= epoch).count())
            }
            Shape::Polynomial { power } => floor + (peak - floor) * (1.0 - progress).powf(*power),
            Shape::WarmRestarts { first, factor } => {
                let epochs = (step - warmup_steps) / self.steps_per_epoch.max(1) as f64;
                half_cosine(*peak, *floor, share_of_cycle(epochs, *first as f64, *factor as f64))
            }
            Shape::OneCycle | Shape::Constant | Shape::Plateau { .. } => *peak,
        }
    }

    fn momentum(&self, step: f64) -> Option<f64> {
        let (least, highest) = self.rate.momentum?;
        Some(self.cycle(step, highest, least, highest))
    }

    /// From `start` to `middle` at the end of the warm-up, and to `end` in the last step.
    fn cycle(&self, step: f64, start: f64, middle: f64, end: f64) -> f64 {
        let turn = self.warmup_steps.saturating_sub(1);
        let last = self.total_steps.saturating_sub(1).max(turn + 1);
        let (turn, last) = (turn as f64, last as f64);
        if step <= turn {
            let progress = if turn == 0.0 { 1.0 } else { step / turn };
            return half_cosine(start, middle, progress);
        }
        half_cosine(middle, end, ((step - turn) / (last - turn)).min(1.0))
    }
}

/// How far `epochs` have come in their cycle, 0–1: the first lasts `first` epochs, each other `factor` times the one before.
fn share_of_cycle(mut epochs: f64, first: f64, factor: f64) -> f64 {
    if factor == 1.0 {
        return epochs % first / first;
    }
    let mut length = first;
    while epochs >= length {
        epochs -= length;
        length *= factor;
    }
    epochs / length
}

/// Half a cosine from `start` to `end`, as far as `progress` (0–1).
fn half_cosine(start: f64, end: f64, progress: f64) -> f64 {
    end + (start - end) * 0.5 * (1.0 + (PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn shape(case: &Value) -> Shape {
        let (number, gamma) = (|key: &str| case[key].as_u64().unwrap() as usize, || case["gamma"].as_f64().unwrap());
        match case["shape"].as_str().unwrap() {
            "cosine" => Shape::Cosine,
            "linear" => Shape::Linear,
            "step" => Shape::Step { every: number("every"), gamma: gamma() },
            "multistep" => {
                let milestones = case["milestones"].as_array().unwrap().iter();
                Shape::MultiStep {
                    milestones: milestones.map(|epoch| epoch.as_u64().unwrap() as usize).collect(),
                    gamma: gamma(),
                }
            }
            "polynomial" => Shape::Polynomial { power: case["power"].as_f64().unwrap() },
            "warm-restarts" => Shape::WarmRestarts { first: number("first"), factor: number("factor") },
            "one-cycle" => Shape::OneCycle,
            "constant" => Shape::Constant,
            other => panic!("no schedule is called {other}"),
        }
    }

    #[test]
    fn rates_are_pytorchs() {
        let references: Value = serde_json::from_str(include_str!("../../tests/references/schedules.json")).unwrap();
        let cases = references["cases"].as_array().unwrap();
        assert!(cases.len() >= 8);
        for case in cases {
            let number = |key: &str| case[key].as_f64().unwrap();
            let momentum =
                case["momentum"].as_array().map(|list| (list[0].as_f64().unwrap(), list[1].as_f64().unwrap()));
            let rate = LearningRate {
                shape: shape(case),
                peak: number("peak"),
                floor: number("floor"),
                warmup_epochs: number("warmup_epochs"),
                momentum,
                decay_at_end: None,
            };
            let steps_per_epoch = number("steps_per_epoch") as usize;
            let schedule = rate.in_steps(steps_per_epoch, steps_per_epoch * number("epochs") as usize);
            let expected = case["rates"].as_array().unwrap();
            assert_eq!(expected.len(), schedule.total_steps);
            for (step, expected) in expected.iter().enumerate() {
                let (got, expected) = (schedule.learning_rate(step as f64), expected.as_f64().unwrap());
                assert!(
                    (got - expected).abs() <= 1e-9 * number("peak"),
                    "{rate:?}, step {step}: {got}, not {expected}"
                );
            }
            for (step, expected) in case["momenta"].as_array().into_iter().flatten().enumerate() {
                let (got, expected) = (schedule.momentum(step as f64).unwrap(), expected.as_f64().unwrap());
                assert!((got - expected).abs() <= 1e-9, "{rate:?}, step {step}: momentum {got}, not {expected}");
            }
        }
    }

    #[test]
    fn the_rate_falls_on_a_plateau_as_pytorchs() {
        let references: Value = serde_json::from_str(include_str!("../../tests/references/schedules.json")).unwrap();
        for case in references["plateaus"].as_array().unwrap() {
            let number = |key: &str| case[key].as_f64().unwrap();
            let numbers = |key: &str| -> Vec<f64> {
                case[key].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
            };
            let shape = Shape::Plateau { patience: number("patience") as usize, gamma: number("gamma") };
            let (floor, peak) = (number("floor"), number("peak"));
            let rate = LearningRate { shape, peak, floor, warmup_epochs: 0.0, momentum: None, decay_at_end: None };
            let (schedule, mut plateau) = (rate.in_steps(10, 1000), Plateau::default());
            let mut falls = 0;
            for (epoch, (loss, expected)) in numbers("losses").into_iter().zip(numbers("rates")).enumerate() {
                falls += usize::from(schedule.observe(&mut plateau, loss, 10.0 * (epoch + 1) as f64));
                let got = schedule.at(10.0 * (epoch + 1) as f64, plateau.cuts).lr;
                assert!((got - expected).abs() <= 1e-9 * peak, "epoch {epoch}: {got}, not {expected}");
            }
            assert!(falls > 1 && falls == plateau.cuts);
        }
    }

    #[test]
    fn a_plateau_waits_for_the_warm_up() {
        let shape = Shape::Plateau { patience: 0, gamma: 0.5 };
        let rate =
            LearningRate { shape, peak: 1.0, floor: 0.0, warmup_epochs: 2.0, momentum: None, decay_at_end: None };
        let (schedule, mut plateau) = (rate.in_steps(10, 100), Plateau::default());
        assert!(!schedule.observe(&mut plateau, 1.0, 10.0) && !schedule.observe(&mut plateau, 2.0, 20.0));
        assert_eq!(schedule.at(9.0, 3).lr, 0.5);
        assert!(!schedule.observe(&mut plateau, 3.0, 30.0) && schedule.observe(&mut plateau, 3.0, 40.0));
        assert_eq!(schedule.at(40.0, plateau.cuts).lr, 0.5);
        // What is no number is no lower.
        assert!(schedule.observe(&mut plateau, f64::NAN, 50.0));
    }

    #[test]
    fn weight_decay_goes_to_its_end_along_half_a_cosine() {
        let rate = LearningRate {
            shape: Shape::Constant,
            peak: 1.0,
            floor: 0.0,
            warmup_epochs: 0.0,
            momentum: None,
            decay_at_end: Some(10.0),
        };
        let schedule = rate.in_steps(10, 100);
        let at = |step| schedule.at(step, 0).decay.unwrap();
        assert_eq!((at(0.0), at(50.0), at(100.0), at(200.0)), (1.0, 5.5, 10.0, 10.0));
    }

    proptest! {
        #[test]
        fn rates_stay_between_their_bounds(
            which in 0usize..9,
            (steps_per_epoch, total_steps, step) in (1usize..9, 1usize..80, 0.0f64..100.0),
            (warmup_epochs, share) in (0.0f64..12.0, 0.0f64..1.0),
        ) {
            let shape = [
                Shape::Cosine,
                Shape::Linear,
                Shape::Step { every: 2, gamma: 0.3 },
                Shape::MultiStep { milestones: vec![1, 4], gamma: 0.3 },
                Shape::OneCycle,
                Shape::Constant,
                Shape::Polynomial { power: 0.9 },
                Shape::WarmRestarts { first: 3, factor: 1 },
                Shape::WarmRestarts { first: 2, factor: 3 },
            ][which].clone();
            let (floor, momentum) = (0.4 * share, Some((0.85, 0.95)));
            let rate = LearningRate { shape: shape.clone(), peak: 0.4, floor, warmup_epochs, momentum, decay_at_end: None };
            let schedule = rate.in_steps(steps_per_epoch, total_steps);
            let got = schedule.learning_rate(step);
            prop_assert!(got > 0.0 || (got == 0.0 && floor == 0.0) , "{}", got);
            prop_assert!(got <= 0.4 + 1e-12, "{}", got);
            if step >= schedule.warmup_steps as f64 {
                prop_assert!(got >= floor - 1e-12, "{} below {}", got, floor);
            }
            let momentum = schedule.momentum(step).unwrap();
            prop_assert!((0.85 - 1e-12..=0.95 + 1e-12).contains(&momentum));
        }
    }
}
