//! One stored image into its place in a batch: decode, crop, scale, augment. The work of one thread.

use augmentations::Image;
use rand_chacha::ChaCha8Rng;

use crate::augment::{Augmentation, Crop, random_part, shift};
use crate::decode::{FINE, Source};
use crate::images::{ImageSet, Stored};
use crate::resize::{Pixels, Resizer, Window};
use crate::size::Size;
use crate::{Decoder, Decoding, Resample, Result};

/// Decoded pixels for each pixel of a random part that is scaled, at least. At 1 a JPEG may be decoded at half its size
/// where the part is at least twice as large as what becomes of it: the filter then sees means of 2×2 pixels.
const COARSE: f64 = 1.0;

/// What images become.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    /// Height and width, in pixels.
    pub side: usize,
    /// What the shorter side is scaled to before the middle is cut out, in pixels; at least `side`.
    pub resize: usize,
    pub augmentation: Augmentation,
}

/// A thread's decoder and buffers.
#[derive(Debug)]
pub(crate) struct Renderer {
    decoder: Decoder,
    decoding: Decoding,
    resizer: Resizer,
    stored: Vec<u8>,
    scratch: Vec<u8>,
}

impl Renderer {
    pub fn new(resample: Resample) -> Self {
        let decoding = Decoding { resample, ..Decoding::default() };
        Self {
            decoder: Decoder::new(decoding),
            decoding,
            resizer: Resizer::new(resample),
            stored: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Writes image `index` of `images` into `out` (side²×3 bytes).
    pub fn render(
        &mut self,
        images: &ImageSet,
        index: usize,
        form: &Form,
        random: &mut ChaCha8Rng,
        out: &mut [u8],
    ) -> Result<()> {
        let Form { side, resize, .. } = *form;
        let crop = form.augmentation.crop;
        let (resize, detail) = match crop {
            Crop::Center => (resize, FINE),
            Crop::Padded { .. } => (side, FINE), // it is the padding that leaves something to cut off
            Crop::Resized => (resize, COARSE),
        };
        let choose = |size: Size, random: &mut ChaCha8Rng| match crop {
            Crop::Resized => random_part(size, random),
            Crop::Center | Crop::Padded { .. } => Window::center(size, resize, side),
        };
        let stored = images.stored(index, &mut self.stored)?;
        match (stored, crop) {
            // The common case of small images: shifted right out of the cache.
            (Stored::Pixels(size, pixels), Crop::Padded { padding }) if is_square(size, side) => {
                shift(pixels, side, padding, out, random);
            }
            (Stored::Pixels(size, pixels), _) => {
                let window = choose(size, random);
                self.resizer.resize(&Pixels::whole(pixels, size), &window, side, out);
                pad(crop, side, out, random, &mut self.scratch);
            }
            (stored @ (Stored::Encoded(decoding, _) | Stored::OnDisk(decoding, _)), _) => {
                if decoding != self.decoding {
                    (self.decoder, self.decoding) = (Decoder::new(decoding), decoding);
                }
                let source = match &stored {
                    Stored::OnDisk(_, file) => Source::Disk(file),
                    Stored::Encoded(_, bytes) | Stored::Pixels(_, bytes) => Source::Memory(bytes),
                };
                let decoded = match crop {
                    Crop::Center => self.decoder.center_crop_of(source, resize, side, out),
                    Crop::Padded { .. } | Crop::Resized => {
                        self.decoder.decode_window(source, detail, |size| choose(size, random), side, out)
                    }
                };
                decoded.map_err(|reason| images.broken(index, reason))?;
                pad(crop, side, out, random, &mut self.scratch);
            }
        }
        for change in &form.augmentation.changes {
            change.apply(&mut Image { pixels: out, side, scratch: &mut self.scratch }, random);
        }
        Ok(())
    }
}

fn is_square(size: Size, side: usize) -> bool {
    (size.width as usize, size.height as usize) == (side, side)
}

fn pad(crop: Crop, side: usize, out: &mut [u8], random: &mut ChaCha8Rng, scratch: &mut Vec<u8>) {
    if let Crop::Padded { padding } = crop {
        scratch.clear();
        scratch.extend_from_slice(out);
        shift(scratch, side, padding, out, random);
    }
}
