//! `--array=0-15:4%2`: the tasks of a job array.

use std::str::FromStr;

use super::ValueError;

/// The indices of a job array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayIndices {
    /// How many tasks.
    pub tasks: u64,
    /// How many run at once, where the array says.
    pub at_once: Option<u64>,
}

impl FromStr for ArrayIndices {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError::new("list of array indices", text, "use numbers and ranges: 0-15, 1,3,5, 0-15:4%2");
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|&value| plain && value <= 4_000_001).ok_or_else(error)
        };
        let (indices, at_once) = match text.split_once('%') {
            Some((indices, at_once)) => (indices, Some(number(at_once)?)),
            None => (text, None),
        };
        let indices = indices.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(indices);
        let mut tasks = 0;
        for part in indices.split(',') {
            let (range, step) = part.split_once(':').map_or((part, "1"), |split| split);
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last, step) = (number(first)?, number(last)?, number(step)?);
            if step == 0 || last < first {
                return Err(error());
            }
            tasks += (last - first) / step + 1;
        }
        Ok(Self { tasks, at_once })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices() {
        let cases = [
            ("0-15", Some((16, None))),
            ("1,3,5-7", Some((5, None))),
            ("0-15:4%2", Some((4, Some(2)))),
            ("3", Some((1, None))),
            ("", None),
            ("1-", None),
            ("7-1", None),
            ("0-3:0", None),
            ("0-9%", None),
            ("a", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                text.parse::<ArrayIndices>().ok().map(|array| (array.tasks, array.at_once)),
                expected,
                "{text:?}"
            );
        }
    }
}
