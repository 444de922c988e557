//! Waiting for other ranks: politely (a waiting rank must not burn the core that another needs), audibly, and not for
//! ever.
#![expect(unsafe_code, reason = "asks whether a request is done")]

use std::time::{Duration, Instant};

use mpi::{Handle, mpi};

use crate::collective_matching::CollectiveMatching;
use crate::error::{Error, Result};
use crate::mpi_error::check;
use crate::{progress, signals, stop};

/// What is being waited for, and how.
pub(crate) struct WaitLimit<'a> {
    /// The collective or the task: "all-reduce (sum of 10 f32)", "building the dataset cache".
    pub what: &'a dyn Fn() -> String,
    /// Gives up after this time without a word of those that are waited for.
    pub timeout: Duration,
    /// The longest back_off between two looks. Short where a bucket of gradients is on its way, long where a download is.
    pub longest_back_off: Duration,
}

impl<'a> WaitLimit<'a> {
    /// The longest back_off of a rank that waits for another's work: long enough to cost nothing, short against the work.
    const WORK_NAP: Duration = Duration::from_millis(20);

    /// For what a rank does while the others wait.
    pub(crate) fn for_work(what: &'a dyn Fn() -> String, timeout: Duration) -> Self {
        Self { what, timeout, longest_back_off: Self::WORK_NAP }
    }
}

/// Looks this often without a pause: most small messages arrive in this time.
const EAGER_LOOKS: u32 = 200;
/// Then gives the core away between looks, for this long.
const YIELDING: Duration = Duration::from_micros(200);

/// How a wait for other ranks is taken, as it grows: the roll is called, something is said, it ends. What makes progress
/// is left alone: the time-out counts from the last word of a rank that is waited for.
pub(crate) struct Stall {
    start: Instant,
    /// The last sign of life.
    heard: Instant,
    timeout: Duration,
    next_word: Duration,
    /// When this rank first saw that a signal asks for the end.
    asked_to_end: Option<Instant>,
    said_last_word: bool,
}

impl Stall {
    /// Says what it waits for after this time, and again whenever the wait has doubled.
    const FIRST_WORD: Duration = Duration::from_secs(10);
    /// After its time-out a rank still listens for this long to those that came later than itself.
    const GRACE: Duration = Duration::from_millis(200);
    /// A launcher that ends a job because one rank is gone sends TERM, and KILL a second later: what this rank knows
    /// must be out before.
    const LAST_WORD: Duration = Duration::from_millis(300);
    /// A rank that has spoken within this time is not the one that is gone.
    const ALIVE: Duration = Duration::from_secs(3);

    pub(crate) fn new(timeout: Duration) -> Self {
        let (start, next_word) = (Instant::now(), Self::FIRST_WORD);
        Self { start, heard: start, timeout, next_word, asked_to_end: None, said_last_word: false }
    }

    /// One look at the clock, between two looks at the request.
    ///
    /// # Errors
    /// The time is over: who is missing.
    pub(crate) fn look(
        &mut self,
        what: &dyn Fn() -> String,
        collective_matching: &mut CollectiveMatching,
    ) -> Result<()> {
        let waited = self.start.elapsed();
        let (hurried, is_over) = stop::hurry();
        let asked_to_end = signals::asked_to_end();
        if progress::asked_to_stop() {
            collective_matching.say_stop();
        }
        if hurried || asked_to_end || waited >= self.timeout.min(Self::FIRST_WORD) / 2 {
            collective_matching.gossip();
        } else {
            collective_matching.listen_while_waiting();
        }
        // A word that was heard before this wait began is of earlier work.
        let is_news = collective_matching.heard().is_some_and(|heard| heard > self.start);
        self.heard = self.heard.max(collective_matching.heard().unwrap_or(self.start));
        let silent = self.heard.elapsed();
        let last_word = || collective_matching.last_word().filter(|_| is_news);
        let whom = || match collective_matching.missing() {
            none if none.is_empty() => "data: all ranks have come, and one of them has stopped".to_owned(),
            missing => missing,
        };
        if silent >= self.timeout + Self::GRACE || is_over {
            stop::mark_broken();
            let last_word = last_word().map_or(String::new(), |word| format!(", last heard of at {word}"));
            let whom = whom() + &last_word;
            return Err(Error::TimedOut { what: what(), whom, waited: silent.min(self.timeout) });
        }
        if waited >= self.next_word {
            let last_word = last_word().map_or(String::new(), |word| format!(": {word}"));
            log::warn!("waiting for {} ({}{last_word}, {} s so far)", whom(), what(), waited.as_secs());
            self.next_word *= 2;
        }
        if asked_to_end {
            let since = *self.asked_to_end.get_or_insert_with(Instant::now);
            // Who speaks is there, and will stop by itself.
            let is_alive = is_news && silent < Self::ALIVE.min(self.timeout);
            if since.elapsed() >= Self::LAST_WORD && !self.said_last_word && !is_alive {
                log::error!("asked to end while waiting in {} for {}", what(), whom());
                self.said_last_word = true;
            }
        }
        Ok(())
    }
}

/// Waits until `request` is done.
///
/// After an error the request is still active: MPI may yet write into its buffer, and no collective works any more on
/// this rank. The job must end; [`stop::is_broken`] sees to it.
pub(crate) fn wait(
    request: &mut Handle,
    call: &'static str,
    limit: &WaitLimit<'_>,
    collective_matching: &mut CollectiveMatching,
) -> Result<()> {
    let mut stall: Option<Stall> = None;
    let mut back_off = Duration::from_micros(20);
    let mut looks = 0u32;
    loop {
        let mut done = 0;
        // SAFETY: the request came from a non-blocking MPI call and has not completed.
        let code = unsafe { mpi().test(request, &mut done) };
        check(call, code)?;
        if done != 0 {
            return Ok(());
        }
        looks += 1;
        if looks < EAGER_LOOKS {
            std::hint::spin_loop();
            continue;
        }
        let stall = stall.get_or_insert_with(|| Stall::new(limit.timeout));
        if stall.start.elapsed() < YIELDING {
            std::thread::yield_now();
            continue;
        }
        stall.look(limit.what, collective_matching)?;
        std::thread::sleep(back_off);
        back_off = (back_off * 2).min(limit.longest_back_off);
    }
}
