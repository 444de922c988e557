//! The batches of one pass, in order, from producers that work ahead.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Batch;
use crate::Result;

/// Threads that each make every second batch. Most of the work is done by the pool.
const PRODUCERS: usize = 2;
/// Batches that a producer makes ahead: one in the channel, one in its hands.
const AHEAD: usize = 1;

/// The batches of one pass over the data.
#[derive(Debug)]
pub struct Batches {
    /// One of each producer, in turn.
    receivers: Vec<Receiver<Result<Batch>>>,
    producers: Vec<JoinHandle<()>>,
    next: usize,
    waited: Duration,
}

impl Batches {
    pub(super) fn start(steps: Range<usize>, make: Arc<dyn Fn(usize) -> Result<Batch> + Send + Sync>) -> Self {
        let (receivers, producers) = (0..PRODUCERS)
            .map(|producer| {
                let (sender, receiver) = sync_channel(AHEAD);
                let steps = steps.clone().skip(producer).step_by(PRODUCERS);
                let make = Arc::clone(&make);
                let thread = std::thread::Builder::new()
                    .name(format!("producer-{producer}"))
                    .spawn(move || produce(steps, &*make, &sender))
                    .expect("a thread can be started");
                (receiver, thread)
            })
            .unzip();
        Self { receivers, producers, next: 0, waited: Duration::ZERO }
    }

    /// How long the trainer has waited for data in this pass.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Ends the producers, each at its next batch.
    fn stop(&mut self) -> std::thread::Result<()> {
        self.receivers.clear();
        self.producers.drain(..).try_for_each(JoinHandle::join)
    }
}

fn produce(
    steps: impl Iterator<Item = usize>,
    make: &dyn Fn(usize) -> Result<Batch>,
    sender: &SyncSender<Result<Batch>>,
) {
    for step in steps {
        let batch = make(step);
        let is_last = batch.is_err();
        if sender.send(batch).is_err() || is_last {
            return; // nobody wants the rest
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = Instant::now();
        let receiver = self.receivers.get(self.next % PRODUCERS)?;
        let batch = receiver.recv().ok();
        self.waited += start.elapsed();
        self.next += 1;
        if !matches!(batch, Some(Ok(_))) {
            // A producer that panicked must not look like the end of the data.
            self.stop().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        batch
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        let _ = self.stop(); // a panic was reported by the hook; nobody waits for its batches any more
    }
}
