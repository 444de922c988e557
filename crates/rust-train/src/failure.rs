//! How errors leave the program: what all ranks know ends in good order, what one rank knows ends the job at once.

use anyhow::Error;
use world::{Failure, World};

use crate::agreement::Stop;

/// Input that the user has to change: exit status 2.
#[derive(Debug)]
pub(crate) struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error that says what the user has to change.
pub(crate) fn usage(message: impl std::fmt::Display) -> Error {
    Error::new(Usage(message.to_string()))
}

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything was done.
    Complete,
    /// It was stopped, and goes on with `--resume auto`: a checkpoint is saved.
    Stopped(Stop),
}

impl Ending {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Stopped(_) => 75, // EX_TEMPFAIL of sysexits.h: try again later
        }
    }
}

/// How a run ended, for this rank.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(Ending),
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
    Failure { message: format!("{error:#}"), exit_code: if is_bad_input { 2 } else { 1 } }
}

/// Turns a fallible step of this rank into one that all ranks pass or fail together. Collective.
pub(crate) fn agree<T>(world: &World, result: anyhow::Result<T>) -> anyhow::Result<T> {
    // Ranks that have lost each other cannot agree; ranks that have agreed need not do so again.
    if let Err(error) = &result
        && error.is::<world::Error>()
    {
        return result;
    }
    Ok(world.agree(result.map_err(|error| to_failure(&error)))?)
}

/// What the result of a run means for this rank.
pub(crate) fn settle(world: &World, result: anyhow::Result<Ending>) -> Outcome {
    let error = match result {
        Ok(ending) => return Outcome::Done(ending),
        Err(error) => error,
    };
    if let Some(world::Error::Agreed(verdict)) = error.downcast_ref() {
        return Outcome::Agreed { message: verdict.to_string(), exit_code: verdict.failure.exit_code };
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
}
