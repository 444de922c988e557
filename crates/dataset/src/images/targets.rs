//! Labels that are more than a class: a row of numbers for each image.

use std::sync::Arc;

/// A row of numbers for each image of a store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TargetRows {
    values: Arc<[f64]>,
    width: usize,
}

impl TargetRows {
    /// Rows of `width` numbers each.
    pub fn new(values: Vec<f64>, width: usize) -> Self {
        Self { values: values.into(), width }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// That of the image at this place of the store.
    pub fn row(&self, slot: usize) -> &[f64] {
        &self.values[slot * self.width..(slot + 1) * self.width]
    }
}
