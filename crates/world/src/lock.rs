//! Locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic while a lock is held ends the job before anybody else sees what it left.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
