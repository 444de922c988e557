//! Networks as data: which layers, in which order, with which names, shapes and parameters.
//!
//! One description serves them all: `backbones` builds it on tch, the profile counts its operations, and the preflight
//! estimates its memory on a login node without libtorch. Parameter names, shapes and order are those of the original
//! (torchvision where it has the network), so that published weights load unchanged.
//!
//! Nothing here does I/O or knows torch.

mod catalogue;
mod cifar_resnet;
mod cost;
mod lenet;
mod network;
mod resnet;

pub use catalogue::{ARCHITECTURES, Architecture, UnknownArchitecture, architecture};
pub use cost::Cost;
pub use network::{
    Builder, Conv2d, Initialisation, Network, Node, NodeId, Op, Parameter, ParameterRole, Shape, ShapeError,
};
