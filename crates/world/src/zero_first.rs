//! Zero-first: one rank does the work, the others wait, and everybody learns how it went.

use crate::World;
use crate::error::{Failure, Result};
use crate::wait::WaitLimit;

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The local rank 0 of each node: for files on node-local storage.
    Node,
    /// Rank 0 alone: for files on storage that all nodes share.
    World,
}

/// When a rank runs the task of [`World::zero_first`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// As the leader: nobody has done the work yet.
    First,
    /// After a leader has done it, to find its result.
    After,
}

impl World {
    /// The leader of `scope` runs `task` while the others wait; then the others run it and find its result in place.
    /// Collective. `doing` says what the task does, for whoever waits: "downloading the weights".
    ///
    /// The others wait for as long as the leader [`report`](crate::report)s progress, and the time-out after its last word.
    ///
    /// An error or a panic of any rank is known to all: either every rank gets its `Ok`, or every rank gets the same
    /// [`Error::Agreed`](crate::Error::Agreed). Where the leader failed, the others do not run the task at all.
    ///
    /// # Errors
    /// The failure that all ranks agreed on, or a leader that did not finish in time.
    pub fn zero_first<T>(
        &self,
        scope: Scope,
        doing: &str,
        mut task: impl FnMut(Turn) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let mut guarded = |turn| match panics::catch(|| task(turn)) {
            Ok(result) => result,
            Err(panic) => Err(Failure::new(format!("{doing}: {panic}"))),
        };
        let leader = match scope {
            Scope::Node => self.node_leader,
            Scope::World => 0,
        };
        let result = if self.rank() == leader {
            let result = guarded(Turn::First);
            self.tell_followers(scope, doing, result.is_ok())?;
            Some(result)
        } else if self.tell_followers(scope, doing, true)? {
            Some(guarded(Turn::After))
        } else {
            None
        };
        // A follower whose leader failed has nothing of its own to report: the leader reports for both.
        match result {
            Some(result) => self.agree_after(doing, result.map(Some)),
            None => self.agree_after(doing, Ok(None)),
        }
        .map(|value| value.expect("whoever did not run the task got the leader's failure"))
    }

    /// Rank 0 runs `task`, and every rank gets the bytes that it made. Collective. For what only one rank should read:
    /// listing a directory of a million files from a thousand ranks is an attack on the file system.
    ///
    /// # Errors
    /// The failure of rank 0, known to all ranks, or a rank 0 that did not finish in time.
    pub fn from_rank_zero(
        &self,
        doing: &str,
        task: impl FnOnce() -> std::result::Result<Vec<u8>, Failure>,
    ) -> Result<Vec<u8>> {
        let result = if self.rank() == 0 {
            let result = panics::catch(task).unwrap_or_else(|panic| Err(Failure::new(format!("{doing}: {panic}"))));
            self.tell_followers(Scope::World, doing, result.is_ok())?;
            result
        } else {
            self.tell_followers(Scope::World, doing, true)?;
            Ok(Vec::new())
        };
        let mut bytes = self.agree(result)?;
        self.control().broadcast_bytes(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// The leader's word that it has finished, and whether well; the followers wait for it here.
    fn tell_followers(&self, scope: Scope, doing: &str, ok: bool) -> Result<bool> {
        let channel = match scope {
            Scope::Node => &self.node_channel,
            Scope::World => self.control(),
        };
        let what = || doing.to_owned();
        let timeout = WaitLimit::for_work(&what, channel.timeout());
        let mut word = [u8::from(ok)];
        channel.broadcast_within(&mut word, 0, Some(&timeout))?;
        Ok(word[0] == 1)
    }
}
