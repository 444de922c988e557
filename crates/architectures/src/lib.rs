//! Networks as data: which layers, in which order, with which names, shapes and parameters.
//!
//! One description serves them all: `backbones` builds it on tch, the profile counts its operations, the preflight
//! estimates its memory on a login node without libtorch, and an export writes it down in another format. Parameter
//! names, shapes and order are those of the original (torchvision where it has the network), so that published weights
//! load unchanged.
//!
//! ```text
//! families/*.rs ── Builder ──> Network (nodes of Op) ──┬── shapes, parameters
//! catalogue.rs (names, published weights)              └── costs, memory, folding, what is in place
//! ```
//!
//! Nothing here does I/O or knows torch.

mod blocks;
mod builder;
mod catalogue;
mod cost;
mod draw;
mod drop_path;
mod families;
mod fold;
mod fuse;
mod headless;
mod in_place;
mod memory;
mod network;
mod op;
mod positions;
mod published;
mod residual;
mod rotations;
mod shape;
mod timm;
mod windows;

pub use builder::{Builder, Scheme};
pub use catalogue::{
    ARCHITECTURES, Architecture, Input, NormalizedBy, Published, Tells, UnknownArchitecture, architecture,
    timms_architecture,
};
pub use cost::Cost;
pub use draw::{Distribution, Draw};
pub use fold::Folded;
pub use memory::{Memory, OptimizerMemory, TrainingMemory, Workload};
pub use network::{Auxiliary, Network, Node, NodeId, Parameter, ParameterRole};
pub use op::{Activation, Conv2d, Draws, Op, Projections, same_padding};
pub use positions::Positions;
pub use published::PublishedVersion;
pub use rotations::rotations;
pub use shape::{Shape, ShapeError};
pub use timm::TimmWeight;
pub use windows::{WindowCut, log_offsets, relative_position_index};
