//! From values to places on an axis.

/// The range of an axis and where its ticks are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ticks {
    pub low: f64,
    pub high: f64,
    /// Values and what is written at them.
    pub labels: Vec<(f64, String)>,
}

impl Ticks {
    /// About `count` ticks at round values (1, 2 or 5 times a power of ten) around `low`–`high`.
    pub fn around(low: f64, high: f64, count: usize, percent: bool) -> Self {
        let (low, high) = widen(low, high);
        let step = round_step((high - low) / count.max(1) as f64);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let label = |value: f64| {
            if percent { format!("{} %", number(value * 100.0, step * 100.0)) } else { number(value, step) }
        };
        // Multiplied, not added up: no rounding piles up.
        let values = (0..=(last - first) as usize).map(|tick| (first + tick as f64) * step);
        Self { low: first * step, high: last * step, labels: values.map(|value| (value, label(value))).collect() }
    }

    /// As [`around`](Self::around), but the range is the values' own: ticks are those within.
    pub fn within(low: f64, high: f64, count: usize, percent: bool) -> Self {
        let (low, high) = widen(low, high);
        let mut ticks = Self::around(low, high, count, percent);
        let slack = (high - low) * 1e-9;
        ticks.labels.retain(|&(value, _)| (low - slack..=high + slack).contains(&value));
        Self { low, high, ..ticks }
    }

    /// One tick for each name, at 0, 1, 2….
    pub fn of_names(names: &[String]) -> Self {
        let labels = names.iter().enumerate().map(|(place, name)| (place as f64, name.clone())).collect();
        Self { low: -0.5, high: names.len() as f64 - 0.5, labels }
    }

    /// Where `value` lies between the ends, 0–1.
    pub fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// A range with an extent.
fn widen(low: f64, high: f64) -> (f64, f64) {
    if high - low > f64::EPSILON * low.abs().max(high.abs()) {
        return (low, high);
    }
    let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
    (low - room, high + room)
}

/// The smallest of 1, 2, 5 × 10ⁿ that is at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// `value` with as many decimals as multiples of `step` need, and commas between thousands.
pub(crate) fn number(value: f64, step: f64) -> String {
    let decimals = (-step.log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
    let text = format!("{:.decimals$}", if value == 0.0 { 0.0 } else { value }); // no "-0"
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_are_round() {
        let cases = [
            ((0.0, 2.3, 5), "0.0 0.5 1.0 1.5 2.0 2.5"),
            ((0.0, 23_000.0, 5), "0 5,000 10,000 15,000 20,000 25,000"),
            ((-0.01, 0.02, 3), "-0.01 0.00 0.01 0.02"),
            ((3.0, 3.0, 4), "2.6 2.8 3.0 3.2 3.4"),
            ((0.0, 0.0, 4), "-1.0 -0.5 0.0 0.5 1.0"),
        ];
        for ((low, high, count), expected) in cases {
            let labels: Vec<_> = Ticks::around(low, high, count, false).labels.into_iter().map(|tick| tick.1).collect();
            assert_eq!(labels.join(" "), expected);
        }
        let percent: Vec<_> = Ticks::around(0.0, 1.0, 4, true).labels.into_iter().map(|tick| tick.1).collect();
        assert_eq!(percent.join(" "), "0 % 50 % 100 %");
        let within = Ticks::within(0.0, 7.0, 4, false);
        assert_eq!((within.low, within.high, within.labels.len()), (0.0, 7.0, 4));
    }

    proptest! {
        #[test]
        fn every_value_is_between_the_ends(low in -1e9f64..1e9, length in 0f64..1e9, count in 2usize..10) {
            let ticks = Ticks::around(low, low + length, count, false);
            let slack = 1e-6 * (length + low.abs());
            prop_assert!(ticks.low <= low + slack && low + length <= ticks.high + slack);
            prop_assert!((2..=2 * count + 3).contains(&ticks.labels.len()), "{:?}", ticks);
            prop_assert!((0.0..=1.0).contains(&ticks.place(low + length / 2.0)));
        }
    }
}
