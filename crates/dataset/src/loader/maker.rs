//! One batch: its images spread over the pool, each rendered by a thread with a renderer of its own.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::Batch;
use super::buffer::{Buffers, heap};
use crate::augment::{Mixed, Mixture, partners};
use crate::order::Draw;
use crate::render::{Form, Renderer};
use crate::{ImageSet, Normalization, PixelFormat, Resample, Result};

/// Smaller images are handed out to the pool several at a time, this many bytes of them.
const BYTES_PER_TASK: usize = 64 << 10;

/// Makes the batches of one pass.
pub(super) struct Maker {
    pub images: Arc<ImageSet>,
    pub pool: Arc<rayon::ThreadPool>,
    pub renderers: Arc<Renderers>,
    pub buffers: Buffers,
    pub form: Form,
    pub normalization: Normalization,
    pub seed: u64,
    pub epoch: u64,
    /// What stands at a position of the epoch.
    pub draw_at: Box<dyn Fn(usize) -> Draw + Send + Sync>,
}

impl Maker {
    /// The images at these positions, perhaps mixed within the positions of their global batch.
    pub fn make(&self, positions: Range<usize>, mixture: Option<(Mixture, Range<usize>)>) -> Result<Batch> {
        let side = self.form.side;
        let format = self.images.format();
        let bytes = format.bytes(side);
        let mut pixels = self.buffers.take(positions.len() * bytes);
        let sample_at = |position: usize| (self.draw_at)(position).sample();
        let label_at = |position: usize| self.images.labels()[sample_at(position)];
        let targets_at = |position: usize| self.images.targets(sample_at(position));
        self.images.prefetch(positions.clone().map(sample_at));
        let mut masks = self.images.has_masks().then(|| self.buffers.take(positions.len() * side * side));
        let mut of_each: Vec<Option<&mut [u8]>> = match &mut masks {
            Some(masks) => masks.chunks_mut(side * side).map(Some).collect(),
            None => positions.clone().map(|_| None).collect(),
        };
        self.pool.install(|| {
            pixels
                .par_chunks_mut(bytes)
                .zip(&mut of_each)
                .zip(positions.clone())
                .with_min_len((BYTES_PER_TASK / bytes).max(1))
                .try_for_each_init(
                    || self.renderers.take(),
                    |renderer, ((out, mask), position)| self.render(renderer.get(), position, out, mask.take()),
                )
        })?;
        let mixed = match mixture {
            Some((mixture, global)) if !positions.is_empty() => {
                let partners = partners(positions.clone(), &global, sample_at);
                // The last image's partner is another rank's, or was mixed itself before its turn comes: it is made
                // here once more. Nothing else is needed of what does not follow in `pixels`.
                let mut last = heap(bytes);
                let last = &mut (*last).as_mut()[..bytes];
                self.render(self.renderers.take().get(), partners[partners.len() - 1], last, None)?;
                for (position, &partner) in positions.clone().zip(&partners) {
                    let offset = |position: usize| (position - positions.start) * bytes;
                    let (head, second) = if (position + 1..positions.end).contains(&partner) {
                        pixels.split_at_mut(offset(partner))
                    } else {
                        (&mut pixels[..], &mut *last)
                    };
                    let (first, second) = (&mut head[offset(position)..][..bytes], &second[..bytes]);
                    match format {
                        PixelFormat::Rgb8 => mixture.apply(first, second, side),
                        PixelFormat::Planes { .. } => {
                            let (first, second) = (bytemuck::cast_slice_mut(first), bytemuck::cast_slice(second));
                            mixture.apply_to_planes(first, second, side);
                        }
                    }
                }
                let labels = partners.iter().copied().map(label_at).collect();
                let targets = partners.iter().flat_map(|&partner| targets_at(partner)).copied().collect();
                Some(Mixed { labels, targets, share: mixture.share(side) })
            }
            _ => None,
        };
        let targets = positions.clone().flat_map(targets_at).copied().collect();
        let (labels, normalization) = (positions.map(label_at).collect(), self.normalization.clone());
        Ok(Batch { pixels, format, labels, targets, masks, mixed, side, normalization })
    }

    fn render(&self, renderer: &mut Renderer, position: usize, out: &mut [u8], mask: Option<&mut [u8]>) -> Result<()> {
        let draw = (self.draw_at)(position);
        let mut random = draw.augmentation(self.seed, self.epoch);
        let (images, sample) = (&self.images, draw.sample());
        match images.format() {
            PixelFormat::Rgb8 => renderer.render(images, sample, &self.form, &mut random, out, mask),
            PixelFormat::Planes { .. } => {
                let out = bytemuck::cast_slice_mut(out);
                renderer.render_planes(images, sample, &self.form, &mut random, out, mask)
            }
        }
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
