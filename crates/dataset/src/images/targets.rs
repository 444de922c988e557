//! Labels that are more than a class: a row of numbers for each image.

use std::sync::Arc;

/// How far from 1 the shares of the classes of an image may add up to.
const ROUNDING: f64 = 1e-3;

/// Whether shares of classes add up to 1, but for their rounding.
pub(crate) fn adds_up(shares: &[f64]) -> bool {
    (shares.iter().sum::<f64>() - 1.0).abs() <= ROUNDING
}

/// The class that has the largest share; the first of several.
pub(crate) fn likeliest(shares: &[f64]) -> usize {
    (0..shares.len()).rev().max_by(|&one, &other| shares[one].total_cmp(&shares[other])).unwrap_or(0)
}

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
