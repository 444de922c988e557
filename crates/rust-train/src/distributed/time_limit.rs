//! `--time-limit`: the end of the wall-clock budget, seen in time to save.

use std::time::{Duration, Instant, SystemTime};

use crate::errors::usage;

/// What is left over at the end, beside what another step and saving will take.
const MARGIN: Duration = Duration::from_secs(10);
/// The shortest limit that is any use.
const LEAST: Duration = Duration::from_secs(12);

/// When the run must have saved. Rank 0's clock counts: the others have none.
#[derive(Clone, Debug)]
pub(crate) struct TimeLimit {
    start: Option<Instant>,
    end: Option<Instant>,
    longest_step: Duration,
    longest_save: Duration,
}

impl TimeLimit {
    /// No limit.
    pub(crate) const NONE: Self =
        Self { start: None, end: None, longest_step: Duration::ZERO, longest_save: Duration::ZERO };

    /// From `start` on, as long as the flag says; without a flag until Slurm ends the job (`SLURM_JOB_END_TIME`, seconds
    /// since 1970), where it says when that will be.
    ///
    /// # Errors
    /// A flag that leaves no time for anything.
    pub(crate) fn new(start: Instant, flag: Option<Duration>) -> anyhow::Result<Self> {
        if let Some(limit) = flag.filter(|&limit| limit < LEAST) {
            return Err(usage(format!(
                "--time-limit {}s: {} s of it are kept for saving, so give at least {}s",
                limit.as_secs(),
                MARGIN.as_secs(),
                LEAST.as_secs()
            )));
        }
        let end = match flag {
            Some(limit) => start.checked_add(limit),
            None => slurm_end(std::env::var("SLURM_JOB_END_TIME").ok().as_deref(), SystemTime::now(), Instant::now()),
        };
        Ok(Self { start: Some(start), end, ..Self::NONE })
    }

    /// Seconds that would have sufficed for what was done and `rest`, where there is a limit; what was measured is little,
    /// so it is doubled.
    pub(crate) fn needed(&self, now: Instant, rest: Duration) -> Option<u64> {
        let gone = now.saturating_duration_since(self.start.filter(|_| self.end.is_some())?);
        Some((gone * 2 + rest * 2 + self.kept()).as_secs() + 1)
    }

    /// What is kept for the step under way and for saving.
    fn kept(&self) -> Duration {
        self.longest_step * 2 + self.longest_save * 2 + MARGIN
    }

    pub(crate) fn note_step(&mut self, took: Duration) {
        self.longest_step = self.longest_step.max(took);
    }

    pub(crate) fn note_save(&mut self, took: Duration) {
        self.longest_save = self.longest_save.max(took);
    }

    /// Whether there is no time for another step and for saving.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now + self.kept() >= end)
    }

    /// What is left, if there is a limit.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        Some(self.end?.saturating_duration_since(now))
    }
}

/// An end that has passed is another job's: left over in a shell, or in a container.
fn slurm_end(seconds: Option<&str>, now: SystemTime, here: Instant) -> Option<Instant> {
    let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds?.parse().ok()?))?;
    match end.duration_since(now) {
        Ok(left) => here.checked_add(left),
        Err(ago) => {
            log::warn!(
                "SLURM_JOB_END_TIME is {} s ago: it is not this job's, and is ignored; --time-limit sets a limit",
                ago.duration().as_secs()
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_in_time_for_a_step_and_for_saving() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut limit = TimeLimit { start: Some(start), end: Some(at(100)), ..TimeLimit::NONE };
        assert!(!limit.is_over(at(89)) && limit.is_over(at(90)));
        limit.note_step(Duration::from_secs(5));
        limit.note_save(Duration::from_secs(20));
        assert!(!limit.is_over(at(39)) && limit.is_over(at(40)));
        assert_eq!(limit.needed(at(3), Duration::from_secs(7)), Some(2 * 10 + 2 * 25 + 10 + 1));
        assert!(!TimeLimit::NONE.is_over(at(1_000_000)));
        assert_eq!(TimeLimit::NONE.needed(at(3), Duration::ZERO), None);
    }

    #[test]
    fn a_limit_for_nothing_is_refused() {
        let refused = TimeLimit::new(Instant::now(), Some(Duration::from_secs(8))).unwrap_err().to_string();
        assert_eq!(refused, "--time-limit 8s: 10 s of it are kept for saving, so give at least 12s");
    }

    #[test]
    fn slurm_says_when_the_job_ends() {
        let (now, here) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1000), Instant::now());
        assert_eq!(slurm_end(Some("1060"), now, here), Some(here + Duration::from_secs(60)));
        assert_eq!(slurm_end(Some("900"), now, here), None, "it is over, and we are not");
        assert_eq!(slurm_end(Some("18446744073709551615"), now, here), None);
        assert_eq!((slurm_end(Some("soon"), now, here), slurm_end(None, now, here)), (None, None));
    }
}
