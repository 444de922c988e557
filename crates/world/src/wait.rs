//! Waiting for other ranks: politely (a waiting rank must not burn the core that another needs), audibly, and not for
//! ever.
#![expect(unsafe_code, reason = "MPI_Test")]

use std::time::{Duration, Instant};

use mpi::ffi;

use crate::channel::check;
use crate::error::{Error, Result};
use crate::stop;

/// What is being waited for, and how.
pub(crate) struct Patience<'a> {
    /// The collective or the task: "all-reduce", "building the dataset cache".
    pub what: &'a str,
    /// Who has not come yet: "rank 0 on n1".
    pub whom: &'a dyn Fn() -> String,
    /// Gives up after this.
    pub timeout: Duration,
    /// The longest nap between two looks. Short where a bucket of gradients is on its way, long where a download is.
    pub longest_nap: Duration,
}

/// Looks this often without a pause: most small messages arrive in this time.
const EAGER_LOOKS: u32 = 200;
/// Then gives the core away between looks, for this long.
const YIELDING: Duration = Duration::from_micros(200);
/// Says what it waits for after this time, and again whenever the wait has doubled.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// Waits until `request` is done.
///
/// After an error the request is still active: MPI may yet write into its buffer, and no collective works any more on
/// this rank. The job must end; [`stop::is_broken`] sees to it.
pub(crate) fn wait(request: &mut ffi::MPI_Request, call: &'static str, patience: &Patience<'_>) -> Result<()> {
    let mut start = None;
    let mut next_word = FIRST_WORD;
    let mut nap = Duration::from_micros(20);
    let mut looks = 0u32;
    loop {
        let mut done = 0;
        // SAFETY: the request came from a non-blocking MPI call and has not completed.
        let code = unsafe { ffi::MPI_Test(request, &mut done, ffi::RSMPI_STATUS_IGNORE) };
        check(call, code)?;
        if done != 0 {
            return Ok(());
        }
        looks += 1;
        if looks < EAGER_LOOKS {
            std::hint::spin_loop();
            continue;
        }
        let start = *start.get_or_insert_with(Instant::now);
        let waited = start.elapsed();
        if waited < YIELDING {
            std::thread::yield_now();
            continue;
        }
        if waited >= patience.timeout {
            stop::mark_broken();
            return Err(Error::TimedOut { what: patience.what.to_owned(), whom: (patience.whom)(), waited });
        }
        if waited >= next_word {
            log::warn!("waiting for {} ({}, {} s so far)", (patience.whom)(), patience.what, waited.as_secs());
            next_word *= 2;
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(patience.longest_nap);
    }
}
