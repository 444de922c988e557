//! BatchNorm over the batches of all ranks.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::Tensor;

use crate::ffi::{self, new_tensor};
use crate::{BatchNorm, ProcessGroup, Result};

/// Batch normalization whose statistics are those of the samples of all ranks, weighted by how many each has: what one
/// rank would compute with the whole batch. A rank may have no samples at all, as long as it takes part.
///
/// `y = (x − E[x]) / √(Var[x] + ε) · weight + bias`, per channel, over all ranks. As `torch.nn.SyncBatchNorm`, and on
/// the CPU too; forward gathers 2·C+1 numbers a rank, backward reduces 2·C.
#[derive(Clone, Debug)]
pub struct SyncBatchNorm {
    group: ProcessGroup,
}

impl SyncBatchNorm {
    /// Over the ranks of `group`, which all must run the same layers in the same order.
    pub fn new(group: &ProcessGroup) -> Self {
        Self { group: group.clone() }
    }

    pub(crate) fn raw(&self) -> *mut ffi::ProcessGroup {
        self.group.raw()
    }

    /// Normalizes `input`, N×C×…, in training, and updates the running statistics of `layer`.
    ///
    /// # Errors
    /// Shapes that do not fit, or what the communication reported. The backward pass reports through libtorch.
    pub fn forward(&self, layer: &BatchNorm<'_>, input: &Tensor) -> Result<Tensor> {
        let handles = layer.handles(input);
        new_tensor("synchronized BatchNorm", |out| {
            // SAFETY: the handles are of tensors that live during the call; the graph holds the group.
            unsafe { ffi::te_sync_batch_norm(self.group.raw(), handles.list(), layer.momentum, layer.epsilon, out) }
        })
    }
}
