//! Patience with servers and with other processes.

use std::time::Duration;

/// How long to wait for what, and how often to try.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How often a transfer is tried.
    pub attempts: usize,
    /// The pause after the first attempt; later ones double.
    pub first_pause: Duration,
    /// The longest pause between attempts.
    pub longest_pause: Duration,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest time in which no byte arrives.
    pub stall_timeout: Duration,
    /// The longest wait for another process that fetches the same file.
    pub lock_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(1800),
        }
    }
}
