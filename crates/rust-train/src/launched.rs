//! Before MPI is up: what the launcher of a Python package (crate installation) has set for this program alone; and what MPI
//! would crash by.
#![expect(unsafe_code, reason = "sets environment variables")]

use installation::{mixed_mpis, shared_memory};
use mpi::Choice;

/// What `LD_LIBRARY_PATH` was before.
const SAVED: &str = "RUST_TRAIN_LD_LIBRARY_PATH";

/// Gives `LD_LIBRARY_PATH` back what it was: the loader has found libtorch, and what this program starts in turn, and looks for
/// in it, is the user's. To be called before there are threads.
pub(crate) fn restore_library_path() {
    let Some(saved) = std::env::var_os(SAVED) else { return };
    // SAFETY: no other thread runs yet.
    unsafe {
        std::env::remove_var(SAVED);
        if saved.is_empty() {
            std::env::remove_var("LD_LIBRARY_PATH");
        } else {
            std::env::set_var("LD_LIBRARY_PATH", saved);
        }
    }
}

/// What is to be said of MPI before it is up, in the words of `rust-train doctor`, by the rank that `speaks` for all.
///
/// # Errors
/// What it cannot do without: a library, shared memory.
pub(crate) fn look_at_machine(choice: Option<&Choice>, speaks: bool) -> Result<Option<String>, String> {
    let mpi = mpi::open(choice).map_err(|none| none.to_string())?;
    let ranks = mpi::local_tasks(|name| std::env::var(name).ok()).unwrap_or(1);
    match shared_memory(mpi.found().abi, &mpi.version(), ranks) {
        Some(memory) if memory.is_too_small() && memory.is_vital => Err(memory.to_string()),
        _ if !speaks => Ok(None),
        Some(memory) if memory.is_too_small() => Ok(Some(memory.to_string())),
        _ => Ok(mixed_mpis(&mpi::find(choice).fitting)),
    }
}
