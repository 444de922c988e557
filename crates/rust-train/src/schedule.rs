//! The learning rate of each step.

use std::f64::consts::PI;

/// A linear warm-up to `peak`, then a half cosine down to zero.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    pub peak: f64,
    pub warmup_steps: usize,
    pub total_steps: usize,
}

impl Schedule {
    /// The learning rate of `step`, counted from 0.
    pub(crate) fn learning_rate(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let length = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / length as f64).min(1.0);
        self.peak * 0.5 * (1.0 + (PI * progress).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_and_falls() {
        let schedule = Schedule { peak: 0.4, warmup_steps: 4, total_steps: 12 };
        let expected = [(0, 0.1), (3, 0.4), (4, 0.4), (8, 0.2), (12, 0.0), (99, 0.0)];
        for (step, rate) in expected {
            assert!((schedule.learning_rate(step) - rate).abs() < 1e-12, "step {step}");
        }
        let none = Schedule { peak: 0.4, warmup_steps: 0, total_steps: 0 };
        assert!((none.learning_rate(0) - 0.4).abs() < 1e-12);
    }
}
