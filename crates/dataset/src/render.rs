//! One stored image into its place in a batch: decode, crop, scale, augment. The work of one thread.

use std::cell::Cell;
use std::sync::Arc;

use augmentations::{Geometry, Image, Mask, Planes};
use rand_chacha::ChaCha8Rng;

use crate::augment::{Augmentation, Crop, random_part, shift, shift_mask, shift_planes};
use crate::decode::FINE;
use crate::images::{ImageSet, MaskTools, OnNan, Stored};
use crate::planes::{PlaneCropper, Scaling};
use crate::resize::{Fit, Pixels, Resizer, Window, nearest};
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
    /// How an image becomes a square.
    pub fit: Fit,
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
    masks: MaskTools,
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
            masks: MaskTools::default(),
        }
    }

    /// Writes image `index` of `images`, which are bytes of three colours, into `out` (side²×3 bytes), and its `mask`, if that is
    /// wanted (side² bytes).
    pub fn render(
        &mut self,
        images: &ImageSet,
        index: usize,
        form: &Form,
        random: &mut ChaCha8Rng,
        out: &mut [u8],
        mut mask: Option<&mut [u8]>,
    ) -> Result<()> {
        let Form { side, resize, .. } = *form;
        let crop = form.augmentation.crop;
        let (resize, detail) = match crop {
            Crop::Center => (resize, FINE),
            Crop::Padded { .. } => (side, FINE), // it is the padding that leaves something to cut off
            Crop::Resized { .. } => (resize, COARSE),
        };
        let taken = Cell::new(None);
        let choose = |size: Size, random: &mut ChaCha8Rng| {
            let window = window(form, size, resize, random);
            taken.set(Some((size, window)));
            window
        };
        let mut before_shift = random.clone();
        let stored = images.stored(index, &mut self.stored)?;
        match (stored, crop) {
            // The common case of small images: shifted right out of the cache.
            (Stored::Pixels(size, pixels), Crop::Padded { padding }) if is_square(size, side) => {
                taken.set(Some((size, Window::whole(size))));
                shift(pixels, side, padding, out, random);
            }
            (Stored::Pixels(size, pixels), _) => {
                let window = choose(size, random);
                self.resizer.resize(&Pixels::whole(pixels, size), &window, side, out);
                before_shift.clone_from(random);
                pad(crop, side, out, random, &mut self.scratch);
            }
            (Stored::Array(..), _) => {
                return Err(images.broken(index, "it is no image of bytes of three colours".to_owned()));
            }
            (stored @ (Stored::Encoded(decoding, _) | Stored::OnDisk(decoding, _)), _) => {
                set_decoding(&mut self.decoder, &mut self.decoding, decoding);
                let source = stored.source();
                let decoded = match crop {
                    // As a cache of pixels would have it.
                    Crop::Center => self.decoder.center_crop_of(source, resize, side, out),
                    Crop::Padded { .. } | Crop::Resized { .. } => {
                        self.decoder.decode_window(source, detail, |size| choose(size, random), side, out)
                    }
                };
                decoded.map_err(|reason| images.broken(index, reason))?;
                if let (Crop::Center, Some(size)) = (crop, self.decoder.size()) {
                    taken.set(Some((size, form.fit.center(size, resize, side))));
                }
                before_shift.clone_from(random);
                pad(crop, side, out, random, &mut self.scratch);
            }
        }
        if let (Some(mask), Some(taken)) = (mask.as_deref_mut(), taken.get()) {
            self.crop_mask(images, index, form, taken, &mut before_shift, mask)?;
        }
        for change in &form.augmentation.changes {
            let before = mask.is_some().then(|| random.clone());
            change.apply(&mut Image { pixels: out, side, scratch: &mut self.scratch }, random);
            if let (Some(mask), Some(before)) = (mask.as_deref_mut(), before) {
                move_mask(change.as_ref(), mask, side, &mut self.scratch, before);
            }
        }
        Ok(())
    }

    /// Writes the part of the mask of image `index` that was taken of the image, which has this size, into `out`.
    fn crop_mask(
        &mut self,
        images: &ImageSet,
        index: usize,
        form: &Form,
        (size, window): (Size, Window),
        before_shift: &mut ChaCha8Rng,
        out: &mut [u8],
    ) -> Result<()> {
        let Some((own, classes)) = images.mask(index, &mut self.masks)? else {
            return Err(images.broken(index, "it has no mask".to_owned()));
        };
        own.refuse_other_than(size).map_err(|reason| images.broken_mask(index, reason))?;
        nearest(classes, size, &window, form.side, out);
        if let Crop::Padded { padding } = form.augmentation.crop {
            self.scratch.clear();
            self.scratch.extend_from_slice(out);
            shift_mask(&self.scratch, form.side, padding, out, before_shift);
        }
        Ok(())
    }
}

