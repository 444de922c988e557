//! Signals set flags that the step loop reads. Nothing else is done when one arrives: a handler that saves a file in the
//! middle of a collective saves a mess.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;

use crate::lock::lock;

/// What somebody wants of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// TERM: the end is near (Slurm's preemption and time limit, `kill`).
    Terminate,
    /// INT: a person pressed Ctrl-C.
    Interrupt,
    /// USR1: the early warning that `#SBATCH --signal=USR1@…` asks for.
    User1,
    /// USR2: free for the user.
    User2,
}

const SIGNALS: [(i32, Signal); 4] =
    [(SIGTERM, Signal::Terminate), (SIGINT, Signal::Interrupt), (SIGUSR1, Signal::User1), (SIGUSR2, Signal::User2)];

/// The flags of this process, once they are set by signals.
static INSTALLED: Mutex<Option<Signals>> = Mutex::new(None);
/// Some signal has arrived, here or at a rank that has said so.
static ASKED_TO_STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// TERM has arrived: whoever launched the job may end it within a second.
static ASKED_TO_END: OnceLock<Arc<AtomicBool>> = OnceLock::new();

pub(crate) fn asked_to_stop() -> bool {
    ASKED_TO_STOP.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Another rank has said that it was asked to stop: counts as USR1 to this one.
pub(crate) fn arrived_elsewhere() {
    ASKED_TO_STOP.get_or_init(Arc::default).store(true, Ordering::Relaxed);
    if let Some(signals) = &*lock(&INSTALLED) {
        let early = signals.flags.iter().filter(|(signal, _)| *signal == Signal::User1);
        early.for_each(|(_, flag)| flag.store(true, Ordering::Relaxed));
    }
}

pub(crate) fn asked_to_end() -> bool {
    ASKED_TO_END.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// The flags of this process.
#[derive(Clone, Debug)]
pub struct Signals {
    flags: Vec<(Signal, Arc<AtomicBool>)>,
}

impl Signals {
    /// From here on TERM, INT, USR1 and USR2 only set flags, also those that [`asked_to_stop`](crate::asked_to_stop) reads.
    /// A second INT ends the process at once, and with it the job. Called again, it gives the same flags.
    ///
    /// # Errors
    /// A signal that the system does not let us catch.
    pub fn install() -> io::Result<Self> {
        let mut installed = lock(&INSTALLED);
        if let Some(signals) = &*installed {
            return Ok(signals.clone());
        }
        let mut flags = Vec::new();
        let any = ASKED_TO_STOP.get_or_init(Arc::default);
        for (number, signal) in SIGNALS {
            let arrived = Arc::new(AtomicBool::new(false));
            if signal == Signal::Interrupt {
                // Registered first, so it sees the flag as the first INT left it.
                flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&arrived))?;
            }
            flag::register(number, Arc::clone(&arrived))?;
            flag::register(number, Arc::clone(any))?;
            if signal == Signal::Terminate {
                let _ = ASKED_TO_END.set(Arc::clone(&arrived)); // nobody else sets it
            }
            flags.push((signal, arrived));
        }
        Ok(installed.insert(Self { flags }).clone())
    }

    /// Whether `signal` has arrived on this rank since the start. Of a rank that waited while this one worked, any has
    /// arrived here as [`Signal::User1`].
    pub fn arrived(&self, signal: Signal) -> bool {
        self.flags.iter().any(|(known, flag)| *known == signal && flag.load(Ordering::Relaxed))
    }
}
