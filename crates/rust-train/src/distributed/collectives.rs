//! torch-ext's collectives over a channel of the world: how gradients on the CPU travel by MPI, and those on a device by an MPI that
//! reaches them there.
#![expect(unsafe_code, reason = "hands memory of a device on to MPI")]

use torch_ext::{DeviceCollectives, DeviceElements, DeviceSlice, HostCollectives, HostElements, ReduceOp};
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

fn reduction(op: ReduceOp) -> Reduction {
    match op {
        ReduceOp::Sum => Reduction::Sum,
        ReduceOp::Product => Reduction::Product,
        ReduceOp::Min => Reduction::Min,
        ReduceOp::Max => Reduction::Max,
    }
}

impl HostCollectives for MpiCollectives {
    fn rank(&self) -> usize {
        self.channel.rank()
    }

    fn size(&self) -> usize {
        self.channel.size()
    }

    fn all_reduce(&mut self, elements: HostElements<'_>, op: ReduceOp) -> Result<(), String> {
        let reduction = reduction(op);
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

    fn device_collectives(&mut self) -> Option<&mut dyn DeviceCollectives> {
        // Sums along a tree are added up by this program.
        if self.sums_along_tree { None } else { Some(self) }
    }
}

impl DeviceCollectives for MpiCollectives {
    fn all_reduce(&mut self, elements: DeviceElements<'_>, op: ReduceOp) -> Result<(), String> {
        let (channel, op) = (&self.channel, reduction(op));
        // SAFETY: c10d's memory, which it leaves alone until the collective is done; whoever made the group of these has asked MPI
        // whether it reaches it.
        unsafe {
            match elements {
                DeviceElements::U8(slice) => channel.all_reduce_at(slice.as_mut_ptr(), slice.len(), op),
                DeviceElements::I32(slice) => channel.all_reduce_at(slice.as_mut_ptr(), slice.len(), op),
                DeviceElements::I64(slice) => channel.all_reduce_at(slice.as_mut_ptr(), slice.len(), op),
                DeviceElements::F32(slice) => channel.all_reduce_at(slice.as_mut_ptr(), slice.len(), op),
                DeviceElements::F64(slice) => channel.all_reduce_at(slice.as_mut_ptr(), slice.len(), op),
            }
        }
        .map_err(text)
    }

    fn broadcast(&mut self, bytes: DeviceSlice<'_, u8>, root: usize) -> Result<(), String> {
        // SAFETY: as above.
        unsafe { self.channel.broadcast_at(bytes.as_mut_ptr(), bytes.len(), root) }.map_err(text)
    }

    fn all_gather(&mut self, input: DeviceSlice<'_, u8>, output: DeviceSlice<'_, u8>) -> Result<(), String> {
        assert_eq!(output.len(), input.len() * self.channel.size(), "room for the elements of every rank");
        // SAFETY: as above.
        unsafe { self.channel.all_gather_at(input.as_mut_ptr(), output.as_mut_ptr(), input.len()) }.map_err(text)
    }
}
