//! Batches, made ahead of the trainer by threads of their own.
//!
//! ```text
//! producer 0: batches 0, 2, 4 … ─┐   each spreads the images of its batch over one pool of threads,
//! producer 1: batches 1, 3, 5 … ─┴─> so that one batch's last images and the next one's first are made together
//!                 │ bounded channels
//!                 v
//!             Batches ──> trainer ──> the batch's memory goes back when it is dropped
//! ```

mod batches;
mod buffer;
mod maker;

use std::ops::Range;
use std::sync::Arc;

use layout::Shard;

use crate::augment::{Augmentation, Crop, Mixed, draw_mixture};
use crate::order::{Draw, EpochOrder, Sampling, Stream, stream};
use crate::planes::Scaling;
use crate::render::Form;
use crate::{Fit, ImageSet, Normalization, PixelFormat, Resample};

pub use batches::Batches;
use buffer::Buffers;
pub use buffer::{Allocate, Buffer, HostMemory, heap};
use maker::{Maker, Renderers};

/// Images and labels in host memory.
#[derive(Debug)]
pub struct Batch {
    /// As `format` says: N×`side`×`side`×3 bytes, RGB, or the bytes of N×channels×`side`×`side` [`values`](Self::values).
    pub pixels: Buffer,
    /// What they are.
    pub format: PixelFormat,
    /// N labels.
    pub labels: Vec<i64>,
    /// N×K numbers, where labels are rows of K numbers; `labels` are all 0 then.
    pub targets: Vec<f64>,
    /// N×`side`×`side` classes, one for each pixel, [`IGNORED`](crate::IGNORED) where there is none; `None` where labels are of
    /// whole images.
    pub masks: Option<Buffer>,
    /// The other labels, if images were mixed.
    pub mixed: Option<Mixed>,
    /// Height and width of every image, in pixels.
    pub side: usize,
    /// How bytes become floats. Planes of numbers are normalized.
    pub normalization: Normalization,
}

impl Batch {
    /// A batch of bytes of three colours, N×`side`×`side`×3, that are not mixed.
    pub fn of_rgb8(pixels: Buffer, labels: Vec<i64>, side: usize, normalization: Normalization) -> Self {
        let format = PixelFormat::Rgb8;
        Self { pixels, format, labels, targets: Vec::new(), masks: None, mixed: None, side, normalization }
    }

    /// A batch of images of this format as it has them, with labels that nobody knows.
    pub fn unlabelled(pixels: Buffer, format: PixelFormat, side: usize, normalization: Normalization) -> Self {
        let labels = vec![0; pixels.len() / format.bytes(side)];
        Self { pixels, format, labels, targets: Vec::new(), masks: None, mixed: None, side, normalization }
    }

    /// The numbers of its images, N×channels×`side`×`side`, where they are planes of numbers.
    ///
    /// # Panics
    /// If they are bytes.
    pub fn values(&self) -> &[f32] {
        assert_ne!(self.format, PixelFormat::Rgb8, "planes of numbers");
        bytemuck::cast_slice(&self.pixels)
    }

    /// The number of images, N.
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
    /// Images per batch over all ranks.
    pub global_batch: usize,
    /// Height and width of the images in a batch, in pixels.
    pub side: usize,
    /// What the shorter side of an image is scaled to before its middle is cut out, in pixels: 256 for 224.
    pub resize: usize,
    /// Height and width of what evaluation cuts out of the middle, in pixels; at most `resize`.
    pub evaluation_side: usize,
    /// How an image becomes a square.
    pub fit: Fit,
    /// How the bytes of batches become floats.
    pub normalization: Normalization,
    /// The filter that scales images that are stored as pixels.
    pub resample: Resample,
    /// What happens to training images.
    pub augmentation: Augmentation,
    /// Which samples an epoch has.
    pub sampling: Sampling,
    /// How often each sample comes in its batch (repeated augmentation). 1 for none.
    pub repeats: usize,
    /// What becomes of the rest of an epoch.
    pub last_batch: LastBatch,
    /// In how many parts a global batch of evaluation is made, whatever the number of ranks; `None` for as many as there are ranks.
    pub evaluation_parts: Option<usize>,
    /// The order and the augmentation follow from it.
    pub seed: u64,
    /// Threads that make batches: as many as the rank may use cores.
    pub threads: usize,
    /// Where batches lie.
    pub allocate: Allocate,
}

impl LoaderConfig {
    /// Batches of unchanged images, in random order; one thread.
    pub fn new(global_batch: usize, side: usize) -> Self {
        Self {
            global_batch,
            side,
            resize: side,
            evaluation_side: side,
            fit: Fit::default(),
            normalization: Normalization::default(),
            resample: Resample::default(),
            augmentation: Augmentation::NONE,
            sampling: Sampling::Shuffled,
            repeats: 1,
            last_batch: LastBatch::Drop,
            evaluation_parts: None,
            seed: 0,
            threads: 1,
            allocate: heap,
        }
    }
}

