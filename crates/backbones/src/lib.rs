//! Architectures built on tch: the description of `architectures` becomes tensors and a forward pass.

mod backbone;
mod fold;
mod forward;
mod initialise;
mod shared;
mod trace;
mod weights;

pub use self::weights::{Differences, Matching, WeightsError, channels_of, fitting, from_torch, rooted, to_torch};
pub use backbone::Backbone;
pub use shared::Shared;
