//! Times as people write them.

use std::time::Duration;

/// A time as people write it: "90" (seconds), "90s", "30m", "2h", "1d", "1h30m", or as Slurm does: "1:30:00", "2-00:00:00".
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid time '{text}'; write 90s, 30m, 2h, 1h30m or 1:30:00");
    let seconds = if text.contains(':') { of_clock(text) } else { of_units(text) };
    seconds.filter(|&seconds| seconds > 0).map(Duration::from_secs).ok_or_else(wrong)
}

/// `[days-]hours:minutes:seconds`, or `minutes:seconds`.
fn of_clock(text: &str) -> Option<u64> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let parts: Vec<u64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let seconds = match parts[..] {
        [minutes, seconds] => minutes.checked_mul(60)?.checked_add(seconds)?,
        [hours, minutes, seconds] => {
            hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)?
        }
        _ => return None,
    };
    days.parse::<u64>().ok()?.checked_mul(86_400)?.checked_add(seconds)
}

/// Numbers, each with its unit; a lone number counts seconds.
fn of_units(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (mut total, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let good = [
            ("90", 90),
            ("90s", 90),
            ("30m", 1800),
            ("2h", 7200),
            ("1h30m", 5400),
            ("1d2h", 93_600),
            ("5:00", 300),
            ("1:30:00", 5400),
            ("2-00:00:10", 172_810),
        ];
        for (text, seconds) in good {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "h", "1x", "-5", "1.5h", "0", "1:2:3:4", "30m5", "99999999999999999999", "9999999999999999d", "ä"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
