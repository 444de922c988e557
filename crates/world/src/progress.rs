//! The word of a rank that works while others wait: they count their time-out from it. It is said by whoever does the work,
//! on whatever thread; what stops saying it is what stands still.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use crate::collective_matching::CollectiveMatching;
use crate::lock::lock;
use crate::signals;

/// The channels of this process on which somebody may wait for it.
static CHANNELS: Mutex<Vec<Arc<Mutex<CollectiveMatching>>>> = Mutex::new(Vec::new());
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// When the next word is due, and the next look for those of others, in milliseconds since `START`.
static NEXT_WORD: AtomicU64 = AtomicU64::new(0);
static NEXT_LOOK: AtomicU64 = AtomicU64::new(0);
/// The longest time between two words, in milliseconds.
static PERIOD: AtomicU64 = AtomicU64::new(LONGEST_PERIOD);
const LONGEST_PERIOD: u64 = 1000;

/// From here on `collective_matching` is told what this rank [`report`]s. Words come several times in a `timeout`.
pub(crate) fn listen(collective_matching: &Arc<Mutex<CollectiveMatching>>, timeout: Duration) {
    let period = (timeout.as_millis() as u64 / 10).clamp(10, LONGEST_PERIOD);
    PERIOD.fetch_min(period, Ordering::Relaxed);
    let mut channels = lock(&CHANNELS);
    channels.push(Arc::clone(collective_matching));
}

/// Nobody waits for this rank there any more.
pub(crate) fn forget(collective_matching: &Arc<Mutex<CollectiveMatching>>) {
    lock(&CHANNELS).retain(|channel| !Arc::ptr_eq(channel, collective_matching));
}

/// The time between two words.
pub(crate) fn period() -> Duration {
    Duration::from_millis(PERIOD.load(Ordering::Relaxed))
}

/// Says that this rank's work gets on: `done` of `total` (0 where nobody knows) `unit`s, "images" say. Ranks that wait for
/// this one, in [`zero_first`](crate::World::zero_first), [`from_rank_zero`](crate::World::from_rank_zero),
/// [`agree`](crate::World::agree) or any other collective, count their time-out from it.
///
/// Cheap: to be called for each small piece of work, from any thread; it travels about once a second. To be called only
/// where something got done: a rank that stands still must not speak.
///
/// Gives [`ControlFlow::Break`] where the work should stop, because this rank or one that waits was asked to.
pub fn report(done: u64, total: u64, unit: &str) -> ControlFlow<()> {
    if is_due(&NEXT_WORD) {
        on_each_channel(|collective_matching| collective_matching.say(done, total, unit));
    }
    if asked_to_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Whether a period has passed; then the next begins.
fn is_due(next: &AtomicU64) -> bool {
    let now = START.elapsed().as_millis() as u64;
    let due = next.load(Ordering::Relaxed);
    let then = now + period().as_millis() as u64;
    now >= due && next.compare_exchange(due, then, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

fn on_each_channel(mut act: impl FnMut(&mut CollectiveMatching)) {
    let channels = lock(&CHANNELS).clone();
    for channel in channels {
        // Where this rank is in a collective, nobody waits for its work, and that listens itself.
        if let Ok(mut collective_matching) = channel.try_lock()
            && !collective_matching.has_left()
        {
            act(&mut collective_matching);
        }
    }
}

/// Whether somebody has asked this rank to stop, by TERM, INT, USR1 or USR2, or another rank that has said so while it
/// waited. Cheap, for long work on any thread; where the ranks decide together they agree on it themselves.
pub fn asked_to_stop() -> bool {
    if is_due(&NEXT_LOOK) {
        on_each_channel(CollectiveMatching::listen);
    }
    signals::asked_to_stop()
}
