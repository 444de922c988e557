//! Batches, made ahead of the trainer by threads of their own.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use layout::Shard;
use rayon::prelude::*;

use crate::ImageSet;
use crate::augment::Augmentation;
use crate::order::{Stream, permutation, stream};

/// Pictures and labels in host memory.
#[derive(Debug)]
pub struct Batch {
    /// N×`side`×`side`×3 bytes, RGB.
    pub pixels: Vec<u8>,
    /// N labels.
    pub labels: Vec<i64>,
    /// Height and width of every picture, in pixels.
    pub side: usize,
}

impl Batch {
    /// The number of pictures, N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// How batches are made.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Pictures per batch over all ranks.
    pub global_batch: usize,
    /// Height and width of the pictures in a batch, in pixels.
    pub side: usize,
    /// What happens to training pictures.
    pub augmentation: Augmentation,
    /// The order and the augmentation follow from it.
    pub seed: u64,
    /// Threads that make batches.
    pub threads: usize,
}

/// Batches made ahead of the trainer.
const BATCHES_AHEAD: usize = 3;

/// Makes this rank's part of every batch of an [`ImageSet`].
///
/// The order of samples follows from seed and epoch, and what happens to a sample from seed, epoch and sample: neither
/// depends on the number of ranks or threads.
#[derive(Debug)]
pub struct Loader {
    images: Arc<ImageSet>,
    shard: Shard,
    config: LoaderConfig,
    pool: Arc<rayon::ThreadPool>,
}

impl Loader {
    /// A loader of this rank's `shard` of `images`.
    ///
    /// # Panics
    /// If no thread can be started.
    pub fn new(images: Arc<ImageSet>, shard: Shard, config: LoaderConfig) -> Self {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.threads)
            .thread_name(|index| format!("loader-{index}"))
            .build()
            .expect("threads can be started");
        Self { images, shard, config, pool: Arc::new(pool) }
    }

    /// Whole batches in an epoch: the samples left over wait for the next epoch's order.
    pub fn steps_per_epoch(&self) -> usize {
        self.images.len() / self.config.global_batch
    }

    /// This rank's part of the training batches of `epoch`, shuffled and augmented, from batch `first_step` on.
    pub fn train(&self, epoch: u64, first_step: usize) -> Batches {
        let LoaderConfig { global_batch, seed, .. } = self.config;
        let order = permutation(self.images.len(), seed, epoch);
        let shard = self.shard;
        let parts = (first_step..self.steps_per_epoch())
            .map(move |step| shard.of(step * global_batch..(step + 1) * global_batch));
        let augmentation = self.config.augmentation;
        self.start(parts, move |position| order[position] as usize, augmentation, epoch)
    }

    /// This rank's part of all samples, each once over all ranks, in their own order and unchanged.
    pub fn evaluate(&self) -> Batches {
        let part = self.shard.of(0..self.images.len());
        let size = self.config.global_batch.div_ceil(self.shard.ranks());
        let parts = part.clone().step_by(size).map(move |start| start..(start + size).min(part.end));
        self.start(parts, |position| position, Augmentation::NONE, 0)
    }

    fn start(
        &self,
        parts: impl Iterator<Item = Range<usize>> + Send + 'static,
        sample_at: impl Fn(usize) -> usize + Send + Sync + 'static,
        augmentation: Augmentation,
        epoch: u64,
    ) -> Batches {
        let (sender, receiver) = sync_channel(BATCHES_AHEAD);
        let (images, pool, config) = (Arc::clone(&self.images), Arc::clone(&self.pool), self.config.clone());
        let make = move |part: Range<usize>| {
            let samples: Vec<_> = part.map(&sample_at).collect();
            let bytes = config.side * config.side * 3;
            let mut pixels = vec![0; samples.len() * bytes];
            pool.install(|| {
                pixels.par_chunks_mut(bytes).zip(&samples).for_each(|(out, &sample)| {
                    let mut random = stream(Stream::Augmentation, config.seed, epoch, sample as u64);
                    augmentation.apply(images.picture(sample), images.side(), out, config.side, &mut random);
                });
            });
            let labels = samples.iter().map(|&sample| images.labels()[sample]).collect();
            Batch { pixels, labels, side: config.side }
        };
        let thread = std::thread::Builder::new()
            .name("loader".to_owned())
            .spawn(move || produce(parts, make, &sender))
            .expect("a thread can be started");
        Batches { receiver: Some(receiver), thread: Some(thread), waited: Duration::ZERO }
    }
}

