//! torch-ext's host collectives over a channel of the world: how gradients on the CPU travel by MPI.

use torch_ext::{HostCollectives, HostElements, ReduceOp};
use world::{Channel, Reduction};

/// A channel of its own for gradients, used by the communication thread alone.
#[derive(Debug)]
pub struct MpiCollectives {
    channel: Channel,
    /// Whether sums are added up along a binary tree over the ranks.
    sums_along_tree: bool,
}

impl MpiCollectives {
    /// Over a channel that nobody else uses; sums come in MPI's order.
    pub fn new(channel: Channel) -> Self {
        Self { channel, sums_along_tree: false }
    }

    /// The same with sums of floating-point numbers whose bits are those of any number of ranks, if each has added its aligned part of the
    /// summands along the same binary tree: of a number of ranks that is a power of two.
    #[must_use]
    pub fn along_tree(self) -> Self {
        Self { sums_along_tree: true, ..self }
    }
}

fn text(error: world::Error) -> String {
    error.to_string()
}

impl HostCollectives for MpiCollectives {
    fn rank(&self) -> usize {
        self.channel.rank()
    }

    fn size(&self) -> usize {
        self.channel.size()
    }

    fn all_reduce(&mut self, elements: HostElements<'_>, op: ReduceOp) -> Result<(), String> {
        let reduction = match op {
            ReduceOp::Sum => Reduction::Sum,
            ReduceOp::Product => Reduction::Product,
            ReduceOp::Min => Reduction::Min,
            ReduceOp::Max => Reduction::Max,
        };
        let is_tree = self.sums_along_tree && op == ReduceOp::Sum;
        match elements {
            HostElements::U8(elements) => self.channel.all_reduce(elements, reduction),
            HostElements::I32(elements) => self.channel.all_reduce(elements, reduction),
            HostElements::I64(elements) => self.channel.all_reduce(elements, reduction),
            HostElements::F32(elements) if is_tree => self.channel.tree_sum(elements),
            HostElements::F64(elements) if is_tree => self.channel.tree_sum(elements),
            HostElements::F16(_) | HostElements::BF16(_) if is_tree => {
                return Err("sums along a tree are of single and double precision".to_owned());
            }
            HostElements::F32(elements) => self.channel.all_reduce(elements, reduction),
            HostElements::F64(elements) => self.channel.all_reduce(elements, reduction),
            HostElements::F16(elements) => self.channel.all_reduce_half(elements, reduction),
            HostElements::BF16(elements) => self.channel.all_reduce_half(elements, reduction),
        }
        .map_err(text)
    }

    fn broadcast(&mut self, bytes: &mut [u8], root: usize) -> Result<(), String> {
        self.channel.broadcast(bytes, root).map_err(text)
    }

    fn all_gather(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), String> {
        self.channel.all_gather_into(input, output).map_err(text)
    }

    fn barrier(&mut self) -> Result<(), String> {
        self.channel.barrier().map_err(text)
    }
}
