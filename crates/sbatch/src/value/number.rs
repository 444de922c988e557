//! Integers, as C's `strtol` and Slurm's `parse_int` read them.

use std::str::FromStr;

use super::ValueError;
use crate::token::is_space;

/// The integer at the start of `text`, behind white space and a sign, and what follows it. Saturates.
pub(super) fn leading_integer(text: &str) -> Option<(i64, &str)> {
    let trimmed = text.trim_start_matches(is_space);
    let unsigned = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    let digits = unsigned.len() - unsigned.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits == 0 {
        return None;
    }
    let magnitude = unsigned[..digits].parse::<i64>().unwrap_or(i64::MAX);
    let value = if trimmed.starts_with('-') { -magnitude } else { magnitude };
    Some((value, &unsigned[digits..]))
}

fn parse_int(text: &str, lowest: i64, expected: &'static str) -> Result<usize, ValueError> {
    match leading_integer(text) {
        Some((value, "")) if (lowest..i64::from(i32::MAX)).contains(&value) => Ok(value as usize),
        _ => Err(ValueError::new("count", text, expected)),
    }
}

/// An integer of at least 1: `--ntasks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub usize);

impl FromStr for Count {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        parse_int(text, 1, "use an integer of at least 1").map(Self)
    }
}

/// An integer of at least 0: `--core-spec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub usize);

impl FromStr for Number {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        parse_int(text, 0, "use an integer of at least 0").map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_strtols() {
        let cases = [
            ("4", Some(4)),
            (" +4", Some(4)),
            ("007", Some(7)),
            ("4 ", None),
            ("0", None),
            ("-1", None),
            ("", None),
            ("=4", None),
            ("1.5", None),
            ("2147483646", Some(2_147_483_646)),
            ("2147483647", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Count>().ok().map(|count| count.0), expected, "{text:?}");
        }
        assert_eq!("0".parse(), Ok(Number(0)));
    }
}