/// Makes this rank's part of every batch of an [`ImageSet`].
///
/// The order of samples follows from seed and epoch, and what happens to a sample from seed, epoch, sample and draw, the
/// how-many-eth time that it comes in the epoch: neither depends on the number of ranks or threads.
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
    /// If no thread can be started, or the normalization is of other channels than planes have.
    pub fn new(images: Arc<ImageSet>, shard: Shard, config: LoaderConfig) -> Self {
        if let PixelFormat::Planes { channels } = images.format() {
            assert_eq!(config.normalization.mean.len(), channels, "a mean for each channel");
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.threads)
            .thread_name(|index| format!("loader-{index}"))
            .build()
            .expect("threads can be started");
        let renderers = Arc::new(Renderers::new(config.resample));
        let buffers = Buffers::new(config.allocate);
        Self { images, shard, config, pool: Arc::new(pool), renderers, buffers }
    }

    /// The same loader for images of `side` pixels (progressive resizing): the same samples in the same order, everything
    /// else in proportion. It shares the threads.
    #[must_use]
    pub fn at_side(&self, side: usize) -> Self {
        let scaled = |pixels: usize| (pixels * side).div_ceil(self.config.side);
        let mut config = LoaderConfig {
            side,
            resize: scaled(self.config.resize),
            evaluation_side: scaled(self.config.evaluation_side),
            ..self.config.clone()
        };
        if let Crop::Padded { padding } = &mut config.augmentation.crop {
            *padding = scaled(*padding);
        }
        Self {
            images: Arc::clone(&self.images),
            pool: Arc::clone(&self.pool),
            renderers: Arc::clone(&self.renderers),
            buffers: Buffers::new(config.allocate), // those of another size would never be used again
            shard: self.shard,
            config,
        }
    }

    /// Batches in an epoch, the same on every rank.
    pub fn steps_per_epoch(&self) -> usize {
        self.steps_of(self.images.len())
    }

    fn steps_of(&self, samples: usize) -> usize {
        match self.config.last_batch {
            LastBatch::Drop => samples / self.config.global_batch,
            LastBatch::Short => samples.div_ceil(self.config.global_batch),
        }
    }

    /// This rank's part of the training batches of `epoch`, shuffled and augmented, from its `first` position on: an epoch
    /// goes on in its middle without doing the rest again, with another batch too.
    pub fn train(&self, epoch: u64, first: usize) -> Batches {
        let LoaderConfig { global_batch, seed, sampling, repeats, .. } = self.config;
        let order = EpochOrder::new(self.images.labels(), sampling, repeats, (global_batch, first), seed, epoch);
        let length = self.images.len();
        let global = move |step: usize| {
            let start = first + step * global_batch;
            start..(start + global_batch).min(length)
        };
        let (side, mix) = (self.config.side, self.config.augmentation.mix);
        let augmentation = self.config.augmentation.clone();
        let maker = self.maker(side, augmentation, epoch, move |position| order.at(position));
        let shard = self.shard;
        let make = move |step: usize| {
            let mixture =
                draw_mixture(mix, side, &mut stream(Stream::Mix, seed, epoch, (first / global_batch + step) as u64));
            maker.make(shard.of(global(step)), mixture.map(|mixture| (mixture, global(step))))
        };
        Batches::start(0..self.steps_of(length.saturating_sub(first)), Arc::new(make))
    }

    /// The samples that [`evaluate`](Self::evaluate) gives, in order: whole batches, which are the same whichever rank has them.
    pub fn evaluated(&self) -> Range<usize> {
        let size = self.evaluation_batch();
        let batches = self.shard.of(0..self.images.len().div_ceil(size));
        batches.start * size..(batches.end * size).min(self.images.len()).max(batches.start * size)
    }

    /// Images of a batch of [`evaluate`](Self::evaluate).
    fn evaluation_batch(&self) -> usize {
        self.config.global_batch.div_ceil(self.config.evaluation_parts.unwrap_or(self.shard.ranks())).max(1)
    }

    /// This rank's part of all samples, each once over all ranks, in their own order and unchanged.
    pub fn evaluate(&self) -> Batches {
        let part = self.evaluated();
        let size = self.evaluation_batch();
        let maker = self.maker(self.config.evaluation_side, Augmentation::NONE, 0, Draw::first);
        let steps = part.len().div_ceil(size);
        let make = move |step: usize| {
            let start = part.start + step * size;
            maker.make(start..(start + size).min(part.end), None)
        };
        Batches::start(0..steps, Arc::new(make))
    }

    /// Batches of [`evaluate`](Self::evaluate) on the rank that has most of them: the same on every rank.
    pub fn evaluation_steps(&self) -> usize {
        self.images.len().div_ceil(self.evaluation_batch()).div_ceil(self.shard.ranks())
    }

    /// One sample as [`evaluate`](Self::evaluate) gives it: a batch of one.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn sample(&self, index: usize) -> crate::Result<Batch> {
        self.maker(self.config.evaluation_side, Augmentation::NONE, 0, Draw::first).make(index..index + 1, None)
    }

    /// The images that batches are made of.
    pub fn images(&self) -> &ImageSet {
        &self.images
    }

    fn maker(
        &self,
        side: usize,
        augmentation: Augmentation,
        epoch: u64,
        draw_at: impl Fn(usize) -> Draw + Send + Sync + 'static,
    ) -> Maker {
        let LoaderConfig { resize, fit, seed, ref normalization, .. } = self.config;
        let scaling = Arc::new(Scaling::of(normalization));
        Maker {
            images: Arc::clone(&self.images),
            pool: Arc::clone(&self.pool),
            renderers: Arc::clone(&self.renderers),
            buffers: self.buffers.clone(),
            form: Form { side, resize, fit, augmentation, scaling },
            normalization: normalization.clone(),
            seed,
            epoch,
            draw_at: Box::new(draw_at),
        }
    }
}

#[cfg(test)]
mod tests;
