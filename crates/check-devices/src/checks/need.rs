//! What checks need, or the answer that says what is missing.

use crate::check::{Outcome, Tier};
use crate::subject::{ScriptFile, Subject};

/// The script, or the answer of a check that wants one.
pub(super) fn script<'s, 't>(subject: &'s Subject<'t>) -> Result<&'s ScriptFile<'t>, Outcome> {
    subject.script.as_ref().ok_or_else(|| Outcome::skip(Tier::Script.how()))
}

/// Unwraps what a check needs, or returns the answer that says what is missing.
macro_rules! need {
    ($value:expr) => {
        match $value {
            Ok(value) => value,
            Err(outcome) => return outcome,
        }
    };
    ($value:expr, $reason:expr) => {
        match $value {
            Some(value) => value,
            None => return $crate::check::Outcome::skip($reason),
        }
    };
}
pub(super) use need;
