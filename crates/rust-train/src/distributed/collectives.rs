//! torch-ext's host collectives over a channel of the world: how gradients on the CPU travel by MPI.

use torch_ext::{HostCollectives, HostElements, ReduceOp};
use world::{Channel, Reduction};

/// A channel of its own for gradients, used by the communication thread alone.
#[derive(Debug)]
pub struct MpiCollectives(pub Channel);

fn text(error: world::Error) -> String {
    error.to_string()
}

impl HostCollectives for MpiCollectives {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn all_reduce(&mut self, elements: HostElements<'_>, op: ReduceOp) -> Result<(), String> {
        let reduction = match op {
            ReduceOp::Sum => Reduction::Sum,
            ReduceOp::Product => Reduction::Product,
            ReduceOp::Min => Reduction::Min,
            ReduceOp::Max => Reduction::Max,
        };
        match elements {
            HostElements::U8(elements) => self.0.all_reduce(elements, reduction),
            HostElements::I32(elements) => self.0.all_reduce(elements, reduction),
            HostElements::I64(elements) => self.0.all_reduce(elements, reduction),
            HostElements::F32(elements) => self.0.all_reduce(elements, reduction),
            HostElements::F64(elements) => self.0.all_reduce(elements, reduction),
            HostElements::F16(elements) => self.0.all_reduce_half(elements, reduction),
            HostElements::BF16(elements) => self.0.all_reduce_half(elements, reduction),
        }
        .map_err(text)
    }

    fn broadcast(&mut self, bytes: &mut [u8], root: usize) -> Result<(), String> {
        self.0.broadcast(bytes, root).map_err(text)
    }

    fn all_gather(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), String> {
        self.0.all_gather_into(input, output).map_err(text)
    }

    fn barrier(&mut self) -> Result<(), String> {
        self.0.barrier().map_err(text)
    }
}
