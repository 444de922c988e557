//! `--mem`, `--mem-per-cpu`, `--mem-per-gpu`, `--tmp`: mebibytes where no unit is given.

use std::fmt;
use std::str::FromStr;

use super::ValueError;
use super::number::leading_integer;

/// An amount of memory, in MiB. For `--mem`, 0 means the whole node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory {
    /// MiB.
    pub mib: u64,
}

impl FromStr for Memory {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError::new("amount of memory", text, "use an integer with K, M, G or T; MiB without");
        let (value, unit) = leading_integer(text).ok_or_else(error)?;
        let value = u64::try_from(value).map_err(|_| error())?;
        let mut letters = unit.chars();
        let letter = letters.next();
        if !matches!(letters.as_str(), "" | "B" | "b") {
            return Err(error());
        }
        let mib = match letter.map(|letter| letter.to_ascii_uppercase()) {
            None | Some('M') => Some(value),
            Some('K') => Some(value.div_ceil(1024)),
            Some('G') => value.checked_mul(1024),
            Some('T') => value.checked_mul(1024 * 1024),
            Some(_) => None,
        };
        mib.map(|mib| Self { mib }).ok_or_else(error)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mib {
            0 => f.write_str("all of the node's"),
            mib if mib.is_multiple_of(1024) => write!(f, "{} GiB", mib / 1024),
            mib => write!(f, "{mib} MiB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        let cases = [
            ("64", Some(64)),
            ("0", Some(0)),
            ("64G", Some(65_536)),
            ("64gb", Some(65_536)),
            ("1T", Some(1_048_576)),
            ("1500K", Some(2)),
            ("8MB", Some(8)),
            ("1.5G", None),
            ("64GiB", None),
            ("-1", None),
            ("G", None),
            ("", None),
            ("64 G", None),
            ("64B", None),
            ("99999999999999T", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Memory>().ok().map(|memory| memory.mib), expected, "{text:?}");
        }
    }
}