impl Renderer {
    /// Writes image `index` of `images`, which are of numbers, into `out`: channels×side×side of them, normalized; and its `mask`,
    /// if that is wanted.
    pub fn render_planes(
        &mut self,
        images: &ImageSet,
        index: usize,
        form: &Form,
        random: &mut ChaCha8Rng,
        out: &mut [f32],
        mut mask: Option<&mut [u8]>,
    ) -> Result<()> {
        let Form { side, resize, .. } = *form;
        let crop = form.augmentation.crop;
        let resize = if let Crop::Padded { .. } = crop { side } else { resize };
        let mut is_middle_of_file = false;
        let (decoded, on_nan) = match images.stored(index, &mut self.stored)? {
            Stored::Array(layout, on_nan, bytes) => (Ok((*layout, bytes)), on_nan),
            Stored::Pixels(..) => (Err("it is no image of numbers".to_owned()), OnNan::Fail),
            stored @ (Stored::Encoded(decoding, _) | Stored::OnDisk(decoding, _)) => {
                set_decoding(&mut self.decoder, &mut self.decoding, decoding);
                let decoded = match crop {
                    Crop::Center => {
                        is_middle_of_file = true;
                        self.decoder.center_crop_numbers(stored.source(), resize, side)
                    }
                    Crop::Padded { .. } | Crop::Resized { .. } => self.decoder.numbers(stored.source()),
                };
                (decoded, decoding.on_nan)
            }
        };
        let (layout, bytes) = decoded.map_err(|reason| images.broken(index, reason))?;
        let window = window(form, layout.size, resize, random);
        self.cropper
            .crop((&layout, bytes), on_nan, &form.scaling, &window, side, out)
            .map_err(|reason| images.broken(index, reason))?;
        let taken = match self.decoder.size() {
            Some(whole) if is_middle_of_file => (whole, form.fit.center(whole, resize, side)),
            _ => (layout.size, window),
        };
        let mut before_shift = random.clone();
        if let Crop::Padded { padding } = crop {
            self.plane_scratch.clear();
            self.plane_scratch.extend_from_slice(out);
            shift_planes(&self.plane_scratch, side, padding, out, random);
        }
        if let Some(mask) = mask.as_deref_mut() {
            self.crop_mask(images, index, form, taken, &mut before_shift, mask)?;
        }
        for change in &form.augmentation.plane_changes {
            let before = mask.is_some().then(|| random.clone());
            change.apply(&mut Planes { values: out, side, scratch: &mut self.plane_scratch }, random);
            if let (Some(mask), Some(before)) = (mask.as_deref_mut(), before) {
                move_mask(change.as_ref(), mask, side, &mut self.scratch, before);
            }
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
fn window(form: &Form, size: Size, resize: usize, random: &mut ChaCha8Rng) -> Window {
    match form.augmentation.crop {
        Crop::Resized { least } => random_part(size, least, random),
        Crop::Center | Crop::Padded { .. } => form.fit.center(size, resize, form.side),
    }
}

/// Moves a mask as the change has moved its image by the draws that come from `before`.
fn move_mask(
    change: &(impl Geometry + ?Sized),
    mask: &mut [u8],
    side: usize,
    scratch: &mut Vec<u8>,
    mut before: ChaCha8Rng,
) {
    change.move_mask(&mut Mask { classes: mask, side, scratch }, &mut before);
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
