//! One batch: its pictures spread over the pool, each rendered by a thread with a renderer of its own.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::Batch;
use super::buffer::Buffers;
use crate::augment::{Mixed, Mixture};
use crate::order::{Stream, stream};
use crate::render::{Form, Renderer};
use crate::{ImageSet, Resample, Result};

/// Smaller pictures are handed out to the pool several at a time, this many bytes of them.
const BYTES_PER_TASK: usize = 64 << 10;

/// Makes the batches of one pass.
pub(super) struct Maker {
    pub images: Arc<ImageSet>,
    pub pool: Arc<rayon::ThreadPool>,
    pub renderers: Arc<Renderers>,
    pub buffers: Buffers,
    pub form: Form,
    pub seed: u64,
    pub epoch: u64,
    /// The sample at a position of the epoch, and which of its repetitions.
    pub sample_at: Box<dyn Fn(usize) -> (usize, u64) + Send + Sync>,
}

impl Maker {
    /// The pictures at these positions, perhaps mixed within the positions of their global batch.
    pub fn make(&self, positions: Range<usize>, mixture: Option<(Mixture, Range<usize>)>) -> Result<Batch> {
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
pub(super) struct Renderers {
    free: Mutex<Vec<Renderer>>,
    resample: Resample,
}

impl Renderers {
    pub fn new(resample: Resample) -> Self {
        Self { free: Mutex::default(), resample }
    }

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
