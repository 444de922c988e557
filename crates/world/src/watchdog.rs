//! Looks after the blocking MPI calls: a thread that sleeps, and wakes up ten times a second while large all-reduces may
//! be under way. All ranks have met before such a call, so it ends soon, unless one of them stops in the middle.

use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use crate::call::Call;
use crate::collective_matching::CollectiveMatching;
use crate::lock::lock;
use crate::stop;
use crate::wait::Stall;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(100);

/// A blocking call under way.
struct Watched {
    id: u64,
    call: Call,
    channel: &'static str,
    since: Instant,
    stall: Stall,
    collective_matching: Arc<Mutex<CollectiveMatching>>,
}

struct Watchdog {
    next_id: u64,
    watched: Vec<Watched>,
}

static WATCHDOG: Mutex<Watchdog> = Mutex::new(Watchdog { next_id: 0, watched: Vec::new() });

/// Ends the watch when the blocking call has returned.
pub(crate) struct Watch(u64);

/// Watches over a blocking call from now on: when it does not return within `timeout`, the job ends, with the name of
/// the rank that stopped.
pub(crate) fn watch(
    call: Call,
    channel: &'static str,
    timeout: Duration,
    collective_matching: &Arc<Mutex<CollectiveMatching>>,
) -> Watch {
    static START: Once = Once::new();
    START.call_once(|| {
        let thread = std::thread::Builder::new().name("watchdog".to_owned());
        thread.spawn(run).expect("a thread can be started");
    });
    let mut watchdog = lock(&WATCHDOG);
    let id = watchdog.next_id;
    watchdog.next_id += 1;
    let (since, stall, collective_matching) = (Instant::now(), Stall::new(timeout), Arc::clone(collective_matching));
    watchdog.watched.push(Watched { id, call, channel, since, stall, collective_matching });
    Watch(id)
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&WATCHDOG).watched.retain(|watched| watched.id != self.0);
    }
}

fn run() {
    loop {
        std::thread::sleep(PERIOD);
        for watched in &mut lock(&WATCHDOG).watched {
            if watched.since.elapsed() < PERIOD {
                continue;
            }
            let (call, channel) = (watched.call, watched.channel);
            let what = || format!("{call} of channel {channel}");
            if let Err(error) = watched.stall.look(&what, &mut lock(&watched.collective_matching)) {
                stop::abort(&error.to_string(), 1);
            }
        }
    }
}
