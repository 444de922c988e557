//! c10d's process group: the ranks that average gradients together.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ptr::{self, NonNull};

use tch::Tensor;

use crate::ffi::{self, handles};
use crate::host::{self, HostCollectives};
use crate::{Error, Result};

/// The ranks that average gradients together, and the way they talk.
///
/// Dropping the last user of a host group joins its communication thread; whatever carries the collectives (MPI, say)
/// must live until then.
#[derive(Debug)]
pub struct ProcessGroup {
    raw: NonNull<ffi::ProcessGroup>,
    rank: usize,
    size: usize,
}

impl ProcessGroup {
    /// A group over host memory. Collectives run on a thread of their own, in order, while backward computes on.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn host(collectives: Box<dyn HostCollectives>) -> Result<Self> {
        let (rank, size) = (collectives.rank(), collectives.size());
        let mut raw = ptr::null_mut();
        let host = host::start(collectives);
        // SAFETY: `out` is written before a null message comes back; the shim owns `host` from here on.
        unsafe { ffi::te_process_group_host(rank as i32, size as i32, host, &mut raw) }.check("ProcessGroup")?;
        let raw = NonNull::new(raw).ok_or_else(|| no_object("ProcessGroup"))?;
        Ok(Self { raw, rank, size })
    }

    /// This rank in the group, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Replaces every element of `tensor` by its sum over all ranks, and waits for it.
    ///
    /// # Errors
    /// What the communication reported, or a tensor that is not dense in host memory.
    pub fn all_reduce(&self, tensor: &Tensor) -> Result<()> {
        // SAFETY: both live during the call, which waits until the collective is done.
        unsafe { ffi::te_process_group_allreduce(self.raw(), tensor.as_ptr()) }.check("all-reduce")
    }

    /// Checks that all ranks hold the same number of parameters with the same shapes and types.
    ///
    /// # Errors
    /// Which parameter differs from rank 0's.
    pub fn verify_parameters(&self, parameters: &[Tensor]) -> Result<()> {
        let handles = handles(parameters);
        // SAFETY: the handles are of tensors that live during the call.
        unsafe { ffi::te_verify_params_across_processes(self.raw(), handles.as_ptr(), handles.len()) }
            .check("verifying parameters across ranks")
    }

    /// Replaces `tensors` by those of rank `root`, many small ones in one message.
    ///
    /// # Errors
    /// What the communication reported.
    pub fn broadcast(&self, tensors: &[Tensor], root: usize) -> Result<()> {
        const BUFFER_BYTES: usize = 250 << 20; // as DistributedDataParallel
        if tensors.is_empty() {
            return Ok(());
        }
        let handles = handles(tensors);
        // SAFETY: the handles are of tensors that live during the call, which waits until all are received.
        unsafe { ffi::te_broadcast_coalesced(self.raw(), handles.as_ptr(), handles.len(), BUFFER_BYTES, root as i32) }
            .check("broadcasting parameters")
    }

    pub(crate) fn raw(&self) -> *mut ffi::ProcessGroup {
        self.raw.as_ptr()
    }
}

pub(crate) fn no_object(call: &'static str) -> Error {
    Error::Torch { call, message: "libtorch gave no object".to_owned() }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: `raw` came from `te_process_group_host` and is freed once. A Reducer holds its own reference.
        unsafe { ffi::te_process_group_free(self.raw.as_ptr()) }
    }
}
