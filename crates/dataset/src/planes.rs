//! The numbers of an image to normalized planes: a window of it, scaled.

use crate::images::{ArrayLayout, OnNan, not_a_number};
use crate::resize::{PlaneResizer, Window, copied};
use crate::{Normalization, Resample};

/// What the numbers of each channel are multiplied with, and what is added then.
#[derive(Clone, Debug)]
pub(crate) struct Scaling {
    by: Vec<f64>,
    plus: Vec<f64>,
}

impl Scaling {
    pub fn of(normalization: &Normalization) -> Self {
        let (by, plus) = normalization.scales_and_shifts();
        Self { by, plus }
    }
}

/// Cuts windows out of images of numbers, and keeps its buffers for the next.
#[derive(Debug)]
pub(crate) struct PlaneCropper {
    resizer: PlaneResizer,
    /// An image before it is scaled.
    planes: Vec<f32>,
}

impl PlaneCropper {
    pub fn new(resample: Resample) -> Self {
        Self { resizer: PlaneResizer::new(resample), planes: Vec::new() }
    }

    /// Writes `window` of an image of these `bytes`, scaled to `side`×`side` pixels and normalized, into `out`:
    /// channels×side×side numbers.
    ///
    /// # Errors
    /// A number that is none, where that is a fault.
    pub fn crop(
        &mut self,
        (layout, bytes): (&ArrayLayout, &[u8]),
        on_nan: OnNan,
        Scaling { by, plus }: &Scaling,
        window: &Window,
        side: usize,
        out: &mut [f32],
    ) -> Result<(), String> {
        let size = layout.size;
        if (size.width as usize, size.height as usize) == (side, side) && copied(window, side) == Some((0, 0)) {
            return if layout.planes(bytes, by, plus, out) { fill(layout, on_nan, out) } else { Ok(()) };
        }
        self.planes.resize(layout.count(), 0.0);
        if layout.planes(bytes, by, plus, &mut self.planes) {
            fill(layout, on_nan, &mut self.planes)?;
        }
        self.resizer.resize(&self.planes, size, window, side, out);
        Ok(())
    }
}

/// What is to become of normalized numbers that are none.
fn fill(layout: &ArrayLayout, on_nan: OnNan, planes: &mut [f32]) -> Result<(), String> {
    match on_nan {
        OnNan::Fail => match planes.iter().position(|number| !number.is_finite()) {
            Some(at) => Err(not_a_number(at / layout.size.count() as usize)),
            None => Ok(()),
        },
        OnNan::Mean => {
            planes.iter_mut().filter(|number| !number.is_finite()).for_each(|number| *number = 0.0);
            Ok(())
        }
    }
}
