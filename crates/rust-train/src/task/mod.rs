//! What is learned: the loss that is minimized, and the metrics that say how good a model is.

pub(crate) mod loss;
pub(crate) mod metrics;
