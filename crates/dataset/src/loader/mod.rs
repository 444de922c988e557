//! Batches, made ahead of the trainer by threads of their own.
//!
//! ```text
//! producer 0: batches 0, 2, 4 … ─┐   each spreads the pictures of its batch over one pool of threads,
//! producer 1: batches 1, 3, 5 … ─┴─> so that one batch's last pictures and the next one's first are made together
//!                 │ bounded channels
//!                 v
//!             Batches ──> trainer ──> the batch's memory goes back when it is dropped
//! ```

mod buffer;

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use layout::Shard;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::augment::{Augmentation, Mixed, Mixture, draw_mixture};
use crate::order::{EpochOrder, Sampling, Stream, stream};
use crate::render::{Form, Renderer};
use crate::{ImageSet, Resample, Result};

use buffer::Buffers;
pub use buffer::{Allocate, Buffer, HostMemory, heap};

/// Threads that each make every second batch. Most of the work is done by the pool.
const PRODUCERS: usize = 2;
/// Batches that a producer makes ahead: one in the channel, one in its hands.
const AHEAD: usize = 1;
/// Smaller pictures are handed out to the pool several at a time, this many bytes of them.
const BYTES_PER_TASK: usize = 64 << 10;

/// Pictures and labels in host memory.
#[derive(Debug)]
pub struct Batch {
    /// N×`side`×`side`×3 bytes, RGB.
    pub pixels: Buffer,
    /// N labels.
    pub labels: Vec<i64>,
    /// The other labels, if pictures were mixed.
    pub mixed: Option<Mixed>,
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

/// What becomes of the samples that do not fill a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastBatch {
    /// They wait for the next epoch's order.
    #[default]
    Drop,
    /// They are a smaller batch. Every rank gets its part of it, so all make the same number of steps; a part may be
    /// empty.
    Short,
}

/// How batches are made.
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Pictures per batch over all ranks.
    pub global_batch: usize,
    /// Height and width of the pictures in a batch, in pixels.
    pub side: usize,
    /// What the shorter side of a picture is scaled to before its middle is cut out, in pixels: 256 for 224.
    pub resize: usize,
    /// The filter that scales pictures that are stored as pixels.
    pub resample: Resample,
    /// What happens to training pictures.
    pub augmentation: Augmentation,
    /// Which samples an epoch has.
    pub sampling: Sampling,
    /// How often each sample comes in a row (repeated augmentation). 1 for none.
    pub repeats: usize,
    /// What becomes of the rest of an epoch.
    pub last_batch: LastBatch,
    /// The order and the augmentation follow from it.
    pub seed: u64,
    /// Threads that make batches: as many as the rank may use cores.
    pub threads: usize,
    /// Where batches lie.
    pub allocate: Allocate,
}

impl LoaderConfig {
    /// Batches of unchanged pictures, in random order; one thread.
    pub fn new(global_batch: usize, side: usize) -> Self {
        Self {
            global_batch,
            side,
            resize: side,
            resample: Resample::default(),
            augmentation: Augmentation::NONE,
            sampling: Sampling::Shuffled,
            repeats: 1,
            last_batch: LastBatch::Drop,
            seed: 0,
            threads: 1,
            allocate: heap,
        }
    }
}

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
    renderers: Arc<Renderers>,
    buffers: Buffers,
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
        let renderers = Arc::new(Renderers { free: Mutex::default(), resample: config.resample });
        let buffers = Buffers::new(config.allocate);
        Self { images, shard, config, pool: Arc::new(pool), renderers, buffers }
    }

    /// Batches in an epoch, the same on every rank.
    pub fn steps_per_epoch(&self) -> usize {
        match self.config.last_batch {
            LastBatch::Drop => self.images.len() / self.config.global_batch,
            LastBatch::Short => self.images.len().div_ceil(self.config.global_batch),
        }
    }

    /// This rank's part of the training batches of `epoch`, shuffled and augmented, from batch `first_step` on: an epoch
    /// goes on in its middle without doing the rest again.
    pub fn train(&self, epoch: u64, first_step: usize) -> Batches {
        let LoaderConfig { global_batch, seed, sampling, repeats, .. } = self.config;
        let order = EpochOrder::new(self.images.labels(), sampling, repeats, seed, epoch);
        let length = self.images.len();
        let global = move |step: usize| step * global_batch..((step + 1) * global_batch).min(length);
        let augmentation = self.config.augmentation;
        let maker = self.maker(augmentation, epoch, move |position| order.at(position));
        let shard = self.shard;
        let (side, mix) = (self.config.side, augmentation.mix);
        let make = move |step: usize| {
            let mixture = draw_mixture(mix, side, &mut stream(Stream::Mix, seed, epoch, step as u64));
            maker.make(shard.of(global(step)), mixture.map(|mixture| (mixture, global(step))))
        };
        Batches::start(first_step..self.steps_per_epoch(), Arc::new(make))
    }

    /// This rank's part of all samples, each once over all ranks, in their own order and unchanged.
    pub fn evaluate(&self) -> Batches {
        let part = self.shard.of(0..self.images.len());
        let size = self.config.global_batch.div_ceil(self.shard.ranks());
        let maker = self.maker(Augmentation::NONE, 0, |position| (position, 0));
        let steps = part.len().div_ceil(size);
        let make = move |step: usize| {
            let start = part.start + step * size;
            maker.make(start..(start + size).min(part.end), None)
        };
        Batches::start(0..steps, Arc::new(make))
    }

    fn maker(
        &self,
        augmentation: Augmentation,
        epoch: u64,
        sample_at: impl Fn(usize) -> (usize, u64) + Send + Sync + 'static,
    ) -> Maker {
        let LoaderConfig { side, resize, seed, .. } = self.config;
        Maker {
            images: Arc::clone(&self.images),
            pool: Arc::clone(&self.pool),
            renderers: Arc::clone(&self.renderers),
            buffers: self.buffers.clone(),
            form: Form { side, resize, augmentation },
            seed,
            epoch,
            sample_at: Box::new(sample_at),
        }
    }
}

