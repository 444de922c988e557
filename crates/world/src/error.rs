//! What can go wrong between ranks, and what travels between them when it does.

use std::fmt;
use std::time::Duration;

/// Why one rank failed, in a form that can be sent to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened, as one line.
    pub message: String,
    /// The exit status that the job should end with.
    pub exit_code: u8,
}

impl Failure {
    /// A failure that ends the job with exit status 1.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), exit_code: 1 }
    }

    /// Bad input: ends the job with exit status 2.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), exit_code: 2 }
    }
}

/// The outcome that all ranks agreed on: at least one of them failed. Equal on every rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The first rank that failed.
    pub rank: usize,
    /// Its host.
    pub host: String,
    /// Why it failed.
    pub failure: Failure,
    /// How many ranks failed in all.
    pub failed: usize,
    /// How many ranks there are.
    pub size: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, host, failure, failed, size } = self;
        // What failed everywhere is nobody's own fault: the rank would only distract.
        if failed == size {
            return f.write_str(&failure.message);
        }
        write!(f, "rank {rank} on {host}: {}", failure.message)?;
        match failed - 1 {
            0 => Ok(()),
            1 => f.write_str(" (and 1 other rank failed)"),
            others => write!(f, " (and {others} other ranks failed)"),
        }
    }
}

/// An error of the ranks' life together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Some rank failed, and all ranks know it: they can end in good order.
    #[error("{0}")]
    Agreed(Box<Verdict>),
    /// Another rank did not come in time. Nothing can be agreed on any more; the job must end.
    #[error("gave up after {} s in {what}: waiting for {whom}", waited.as_secs_f64().round())]
    TimedOut {
        /// The collective, or what the others were waiting for.
        what: String,
        /// Who did not come.
        whom: String,
        /// How long this rank waited.
        waited: Duration,
    },
    /// The ranks called different collectives. Nothing was sent.
    #[error("the ranks called different collectives: {who}")]
    Mismatch {
        /// Who called what, those that differ first.
        who: String,
    },
    /// MPI reported an error.
    #[error("{call} failed: {message}")]
    Mpi {
        /// The MPI function.
        call: &'static str,
        /// MPI's text for its error code.
        message: String,
    },
    /// An earlier collective failed on this rank, so the ranks are no longer in step.
    #[error("{what}: refused, because an earlier collective failed on this rank")]
    Broken {
        /// The collective that was refused.
        what: String,
    },
}

/// The result of something that ranks do together.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_name_the_rank_unless_all_failed() {
        let verdict =
            |failed| Verdict { rank: 1, host: "n1".to_owned(), failure: Failure::new("no space"), failed, size: 4 };
        let cases = [
            (1, "rank 1 on n1: no space"),
            (2, "rank 1 on n1: no space (and 1 other rank failed)"),
            (3, "rank 1 on n1: no space (and 2 other ranks failed)"),
            (4, "no space"),
        ];
        for (failed, text) in cases {
            assert_eq!(verdict(failed).to_string(), text);
        }
    }
}