fn produce(
    parts: impl Iterator<Item = Range<usize>>,
    make: impl Fn(Range<usize>) -> Batch,
    sender: &SyncSender<Batch>,
) {
    for part in parts {
        if sender.send(make(part)).is_err() {
            return; // nobody wants the rest
        }
    }
}

/// The batches of one pass over the data.
#[derive(Debug)]
pub struct Batches {
    receiver: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
    waited: Duration,
}

impl Batches {
    /// How long the trainer has waited for data in this pass.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let start = Instant::now();
        let batch = self.receiver.as_ref()?.recv().ok();
        self.waited += start.elapsed();
        if batch.is_none() {
            self.receiver = None;
            if let Some(thread) = self.thread.take() {
                // A loader that panicked must not look like the end of the data.
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        }
        batch
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        drop(self.receiver.take()); // the thread ends at its next batch
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was reported by the hook; nobody waits for its batches any more
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Crop;

    /// Twenty pictures of 4×4 pixels, each filled with its own number.
    fn images() -> Arc<ImageSet> {
        let pixels = (0..20u8).flat_map(|number| [number + 1; 48]).collect();
        Arc::new(ImageSet::from_memory(pixels, (0..20).collect(), 4))
    }

    fn loader(rank: usize, ranks: usize, threads: usize) -> Loader {
        let augmentation = Augmentation { crop: Crop::Padded { padding: 2 }, flip: true };
        let config = LoaderConfig { global_batch: 6, side: 4, augmentation, seed: 7, threads };
        Loader::new(images(), Shard::new(rank, ranks), config)
    }

    /// The batches of all ranks, put together again.
    fn global_batches(ranks: usize, threads: usize, epoch: u64) -> Vec<(Vec<u8>, Vec<i64>)> {
        let mut global = vec![(Vec::new(), Vec::new()); 3];
        for rank in 0..ranks {
            for (step, batch) in loader(rank, ranks, threads).train(epoch, 0).enumerate() {
                global[step].0.extend(batch.pixels);
                global[step].1.extend(batch.labels);
            }
        }
        global
    }

    #[test]
    fn batches_do_not_depend_on_ranks_or_threads() {
        let alone = global_batches(1, 1, 5);
        assert_eq!(alone.len(), 3);
        for (ranks, threads) in [(1, 4), (2, 1), (3, 2), (6, 1)] {
            assert_eq!(global_batches(ranks, threads, 5), alone, "{ranks} ranks, {threads} threads");
        }
        assert_ne!(global_batches(1, 1, 6), alone);
    }

    #[test]
    fn an_epoch_can_start_in_its_middle() {
        let whole: Vec<_> = loader(0, 2, 1).train(1, 0).map(|batch| batch.pixels).collect();
        let rest: Vec<_> = loader(0, 2, 1).train(1, 2).map(|batch| batch.pixels).collect();
        assert_eq!(whole[2..], rest);
    }

    #[test]
    fn evaluation_sees_every_sample_once() {
        for ranks in [1, 2, 3, 7, 32] {
            let mut labels: Vec<_> =
                (0..ranks).flat_map(|rank| loader(rank, ranks, 1).evaluate().flat_map(|batch| batch.labels)).collect();
            labels.sort_unstable();
            assert_eq!(labels, (0..20).collect::<Vec<_>>(), "{ranks} ranks");
        }
    }

    #[test]
    fn a_trainer_may_leave_early() {
        let mut batches = loader(0, 1, 1).train(0, 0);
        assert_eq!(batches.next().unwrap().len(), 6);
        drop(batches);
    }
}
