//! The arithmetic that a model is computed in.

use tch::{Device, Kind, Tensor};
use torch_ext::{Autocast, MemoryFormat, Precision, to_channels_last};

/// Where, in which precision and in which order of memory a model is computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numerics {
    pub device: Device,
    pub precision: Precision,
    pub memory_format: MemoryFormat,
}

impl Numerics {
    /// What `forward` makes of `images`, in single precision.
    pub(crate) fn compute(
        self,
        images: &Tensor,
        forward: impl Fn(&Tensor) -> Vec<Tensor>,
    ) -> torch_ext::Result<Vec<Tensor>> {
        let autocast = Autocast::enter(self.device, self.precision)?;
        let outputs = match self.memory_format {
            MemoryFormat::Contiguous => forward(images),
            MemoryFormat::ChannelsLast => forward(&to_channels_last(images)?),
        };
        drop(autocast);
        Ok(outputs.into_iter().map(|output| output.to_kind(Kind::Float)).collect())
    }
}
