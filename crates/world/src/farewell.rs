//! The last letters. No rank may finalize MPI while others write to it, or while what it wrote may still be unread: MPICH
//! does not meet in MPI_Finalize over TCP, the connection of whoever is gone is reset, and that ends the ranks that still
//! use it, or leaves them waiting for ever. A barrier does not do, because a rank that waits in it may write.
//!
//! So every rank tells its neighbours in every channel that no more will come from it, and goes when all have told it
//! the same. Letters of one rank come in the order they were written in: with the last one all have come.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::collective_matching::CollectiveMatching;
use crate::lock::lock;

/// Of the channels that are gone. Their ranks may still have letters for this one.
static RETIRED: Mutex<Vec<Arc<Mutex<CollectiveMatching>>>> = Mutex::new(Vec::new());

const BETWEEN_LOOKS: Duration = Duration::from_micros(500);

/// Keeps the letters of a channel that is used no more until the last ones.
pub(crate) fn retire(collective_matching: &Arc<Mutex<CollectiveMatching>>) {
    lock(&RETIRED).push(Arc::clone(collective_matching));
}

/// Returns when no rank will write to this one any more, and what this one wrote has been taken. Collective, for the end: all
/// channels are gone.
pub(crate) fn wait_for_last_letters() {
    let channels = std::mem::take(&mut *lock(&RETIRED));
    channels.iter().for_each(|channel| lock(channel).write_last_letters());
    while !channels.iter().all(|channel| lock(channel).is_done_with_letters()) {
        std::thread::sleep(BETWEEN_LOOKS);
    }
}
