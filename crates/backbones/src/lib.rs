//! Architectures built on tch: the description of `architectures` becomes tensors and a forward pass.

mod backbone;
mod forward;
mod initialise;
mod weights;

pub use backbone::Backbone;
pub use weights::WeightsError;
