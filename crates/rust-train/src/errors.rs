//! How errors leave the program: what all ranks know ends in good order, what one rank knows ends the job at once.

use std::ops::ControlFlow;

use anyhow::Error;
use world::{Failure, World};

/// Input that the user has to change: exit status 2.
#[derive(Debug)]
pub(crate) struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Exit status of a job that was asked to stop and can be started again: EX_TEMPFAIL of sysexits.h, try again later.
pub(crate) const STOPPED: u8 = 75;

/// Work that ended because somebody asked this rank to stop, or another that waited for it.
#[derive(Debug)]
pub(crate) struct Interrupted(String);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped by a signal while {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Work that was asked to stop. `doing` ends "stopped by a signal while …".
pub(crate) fn interrupted(doing: impl std::fmt::Display) -> Error {
    Error::new(Interrupted(doing.to_string()))
}

/// How long work went; where it was asked to stop, in one line that says while `doing` what.
pub(crate) fn name_interruption<T>(
    doing: impl std::fmt::Display,
    result: Result<T, impl Into<Error>>,
) -> anyhow::Result<T> {
    result.map_err(Into::into).map_err(|error| if is_interruption(&error) { interrupted(doing) } else { error })
}

/// Says that `doing` gets on, for whoever waits, and ends it where somebody asked for that.
pub(crate) fn go_on(doing: &str, done: usize, total: usize, unit: &str) -> anyhow::Result<()> {
    match world::report(done as u64, total as u64, unit) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(interrupted(doing)),
    }
}

fn is_interruption(error: &Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Interrupted>()
            || matches!(cause.downcast_ref(), Some(dataset::Error::Interrupted))
            || matches!(cause.downcast_ref(), Some(fetch::Error::Interrupted { .. }))
    })
}

/// An error that says what the user has to change.
pub(crate) fn usage(message: impl std::fmt::Display) -> Error {
    Error::new(Usage(message.to_string()))
}

/// Why a run ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The wall-clock budget is nearly used up.
    TimeLimit,
    /// Somebody sent a signal to some rank.
    Signal,
}

impl Stop {
    pub(crate) const ALL: [Self; 2] = [Self::TimeLimit, Self::Signal];

    /// In words: "stopped by a signal".
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::TimeLimit => "stopped by its time limit",
            Self::Signal => "stopped by a signal",
        }
    }
}

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunOutcome {
    /// Everything was done.
    Complete,
    /// It was stopped, and goes on with `--resume auto`: a checkpoint is saved.
    Stopped(Stop),
}

impl RunOutcome {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Stopped(_) => STOPPED,
        }
    }
}

/// How a run ended, for this rank.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(RunOutcome),
    /// All ranks know the same error and are still in step: rank 0 says it, and MPI is finalized.
    Agreed {
        message: String,
        exit_code: u8,
    },
    /// Only this rank knows, or the ranks have lost each other: the others must be stopped.
    Alone {
        message: String,
        exit_code: u8,
    },
}

/// An error in the form that travels between ranks.
pub(crate) fn to_failure(error: &Error) -> Failure {
    let is_bad_input = error.chain().any(|cause| {
        cause.is::<Usage>()
            || cause.downcast_ref::<dataset::Error>().is_some_and(dataset::Error::is_bad_input)
            || cause.downcast_ref::<fetch::Error>().is_some_and(fetch::Error::is_bad_input)
            || cause.downcast_ref::<report::Error>().is_some_and(report::Error::is_bad_input)
            || cause.is::<onnx::Error>()
    });
    let exit_code = match (is_interruption(error), is_bad_input) {
        (true, _) => STOPPED,
        (false, true) => 2,
        (false, false) => 1,
    };
    Failure { message: torch_ext::without_frames(&format!("{error:#}")).to_owned(), exit_code }
}

/// Turns a fallible step of this rank into one that all ranks pass or fail together. Collective.
pub(crate) fn agree<T>(world: &World, result: anyhow::Result<T>) -> anyhow::Result<T> {
    agree_by(result, |result| world.agree(result))
}

/// As [`agree`], after work that takes some ranks longer than others: `doing`, for whoever waits.
pub(crate) fn agree_after<T>(world: &World, doing: &str, result: anyhow::Result<T>) -> anyhow::Result<T> {
    agree_by(result, |result| world.agree_after(doing, result))
}

fn agree_by<T>(
    result: anyhow::Result<T>,
    agree: impl FnOnce(Result<T, Failure>) -> world::Result<T>,
) -> anyhow::Result<T> {
    // Ranks that have lost each other cannot agree; ranks that have agreed need not do so again.
    if let Err(error) = &result
        && error.is::<world::Error>()
    {
        return result;
    }
    Ok(agree(result.map_err(|error| to_failure(&error)))?)
}

/// What the result of a run means for this rank.
pub(crate) fn settle(world: &World, result: anyhow::Result<RunOutcome>) -> Outcome {
    let error = match result {
        Ok(outcome) => return Outcome::Done(outcome),
        Err(error) => error,
    };
    if let Some(world::Error::Agreed(verdict)) = error.downcast_ref() {
        let exit_code = verdict.failure.exit_code;
        // Whichever rank came first to know of a signal, it is the job that was asked to stop.
        let message = if exit_code == STOPPED { verdict.failure.message.clone() } else { verdict.to_string() };
        return Outcome::Agreed { message, exit_code };
    }
    let Failure { message, exit_code } = to_failure(&error);
    if world.size() == 1 { Outcome::Agreed { message, exit_code } } else { Outcome::Alone { message, exit_code } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn bad_input_is_found_below_its_context() {
        let error = Err::<(), _>(usage("no such model")).context("planning").unwrap_err();
        assert_eq!(to_failure(&error), Failure { message: "planning: no such model".to_owned(), exit_code: 2 });
        let error = Error::new(dataset::Error::Input("no class".to_owned()));
        assert_eq!(to_failure(&error).exit_code, 2);
        assert_eq!(to_failure(&anyhow::anyhow!("disk full")).exit_code, 1);
    }

    #[test]
    fn work_that_was_stopped_says_so_in_one_line() {
        let listed = Err::<(), _>(dataset::Error::Interrupted).context("reading");
        let error = name_interruption("listing the images", listed).unwrap_err();
        let message = "stopped by a signal while listing the images".to_owned();
        assert_eq!(to_failure(&error), Failure { message, exit_code: STOPPED });
        let other = name_interruption("listing the images", Err::<(), _>(usage("no such folder"))).unwrap_err();
        assert_eq!(to_failure(&other), Failure::usage("no such folder"));
    }
}
