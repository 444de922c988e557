//! MPI's blocking calls from before the ranks can talk: nobody can be asked there who is missing, and MPI itself waits for
//! ever. A thread looks after each, says that it takes long, and ends what never comes.

use std::io::Write;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use mpi::Launcher;

/// Says what it waits for after this time, and again whenever the wait has doubled. Large jobs on cold file systems take
/// this long to come together.
const FIRST_WORD: Duration = Duration::from_secs(30);
/// The least patience: the start of all programs and libraries counts here, which a short time-out was not meant for.
const LEAST_PATIENCE: Duration = Duration::from_secs(30);
/// The first rank speaks for all; the others, where it is the one that is missing.
const LATER: Duration = Duration::from_secs(2);

/// Runs `call`, which waits for all ranks, under the eyes of a thread: where it has not returned after `timeout` the
/// process ends, and with it the job. `name` says what is called: "MPI_Init".
pub(crate) fn attended<T>(name: &'static str, timeout: Duration, call: impl FnOnce() -> T) -> T {
    let speaks = Launcher::speaks(); // looks at the environment, which MPI_Init may change
    let task = Launcher::detect().map_or(0, |launcher| launcher.task);
    // One after the other, so that the first ends the job before the others speak.
    let later = LATER * u32::from(!speaks) + Duration::from_millis(50) * task.min(200) as u32;
    let patience = timeout.max(LEAST_PATIENCE) + later;
    let (ended, end): (Sender<()>, _) = mpsc::channel();
    let attend = move || {
        if let Some(waited) = has_waited(name, &end, patience, speaks) {
            say(&format!("error: {}", lost(name, waited)));
            // At once: destructors would meet the main thread, which is inside MPI.
            signal_hook::low_level::exit(1);
        }
    };
    let thread = std::thread::Builder::new().name("attendant".to_owned()).spawn(attend);
    let thread = thread.expect("a thread can be started");
    let result = call();
    drop(ended);
    let _ = thread.join(); // at once: it hears that the call has ended
    result
}

/// Waits for the end of the call; how long it has waited where that does not come.
fn has_waited(name: &str, end: &Receiver<()>, patience: Duration, speaks: bool) -> Option<Duration> {
    let start = Instant::now();
    let mut next_word = FIRST_WORD;
    loop {
        let next = next_word.min(patience).saturating_sub(start.elapsed());
        if end.recv_timeout(next) == Err(RecvTimeoutError::Disconnected) {
            return None;
        }
        let waited = start.elapsed();
        if waited >= patience {
            return Some(waited);
        }
        if waited >= next_word {
            if speaks {
                say(&format!("warning: waiting for all ranks to come ({name}, {} s so far)", waited.as_secs()));
            }
            next_word *= 2;
        }
    }
}

/// Not by the logger, whose clock may look at the environment while MPI_Init changes it.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}"); // where stderr is closed there is nobody to tell
}

fn lost(name: &str, waited: Duration) -> String {
    format!(
        "{name} has waited {} s for the other ranks: one of them has not started, or is not reached over the network; \
         `hostname` in the place of the program shows which nodes start, and OMPI_MCA_btl_tcp_if_include (Open MPI) or \
         FI_TCP_IFACE (MPICH) names the network interface that they reach each other by",
        waited.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_returns_is_left_alone_and_one_that_does_not_is_known() {
        assert_eq!(attended("MPI_Init", Duration::ZERO, || 7), 7);
        let (ended, end) = mpsc::channel();
        let waited = has_waited("MPI_Init", &end, Duration::from_millis(20), true).unwrap();
        assert!(waited >= Duration::from_millis(20));
        drop(ended);
        assert_eq!(has_waited("MPI_Init", &end, Duration::from_secs(60), true), None);
        assert!(lost("MPI_Init", waited).starts_with("MPI_Init has waited 0 s for the other ranks: "));
    }
}
