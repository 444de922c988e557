//! Agreement: what fails on one rank has failed for all, and all know why.

use crate::error::{Error, Failure, Result, Verdict};
use crate::wait::WaitLimit;
use crate::{Reduction, World};

impl World {
    /// Turns this rank's result into the verdict of all ranks. Collective: every rank must call it.
    ///
    /// Costs one small all-reduce where all is well.
    ///
    /// # Errors
    /// [`Error::Agreed`], equal on every rank, if any rank failed: the first failing rank's message, and how many
    /// failed in all.
    pub fn agree<T>(&self, result: std::result::Result<T, Failure>) -> Result<T> {
        self.agree_within(result, None)
    }

    /// As [`agree`](Self::agree), after work that takes some ranks longer than others. `doing` says what it is, for whoever
    /// waits: "building the dataset cache".
    ///
    /// # Errors
    /// As [`agree`](Self::agree).
    pub fn agree_after<T>(&self, doing: &str, result: std::result::Result<T, Failure>) -> Result<T> {
        let what = || doing.to_owned();
        self.agree_within(result, Some(&WaitLimit::for_work(&what, self.control().timeout())))
    }

    fn agree_within<T>(&self, result: std::result::Result<T, Failure>, limit: Option<&WaitLimit<'_>>) -> Result<T> {
        let control = self.control();
        let nobody = self.size() as i64;
        let mut first = [if result.is_err() { self.rank() as i64 } else { nobody }];
        control.all_reduce_within(&mut first, Reduction::Min, limit)?;
        let failure = match result {
            Ok(value) if first[0] == nobody => return Ok(value),
            other => other.err(),
        };
        let rank = first[0] as usize;
        let mut failed = [i64::from(failure.is_some())];
        control.all_reduce(&mut failed, Reduction::Sum)?;
        // Of the others' failures only the number is told.
        let failure = self.share_failure(failure.unwrap_or_else(|| Failure::new("")), rank)?;
        Err(Error::Agreed(Box::new(Verdict {
            rank,
            host: self.host_of(rank).to_owned(),
            failure,
            failed: failed[0] as usize,
            size: self.size(),
        })))
    }

    fn share_failure(&self, failure: Failure, root: usize) -> Result<Failure> {
        let mut exit_code = [failure.exit_code];
        let mut message = failure.message.into_bytes();
        self.control().broadcast(&mut exit_code, root)?;
        self.control().broadcast_bytes(&mut message, root)?;
        Ok(Failure { message: String::from_utf8_lossy(&message).into_owned(), exit_code: exit_code[0] })
    }
}
