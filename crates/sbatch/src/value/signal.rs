//! `--signal=[R][B]:SIG[@SECONDS]`: a warning before the time limit.

use std::str::FromStr;

use super::ValueError;
use super::number::leading_integer;

/// A signal before the end of the time limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalRequest {
    /// The signal: its name in capitals without `SIG`, or its number.
    pub signal: String,
    /// Seconds before the limit.
    pub seconds: u64,
    /// `B`: to the batch shell, and not to the steps.
    pub batch_shell: bool,
    /// `R`: also before a reservation starts.
    pub reservation: bool,
}

const NAMES: &[&str] = &[
    "HUP", "INT", "QUIT", "ABRT", "KILL", "ALRM", "TERM", "CHLD", "USR1", "USR2", "PIPE", "URG", "CONT", "STOP",
    "TSTP", "TTIN", "TTOU", "XCPU",
];

impl FromStr for SignalRequest {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error =
            || ValueError::new("signal request", text, "use [B:]SIGNAL[@SECONDS], such as USR1@120 or B:TERM@60");
        let (mut batch_shell, mut reservation) = (false, false);
        let mut rest = text;
        for (letter, flag) in [('R', 0), ('B', 1), ('R', 0)] {
            if let Some(behind) = rest.strip_prefix([letter, letter.to_ascii_lowercase()]) {
                rest = behind;
                if flag == 0 { reservation = true } else { batch_shell = true }
            }
        }
        rest = rest.strip_prefix(':').unwrap_or(rest);
        let (name, seconds) = match rest.split_once('@') {
            None => (rest, 60),
            Some((name, seconds)) => match leading_integer(seconds) {
                Some((value @ 0..=65_535, "")) => (name, value as u64),
                None if seconds.is_empty() => (name, 0),
                _ => return Err(error()),
            },
        };
        let name = name.trim_matches(crate::token::is_space);
        let signal = match leading_integer(name) {
            Some((1..=65_535, "")) => name.trim_start_matches('+').to_owned(),
            Some(_) => return Err(error()),
            None => {
                let upper = name.to_ascii_uppercase();
                let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
                NAMES.iter().find(|known| **known == bare).ok_or_else(error)?.to_string()
            }
        };
        Ok(Self { signal, seconds, batch_shell, reservation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let cases = [
            ("USR1", Some(("USR1", 60, false, false))),
            ("USR1@120", Some(("USR1", 120, false, false))),
            ("B:SIGUSR1@90", Some(("USR1", 90, true, false))),
            ("RB:term@30", Some(("TERM", 30, true, true))),
            ("BR:10@30", Some(("10", 30, true, true))),
            ("SIGTERM@0", Some(("TERM", 0, false, false))),
            ("USR1@65536", None),
            ("USR1@-1", None),
            ("USR1@60s", None),
            ("FOO@60", None),
            ("", None),
            ("@60", None),
        ];
        for (text, expected) in cases {
            let got = text.parse::<SignalRequest>().ok();
            let got = got.as_ref().map(|got| (got.signal.as_str(), got.seconds, got.batch_shell, got.reservation));
            assert_eq!(got, expected, "{text:?}");
        }
    }
}
