//! Architectures built on tch: the description of `architectures` becomes tensors and a forward pass.

mod backbone;
mod blocks;
mod fold;
mod forward;
mod headless;
mod initialise;
mod names;
mod pass;
mod shared;
mod trace;
mod weights;

pub use self::weights::{Differences, Matching, WeightsError, from_torch, network_of, to_torch};
pub use backbone::Backbone;
pub use names::{channels_of, fitting, rooted};
pub use shared::Shared;
