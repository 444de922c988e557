//! What one sample keeps in memory between forward and backward.

use architectures::{Network, ShapeError};

use serde::Serialize;

/// From so many to so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Range {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

/// The elements kept for one image of `size`×`size` pixels.
///
/// Low: the inputs of all layers with parameters, each counted once, because that is what their backward needs.
/// High: the value of every node, as if nothing were freed or done in place.
///
/// # Errors
/// An image that the network cannot take.
pub(super) fn kept_elements(network: &Network, size: usize) -> Result<Range, ShapeError> {
    let shapes = network.shapes(size, size)?;
    let mut is_needed = vec![false; shapes.len()];
    for node in network.nodes().iter().filter(|node| !node.name.is_empty()) {
        for input in &node.inputs {
            is_needed[input.index()] = true;
        }
    }
    let elements = |index: usize| shapes[index].elements() as u64;
    let low = (0..shapes.len()).filter(|&index| is_needed[index]).map(elements).sum();
    let high = (0..shapes.len()).map(elements).sum();
    Ok(Range { low, high })
}
