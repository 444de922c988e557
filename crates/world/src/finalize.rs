//! The orderly end: all ranks are done, and MPI goes.

use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::stop::{self, abort};
use crate::{World, farewell};

/// The longest that the end may take, last letters and MPI_Finalize. It only puts things away: all ranks have met before.
const PATIENCE: Duration = Duration::from_secs(30);

/// Finalizes MPI when the world of all ranks goes; aborts instead where finalizing would wait for a lost rank.
#[derive(Debug)]
pub(crate) struct Finalizer {
    /// Whether this is the world of all ranks.
    pub of_all: bool,
}

impl Drop for Finalizer {
    fn drop(&mut self) {
        if !self.of_all {
            return;
        }
        if stop::is_broken() {
            abort("the job ends because ranks lost each other", 1);
        }
        farewell::wait_for_last_letters();
        mpi::mpi().finalize();
    }
}

impl World {
    /// Meets all ranks once more, finalizes MPI, and gives `exit_code` for `main` to return. Where MPI does not come to an
    /// end (MPICH 4.0 over UCX, in a quarter of the starts on two nodes), the process ends with `exit_code` after 30
    /// seconds, or the time-out if that is shorter. Collective; nothing may be left to do.
    pub fn finalize(self, exit_code: u8) -> ExitCode {
        if let Err(error) = self.control.barrier() {
            abort(&error.to_string(), 1);
        }
        let speaks = self.rank() == 0;
        let timeout = PATIENCE.min(self.config.timeout);
        let (ended, end) = mpsc::channel::<()>();
        let guard = move || {
            if end.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
                if speaks {
                    eprintln!(
                        "warning: all ranks are done, but MPI_Finalize has not ended for {timeout:?}: leaving without it"
                    );
                }
                // At once: destructors would meet the main thread, which is still inside MPI.
                signal_hook::low_level::exit(exit_code.into());
            }
        };
        let thread = thread::Builder::new().name("finalize".to_owned());
        thread.spawn(guard).expect("a thread can be started");
        drop(self);
        drop(ended);
        ExitCode::from(exit_code)
    }
}