/// Makes the batches of one pass.
struct Maker {
    images: Arc<ImageSet>,
    pool: Arc<rayon::ThreadPool>,
    renderers: Arc<Renderers>,
    buffers: Buffers,
    form: Form,
    seed: u64,
    epoch: u64,
    /// The sample at a position of the epoch, and which of its repetitions.
    sample_at: Box<dyn Fn(usize) -> (usize, u64) + Send + Sync>,
}

impl Maker {
    /// The pictures at these positions, perhaps mixed within the positions of their global batch.
    fn make(&self, positions: Range<usize>, mixture: Option<(Mixture, Range<usize>)>) -> Result<Batch> {
        let side = self.form.side;
        let bytes = side * side * 3;
        let mut pixels = self.buffers.take(positions.len() * bytes);
        let labels = |positions: &mut dyn Iterator<Item = usize>| -> Vec<i64> {
            positions.map(|position| self.images.labels()[(self.sample_at)(position).0]).collect()
        };
        self.images.prefetch(positions.clone().map(|position| (self.sample_at)(position).0));
        self.pool.install(|| {
            pixels
                .par_chunks_mut(bytes)
                .zip(positions.clone())
                .with_min_len((BYTES_PER_TASK / bytes).max(1))
                .try_for_each_init(
                    || self.renderers.take(),
                    |renderer, (out, position)| self.render(renderer.get(), position, out),
                )
        })?;
        let mixed = match mixture {
            Some((mixture, global)) if !positions.is_empty() => {
                let next = |position: usize| if position + 1 == global.end { global.start } else { position + 1 };
                // The last picture's partner is another rank's first: it is made here too.
                let mut partner = vec![0; bytes];
                self.render(self.renderers.take().get(), next(positions.end - 1), &mut partner)?;
                let mut rest = &mut pixels[..];
                while let Some((first, others)) = rest.split_at_mut_checked(bytes) {
                    let second = others.get(..bytes).unwrap_or(&partner);
                    mixture.apply(first, second, side);
                    rest = others;
                }
                Some(Mixed { labels: labels(&mut positions.clone().map(next)), share: mixture.share(side) })
            }
            _ => None,
        };
        Ok(Batch { pixels, labels: labels(&mut positions.clone()), mixed, side })
    }

    fn render(&self, renderer: &mut Renderer, position: usize, out: &mut [u8]) -> Result<()> {
        let (sample, repeat) = (self.sample_at)(position);
        // A repetition is another form of the same sample.
        let key = sample as u64 | repeat << 40;
        let mut random: ChaCha8Rng = stream(Stream::Augmentation, self.seed, self.epoch, key);
        renderer.render(&self.images, sample, &self.form, &mut random, out)
    }
}

/// The renderers that no thread uses right now.
#[derive(Debug)]
struct Renderers {
    free: Mutex<Vec<Renderer>>,
    resample: Resample,
}

impl Renderers {
    fn take(&self) -> Borrowed<'_> {
        let free = self.free.lock().expect("no thread panics while it holds this").pop();
        Borrowed { renderer: Some(free.unwrap_or_else(|| Renderer::new(self.resample))), home: self }
    }
}

/// A renderer that goes back when this is dropped.
struct Borrowed<'a> {
    renderer: Option<Renderer>,
    home: &'a Renderers,
}

impl Borrowed<'_> {
    fn get(&mut self) -> &mut Renderer {
        self.renderer.get_or_insert_with(|| Renderer::new(self.home.resample))
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let (Some(renderer), Ok(mut free)) = (self.renderer.take(), self.home.free.lock()) {
            free.push(renderer);
        }
    }
}

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
    fn start(steps: Range<usize>, make: Arc<dyn Fn(usize) -> Result<Batch> + Send + Sync>) -> Self {
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

#[cfg(test)]
mod tests;
