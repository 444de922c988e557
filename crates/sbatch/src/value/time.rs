//! `--time`, `--time-min`: minutes where nothing else is said.

use std::fmt;
use std::str::FromStr;

use super::ValueError;

/// A time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeLimit {
    /// So many minutes; seconds are rounded up.
    Minutes(u64),
    /// None: `0`, `-1`, `INFINITE`, `UNLIMITED`.
    Unlimited,
}

impl FromStr for TimeLimit {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        const EXPECTED: &str = "use minutes, minutes:seconds, hours:minutes:seconds, days-hours or days-hours:minutes";
        if ["-1", "infinite", "unlimited"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
            return Ok(Self::Unlimited);
        }
        match seconds(text) {
            Some(0) => Ok(Self::Unlimited),
            Some(seconds) => Ok(Self::Minutes(seconds.div_ceil(60))),
            None => Err(ValueError::new("time limit", text, EXPECTED)),
        }
    }
}

fn seconds(text: &str) -> Option<u64> {
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|&value| plain && value <= i32::MAX as u64)
    };
    let sum = |parts: &[(u64, u64)]| parts.iter().map(|(value, factor)| value * factor).sum::<u64>();
    if let Some((days, rest)) = text.split_once('-') {
        let days = number(days)?;
        let rest: Vec<_> = rest.split(':').collect();
        return match rest[..] {
            [""] => Some(sum(&[(days, 86_400)])),
            [h] => Some(sum(&[(days, 86_400), (number(h)?, 3600)])),
            [h, m] => Some(sum(&[(days, 86_400), (number(h)?, 3600), (number(m)?, 60)])),
            [h, m, s] => Some(sum(&[(days, 86_400), (number(h)?, 3600), (number(m)?, 60), (number(s)?, 1)])),
            _ => None,
        };
    }
    let parts: Vec<_> = text.split(':').collect();
    match parts[..] {
        [m] => Some(sum(&[(number(m)?, 60)])),
        [m, s] => Some(sum(&[(number(m)?, 60), (number(s)?, 1)])),
        [h, m, s] => Some(sum(&[(number(h)?, 3600), (number(m)?, 60), (number(s)?, 1)])),
        _ => None,
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::Minutes(minutes) => {
                let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
                if days > 0 {
                    write!(f, "{days}-{hours:02}:{minutes:02}:00")
                } else {
                    write!(f, "{hours:02}:{minutes:02}:00")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        use TimeLimit::{Minutes, Unlimited};
        let cases = [
            ("30", Some(Minutes(30))),
            ("24:00", Some(Minutes(24))),
            ("1:30", Some(Minutes(2))),
            ("1:00:00", Some(Minutes(60))),
            ("2-0", Some(Minutes(2880))),
            ("2-", Some(Minutes(2880))),
            ("1-12:30", Some(Minutes(2190))),
            ("1-00:00:01", Some(Minutes(1441))),
            ("0", Some(Unlimited)),
            ("-1", Some(Unlimited)),
            ("UNLIMITED", Some(Unlimited)),
            ("infinite", Some(Unlimited)),
            ("2d", None),
            ("", None),
            ("=1:00:00", None),
            ("5:", None),
            ("1:2:3:4", None),
            ("1--2", None),
            ("-5", None),
            ("1h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<TimeLimit>().ok(), expected, "{text:?}");
        }
        assert_eq!(Minutes(2190).to_string(), "1-12:30:00");
        assert_eq!(Minutes(24).to_string(), "00:24:00");
    }
}
