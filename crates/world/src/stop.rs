//! How a job stops: every way out that is not orderly ends here, with a message that names the rank, and takes all
//! ranks along.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// "rank 1 on n1", for messages of this process.
static LABEL: OnceLock<String> = OnceLock::new();
/// A collective failed on this rank: the ranks are out of step, and MPI_Finalize would wait for ever.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Since when no rank is waited for any longer.
static HURRY: OnceLock<Instant> = OnceLock::new();
/// In a hurry a rank listens for this long to who else is there, before it names those that are not.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How long a launcher has to pass a rank's last words on.
const TO_BE_READ: Duration = Duration::from_millis(100);

/// From here on a panic ends the whole job: unwinding would drop the world, and MPI_Finalize waits for ranks that are
/// themselves waiting for this one.
pub(crate) fn install(rank: usize, host: &str) {
    let _ = LABEL.set(format!("rank {rank} on {host}"));
    panics::hook(|message| abort(message, 1));
}

/// From here on no collective is possible on this rank.
pub(crate) fn mark_broken() {
    mpi::abandon();
    BROKEN.store(true, Ordering::SeqCst);
}

pub(crate) fn is_broken() -> bool {
    BROKEN.load(Ordering::SeqCst)
}

/// From here on every wait for another rank, on any thread of this rank, gives up after a second and names whom it waits
/// for. For a watchdog that has found out that the job stands still.
pub fn give_up_waiting() {
    let _ = HURRY.set(Instant::now()); // whoever was first set the clock
}

/// Whether the timeout of [`give_up_waiting`] has begun to end, and whether it is over.
pub(crate) fn hurry() -> (bool, bool) {
    let since = HURRY.get().map(Instant::elapsed);
    (since.is_some(), since.is_some_and(|since| since > LAST_LOOK))
}

/// Prints `message` with this rank and host, and ends the whole job with `exit_code`. Any thread may call it.
pub fn abort(message: &str, exit_code: i32) -> ! {
    let label = LABEL.get().map_or("before MPI was ready", String::as_str);
    // One write, so that the lines of several ranks do not mix.
    let line = format!("error: {label}: {message}\n");
    let _ = std::io::stderr().write_all(line.as_bytes()); // where stderr is closed there is nobody to tell
    if let Some(mpi) = mpi::opened() {
        // MPICH's launcher ends at once when it hears of it, and leaves unread what is still on its way.
        std::thread::sleep(TO_BE_READ);
        mpi.abort(exit_code);
    }
    std::process::exit(exit_code)
}
