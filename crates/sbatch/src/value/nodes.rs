//! `--nodes`: a number, a range, or a list of numbers.

use std::str::FromStr;

use super::ValueError;
use super::number::leading_integer;

/// How many nodes a job may get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCount {
    /// At least so many.
    pub min: usize,
    /// At most so many.
    pub max: usize,
    /// The numbers in between that a list names; empty where every number will do.
    listed: Vec<usize>,
}

/// The longest list; Slurm keeps a bitmap of about this size.
const LARGEST_LISTED: usize = 0xfffe;

impl NodeCount {
    /// Exactly `count` nodes.
    pub fn exactly(count: usize) -> Self {
        Self { min: count, max: count, listed: Vec::new() }
    }

    /// Every number of nodes that the job may get, smallest first.
    pub fn counts(&self) -> impl Iterator<Item = usize> + '_ {
        let all = if self.listed.is_empty() { self.min..self.max.saturating_add(1) } else { 0..0 };
        all.chain(self.listed.iter().copied())
    }

    /// Whether only one number of nodes will do.
    pub fn is_exact(&self) -> bool {
        self.min == self.max
    }
}

const EXPECTED: &str = "use a number (4), a range (2-4) or a list (1,2,4)";

impl FromStr for NodeCount {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError::new("node count", text, EXPECTED);
        if text.contains([',', ':']) {
            return list(text).ok_or_else(error);
        }
        let (min, max) = match text.split_once('-') {
            // A range's ends are read one by one, and a missing lower end counts as 1.
            Some((min, max)) => (suffixed(min).ok_or_else(error)?.unwrap_or(1), suffixed(max).ok_or_else(error)?),
            None => {
                let count = suffixed(text).ok_or_else(error)?.ok_or_else(error)?;
                (count, Some(count))
            }
        };
        let max = max.ok_or_else(error)?;
        // sbatch lets 0 pass, and the controller refuses it.
        if max == 0 || max < min { Err(error()) } else { Ok(Self { min, max, listed: Vec::new() }) }
    }
}

/// A number with the suffix `k` or `m`. The outer `None`: something else follows; the inner: there is no number.
fn suffixed(text: &str) -> Option<Option<usize>> {
    let Some((mut value, mut rest)) = leading_integer(text) else {
        return text.chars().all(crate::token::is_space).then_some(None);
    };
    for (suffix, factor) in [(['k', 'K'], 1024), (['m', 'M'], 1024 * 1024)] {
        if let Some(behind) = rest.strip_prefix(suffix) {
            (value, rest) = (value.saturating_mul(factor), behind);
        }
    }
    let value = (0..=i64::from(i32::MAX)).contains(&value).then_some(value as usize);
    rest.chars().all(crate::token::is_space).then_some(value)
}

/// `1,3,5-9:2`: numbers, ranges, ranges with a step.
fn list(text: &str) -> Option<NodeCount> {
    let number = |text: &str| -> Option<usize> {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|&value| plain && value <= LARGEST_LISTED)
    };
    let mut listed = Vec::new();
    for part in text.split(',') {
        let (range, step) = part.split_once(':').map_or((part, "1"), |(range, step)| (range, step));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last, step) = (number(first)?, number(last)?, number(step)?);
        if step == 0 || last < first || listed.len() > LARGEST_LISTED {
            return None;
        }
        listed.extend((first..=last).step_by(step));
    }
    listed.sort_unstable();
    listed.dedup();
    Some(NodeCount { min: *listed.first()?, max: *listed.last()?, listed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_counts() {
        let cases = [
            ("2", Some((2, 2))),
            ("2-4", Some((2, 4))),
            ("1k", Some((1024, 1024))),
            ("-4", Some((1, 4))),
            ("1,2,4", Some((1, 4))),
            ("2-8:2", Some((2, 8))),
            ("0", None),
            ("4-2", None),
            ("4-", None),
            ("", None),
            ("=", None),
            ("=1", None),
            ("two", None),
            ("2x", None),
            ("1.5", None),
            ("4:", None),
            ("1,,2", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<NodeCount>().ok().map(|nodes| (nodes.min, nodes.max)), expected, "{text:?}");
        }
        let counts = |text: &str| text.parse::<NodeCount>().unwrap().counts().collect::<Vec<_>>();
        assert_eq!(counts("2-8:2,3"), [2, 3, 4, 6, 8]);
        assert_eq!(counts("2-4"), [2, 3, 4]);
        assert_eq!(counts("7"), [7]);
    }
}
