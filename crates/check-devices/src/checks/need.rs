//! What checks need, or the answer that says what is missing.

use layout::{BatchLayout, SolveError};

use crate::check::{Outcome, Tier};
use crate::number::Number;
use crate::subject::{Layout, ScriptFile, Subject};

/// The script, or the answer of a check that wants one.
pub(super) fn script<'s, 't>(subject: &'s Subject<'t>) -> Result<&'s ScriptFile<'t>, Outcome> {
    subject.script.as_ref().ok_or_else(|| Outcome::skip(Tier::Script.how()))
}

/// The script of a Slurm job: what a check judges by Slurm's rules.
pub(super) fn slurm_script<'s, 't>(subject: &'s Subject<'t>) -> Result<&'s ScriptFile<'t>, Outcome> {
    match subject.scheduler() {
        None if subject.script.as_ref().is_some_and(|file| file.writes_the_job) => {
            Err(Outcome::skip("the directives are of a script that this one writes"))
        }
        None => script(subject),
        Some(scheduler) => Err(Outcome::skip(format!("a {} script: a rule of Slurm's", scheduler.name()))),
    }
}

/// The number, where it is known exactly, or why it is not.
pub(super) fn exactly(number: &Number) -> Result<usize, Outcome> {
    match number {
        Number::Exactly(number) => Ok(*number),
        Number::AtLeast(_, reason) | Number::Unknown(reason) => Err(Outcome::Unknown(reason.clone())),
    }
}

/// All ranks of the first layout.
pub(super) fn ranks(subject: &Subject<'_>) -> Result<usize, Outcome> {
    exactly(&subject.first_layout().ranks.value)
}

/// How the batch is shared on `layout`, or whether it can be; the answer of a check where there is none, or where it is not
/// known by how many.
pub(super) fn solved(layout: &Layout) -> Result<&Result<BatchLayout, SolveError>, Outcome> {
    match &layout.batch {
        None => Err(Outcome::skip("no batch is given")),
        Some(Err(reason)) => Err(Outcome::Unknown(reason.clone())),
        Some(Ok(solved)) => Ok(solved),
    }
}

/// How the batch is shared; the answer of a check where it is not, which others judge.
pub(super) fn shared<'s>(subject: &'s Subject<'_>) -> Result<&'s BatchLayout, Outcome> {
    solved(subject.first_layout())?.as_ref().map_err(|_| Outcome::skip("the ranks cannot share the batch"))
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
