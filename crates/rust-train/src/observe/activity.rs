//! What this rank is doing now, on the thread that trains and on the one that carries gradients.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// One of a rank's two threads that matter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Row {
    /// The thread that trains.
    Main,
    /// The thread that carries gradients.
    Communication,
}

/// A piece of work: "forward", "all-reduce 7".
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Doing {
    what: &'static str,
    number: Option<usize>,
}

impl Doing {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, number: None }
    }

    pub(crate) fn number(self, number: usize) -> Self {
        Self { number: Some(number), ..self }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            None => f.write_str(self.what),
            Some(number) => write!(f, "{} {number}", self.what),
        }
    }
}

/// What a thread is doing, and since when.
type Now = Option<(Doing, Instant)>;

/// What this rank is doing now.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// By [`Row`].
    rows: [Mutex<Now>; 2],
    beats: AtomicU64,
    /// The step that is being made.
    step: AtomicU64,
}

impl Activity {
    /// Notes what a thread begins to do; it has ended when the result is dropped.
    pub(crate) fn begin(&self, row: Row, doing: Doing) -> Begun<'_> {
        let row = &self.rows[row as usize];
        *row.lock().unwrap_or_else(PoisonError::into_inner) = Some((doing, Instant::now()));
        Begun(row)
    }

    /// The run has come a piece further: the watchdog's clock starts anew.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the run has come a piece further.
    pub(crate) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Notes which step is being made.
    pub(crate) fn enter_step(&self, step: usize) {
        self.step.store(step as u64, Ordering::Relaxed);
    }

    /// What this rank is doing, as one line: "step 12: backward for 3.1 s, its gradients in all-reduce 96 for 3.0 s".
    pub(crate) fn describe(&self) -> String {
        let [main, communication] = [Row::Main, Row::Communication].map(|row| {
            let now = *self.rows[row as usize].lock().unwrap_or_else(PoisonError::into_inner);
            now.map(|(doing, since)| format!("{doing} for {}", seconds(since.elapsed())))
        });
        let step = self.step.load(Ordering::Relaxed);
        let main = main.unwrap_or_else(|| "between two pieces of work".to_owned());
        let gradients = communication.map_or(String::new(), |doing| format!(", its gradients in {doing}"));
        format!("step {step}: {main}{gradients}")
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Something that has begun.
pub(crate) struct Begun<'a>(&'a Mutex<Now>);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_both_threads_do() {
        let activity = Activity::default();
        activity.enter_step(12);
        assert_eq!(activity.describe(), "step 12: between two pieces of work");
        let backward = activity.begin(Row::Main, Doing::new("backward"));
        let all_reduce = activity.begin(Row::Communication, Doing::new("all-reduce").number(96));
        let text = activity.describe();
        assert_eq!(text, "step 12: backward for 0.0 s, its gradients in all-reduce 96 for 0.0 s");
        drop(all_reduce);
        assert_eq!(activity.describe(), "step 12: backward for 0.0 s");
        drop(backward);
    }
}
