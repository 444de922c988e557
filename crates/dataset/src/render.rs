//! One stored image into its place in a batch: decode, crop, scale, augment. The work of one thread.

use std::sync::Arc;

use augmentations::{Image, Planes};
use rand_chacha::ChaCha8Rng;

use crate::augment::{Augmentation, Crop, random_part, shift, shift_planes};
use crate::decode::FINE;
use crate::images::{ImageSet, OnNan, Stored};
use crate::planes::{PlaneCropper, Scaling};
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
    /// What planes of numbers are normalized by; bytes are later.
    pub scaling: Arc<Scaling>,
}

/// A thread's decoder and buffers.
#[derive(Debug)]
pub(crate) struct Renderer {
    decoder: Decoder,
    decoding: Decoding,
    resizer: Resizer,
    cropper: PlaneCropper,
    stored: Vec<u8>,
    scratch: Vec<u8>,
    plane_scratch: Vec<f32>,
}

impl Renderer {
    pub fn new(resample: Resample) -> Self {
        let decoding = Decoding { resample, ..Decoding::default() };
        Self {
            decoder: Decoder::new(decoding),
            decoding,
            resizer: Resizer::new(resample),
            cropper: PlaneCropper::new(resample),
            stored: Vec::new(),
            scratch: Vec::new(),
            plane_scratch: Vec::new(),
        }
    }

    /// Writes image `index` of `images`, which are bytes of three colours, into `out` (side²×3 bytes).
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
        let choose = |size: Size, random: &mut ChaCha8Rng| window(crop, size, resize, side, random);
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
            (Stored::Array(..), _) => {
                return Err(images.broken(index, "it is no image of bytes of three colours".to_owned()));
            }
            (stored @ (Stored::Encoded(decoding, _) | Stored::OnDisk(decoding, _)), _) => {
                set_decoding(&mut self.decoder, &mut self.decoding, decoding);
                let source = stored.source();
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

impl Renderer {
    /// Writes image `index` of `images`, which are of numbers, into `out`: channels×side×side of them, normalized.
    pub fn render_planes(
        &mut self,
        images: &ImageSet,
        index: usize,
        form: &Form,
        random: &mut ChaCha8Rng,
        out: &mut [f32],
    ) -> Result<()> {
        let Form { side, resize, .. } = *form;
        let crop = form.augmentation.crop;
        let resize = if let Crop::Padded { .. } = crop { side } else { resize };
        let (decoded, on_nan) = match images.stored(index, &mut self.stored)? {
            Stored::Array(layout, on_nan, bytes) => (Ok((*layout, bytes)), on_nan),
            Stored::Pixels(..) => (Err("it is no image of numbers".to_owned()), OnNan::Fail),
            stored @ (Stored::Encoded(decoding, _) | Stored::OnDisk(decoding, _)) => {
                set_decoding(&mut self.decoder, &mut self.decoding, decoding);
                let decoded = match crop {
                    Crop::Center => self.decoder.center_crop_numbers(stored.source(), resize, side),
                    Crop::Padded { .. } | Crop::Resized => self.decoder.numbers(stored.source()),
                };
                (decoded, decoding.on_nan)
            }
        };
        let (layout, bytes) = decoded.map_err(|reason| images.broken(index, reason))?;
        let window = window(crop, layout.size, resize, side, random);
        self.cropper
            .crop((&layout, bytes), on_nan, &form.scaling, &window, side, out)
            .map_err(|reason| images.broken(index, reason))?;
        if let Crop::Padded { padding } = crop {
            self.plane_scratch.clear();
            self.plane_scratch.extend_from_slice(out);
            shift_planes(&self.plane_scratch, side, padding, out, random);
        }
        for change in &form.augmentation.plane_changes {
            change.apply(&mut Planes { values: out, side, scratch: &mut self.plane_scratch }, random);
        }
        Ok(())
    }
}

/// Makes `decoder` one that decodes so, if it is not yet.
fn set_decoding(decoder: &mut Decoder, current: &mut Decoding, decoding: Decoding) {
    if decoding != *current {
        (*decoder, *current) = (Decoder::new(decoding), decoding);
    }
}

/// Which part of an image of this size is taken.
fn window(crop: Crop, size: Size, resize: usize, side: usize, random: &mut ChaCha8Rng) -> Window {
    match crop {
        Crop::Resized => random_part(size, random),
        Crop::Center | Crop::Padded { .. } => Window::center(size, resize, side),
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
