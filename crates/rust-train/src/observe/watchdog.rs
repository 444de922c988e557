//! `--watchdog`: when no step ends for long, every rank says what it is doing, those that are missing are named, and the
//! job ends.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::observe::activity::Activity;

/// After the last word of this rank the others have so long for theirs, and for finding out who is missing.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// Watches over this rank until it is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches whether `activity` comes further at least every `timeout`.
    pub(crate) fn start(activity: &Arc<Activity>, timeout: Duration) -> Self {
        let (end, ended) = mpsc::channel();
        let activity = Arc::clone(activity);
        let thread = std::thread::Builder::new().name("step-watchdog".to_owned()).spawn(move || {
            let period = (timeout / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
            let mut last = (activity.beats(), Instant::now());
            let mut look = Instant::now();
            while ended.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                // A job that was suspended (scontrol suspend) has not stood still.
                let slept = look.elapsed();
                look = Instant::now();
                if activity.beats() != last.0 || slept > period * 2 + Duration::from_secs(2) {
                    last = (activity.beats(), Instant::now());
                } else if last.1.elapsed() >= timeout {
                    return report(&activity, timeout, &ended);
                }
            }
        });
        Self { end: Some(end), thread: Some(thread.expect("a thread can be started")) }
    }
}

/// Says what this rank does, and ends the job: whoever waits for another rank names it, and the run ends with that; where
/// nobody waits, this ends it.
fn report(activity: &Activity, timeout: Duration, ended: &Receiver<()>) {
    let stood = format!("no step has ended for {:.0} s", timeout.as_secs_f64());
    log::error!("{stood}; this rank is in {}", activity.describe());
    world::give_up_waiting();
    if ended.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
        world::abort(&format!("{stood}: in {}", activity.describe()), 1)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic has ended the job
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_comes_further_is_left_alone() {
        let activity = Arc::new(Activity::default());
        let watchdog = Watchdog::start(&activity, Duration::from_millis(200));
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(50));
            activity.beat();
        }
        drop(watchdog); // it would have ended the process
    }
}
