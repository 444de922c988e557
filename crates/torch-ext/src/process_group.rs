//! c10d's process group: the ranks that average gradients together.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use crate::ffi::{self, handles};
use crate::host::{self, HostCollectives, LastSubmitted, ReduceOp};
use crate::{Error, Result, Store};

/// The ranks that average gradients together, and the way they talk. A clone is the same group.
///
/// Every rank must call the same methods in the same order. Dropping the last user of a host group joins its
/// communication thread; whatever carries the collectives (MPI, say) must live until then.
#[derive(Clone, Debug)]
pub struct ProcessGroup(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    raw: NonNull<ffi::ProcessGroup>,
    rank: usize,
    size: usize,
    /// Where its tensors must be.
    device: Device,
    last_submitted: LastSubmitted,
}

impl ProcessGroup {
    /// A group over host memory. Collectives run on a thread of their own, in order, while backward computes on.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn host(collectives: Box<dyn HostCollectives>) -> Result<Self> {
        let (rank, size) = (collectives.rank(), collectives.size());
        let last_submitted = LastSubmitted::default();
        let host = host::start(collectives, last_submitted.clone());
        // SAFETY: `out` is written before a null message comes back; the shim owns `host` from here on.
        Self::new(rank, size, Device::Cpu, last_submitted, |out| unsafe {
            ffi::te_process_group_host(rank as i32, size as i32, host, out)
        })
    }

    /// A group over NCCL, of one rank for each CUDA device. All ranks use the same `store`; `device` becomes this
    /// process's current one. A collective that takes longer than `timeout` ends the process.
    ///
    /// # Errors
    /// What libtorch threw; [`Error::WithoutCuda`] in a build without the feature `cuda`.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "they are for the build with CUDA"))]
    pub fn nccl(store: &Store, rank: usize, size: usize, device: usize, timeout: Duration) -> Result<Self> {
        #[cfg(feature = "cuda")]
        // SAFETY: the store lives during the call, and the group takes its own reference; `out` as in `host`.
        return Self::new(rank, size, Device::Cuda(device), LastSubmitted::default(), |out| unsafe {
            let timeout = timeout.as_millis() as i64;
            ffi::te_process_group_nccl(store.raw(), rank as i32, size as i32, device as i32, timeout, out)
        });
        #[cfg(not(feature = "cuda"))]
        Err(Error::WithoutCuda { call: "NCCL" })
    }

    fn new(
        rank: usize,
        size: usize,
        device: Device,
        last_submitted: LastSubmitted,
        make: impl FnOnce(*mut *mut ffi::ProcessGroup) -> ffi::Message,
    ) -> Result<Self> {
        let mut raw = ptr::null_mut();
        make(&mut raw).check("ProcessGroup")?;
        let raw = NonNull::new(raw).ok_or_else(|| no_object("ProcessGroup"))?;
        Ok(Self(Rc::new(Inner { raw, rank, size, device, last_submitted })))
    }

    /// This rank in the group, from 0.
    pub fn rank(&self) -> usize {
        self.0.rank
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// Where the tensors of its collectives must be.
    pub fn device(&self) -> Device {
        self.0.device
    }

    /// When a collective was last handed to the communication thread. In a backward pass that is when the last gradient
    /// was ready: what the pass takes from there on it waits for other ranks, and for what travels between them. `None`
    /// over NCCL, where the device carries what there is to carry by itself.
    pub fn last_submitted(&self) -> Option<Instant> {
        self.0.last_submitted.get()
    }

    /// Replaces every element of `tensor` by its reduction over all ranks, and waits for it.
    ///
    /// # Errors
    /// What the communication reported, or a tensor that is not dense on the group's device.
    pub fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<()> {
        // SAFETY: both live during the call, which waits until the collective is done.
        unsafe { ffi::te_process_group_allreduce(self.raw(), tensor.as_ptr(), op.number()) }.check("all-reduce")
    }

    /// The `tensor` of every rank, in rank order, as one of one dimension more: size × shape.
    ///
    /// # Errors
    /// What the communication reported, or a tensor that is not dense on the group's device.
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        let shape: Vec<_> = std::iter::once(self.size() as i64).chain(tensor.size()).collect();
        let gathered = Tensor::f_empty(shape, (tensor.kind(), tensor.device()))?;
        // SAFETY: all live during the call, which waits until the collective is done.
        unsafe { ffi::te_process_group_allgather(self.raw(), gathered.as_ptr(), tensor.as_ptr()) }
            .check("all-gather")?;
        Ok(gathered)
    }

    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// What the communication reported.
    pub fn barrier(&self) -> Result<()> {
        // SAFETY: the group lives during the call.
        unsafe { ffi::te_process_group_barrier(self.raw()) }.check("barrier")
    }

    /// Replaces `tensors` by those of rank `root`, many small ones in one message.
    ///
    /// # Errors
    /// What the communication reported.
    pub fn broadcast(&self, tensors: &[Tensor], root: usize) -> Result<()> {
        const BUFFER_BYTES: usize = 250 << 20; // as DistributedDataParallel
        if tensors.is_empty() || self.size() == 1 {
            return Ok(());
        }
        let handles = handles(tensors);
        // SAFETY: the handles are of tensors that live during the call, which waits until all are received.
        unsafe { ffi::te_broadcast_coalesced(self.raw(), handles.as_ptr(), handles.len(), BUFFER_BYTES, root as i32) }
            .check("broadcasting tensors")
    }

    /// Replaces the floating-point ones among `tensors` by their mean over all ranks, in one message: BatchNorm's
    /// running statistics before an evaluation, say. Others are left alone.
    ///
    /// # Errors
    /// What the communication reported.
    pub fn average(&self, tensors: &[Tensor]) -> Result<()> {
        let floating = |tensor: &&Tensor| matches!(tensor.kind(), Kind::Float | Kind::Double);
        let tensors: Vec<_> = tensors.iter().filter(floating).map(Tensor::detach).collect();
        if tensors.is_empty() || self.size() == 1 {
            return Ok(());
        }
        let flat: Vec<_> = tensors.iter().map(|tensor| tensor.reshape([-1])).collect();
        let mut flat = Tensor::f_cat(&flat, 0)?;
        self.all_reduce(&flat, ReduceOp::Sum)?;
        let _ = flat.f_div_scalar_(self.size() as i64)?;
        let mut start = 0;
        for mut tensor in tensors {
            let length = tensor.numel() as i64;
            tensor.f_copy_(&flat.f_narrow(0, start, length)?.f_view_as(&tensor)?)?;
            start += length;
        }
        Ok(())
    }

    /// Checks that all ranks hold the same number of parameters with the same shapes and types. All ranks learn it where
    /// one does not.
    ///
    /// # Errors
    /// Which parameter differs from rank 0's; on ranks whose own are right, that another's are not.
    pub fn verify_parameters(&self, parameters: &[Tensor]) -> Result<()> {
        let handles = handles(parameters);
        // SAFETY: the handles are of tensors that live during the call.
        let own = unsafe { ffi::te_verify_params_across_processes(self.raw(), handles.as_ptr(), handles.len()) }
            .check("verifying parameters across ranks");
        let failed = Tensor::f_full([1], i64::from(own.is_err()), (Kind::Int64, self.device()))?;
        self.all_reduce(&failed, ReduceOp::Max)?;
        own?;
        match failed.f_int64_value(&[0])? {
            0 => Ok(()),
            _ => Err(Error::State {
                what: "verifying parameters across ranks: another rank's differ from rank 0's".to_owned(),
            }),
        }
    }

    /// Ends an NCCL group in good order: waits for its collectives, and lets go of its communicators. No collective may
    /// follow. Collective: where ranks have failed, [`abort`](Self::abort) waits for nobody. Of a host group there is
    /// nothing to let go; dropping it joins its thread.
    ///
    /// # Errors
    /// What the communication reported.
    pub fn shutdown(&self) -> Result<()> {
        // SAFETY: the group lives during the call.
        unsafe { ffi::te_process_group_shutdown(self.raw()) }.check("shutting the process group down")
    }

    /// Ends NCCL's collectives under way, so that nothing waits for ranks that are gone. Of a host group there is
    /// nothing to end: each of its collectives has a time-out of its own.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn abort(&self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if self.device().is_cuda() {
            // SAFETY: the group lives during the call.
            return unsafe { ffi::te_process_group_abort(self.raw()) }.check("aborting the process group");
        }
        Ok(())
    }

    pub(crate) fn raw(&self) -> *mut ffi::ProcessGroup {
        self.0.raw.as_ptr()
    }
}

pub(crate) fn no_object(call: &'static str) -> Error {
    Error::Torch { call, message: "libtorch gave no object".to_owned() }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: `raw` came from the shim and is freed once. A Reducer holds its own reference.
        unsafe { ffi::te_process_group_free(self.raw.as_ptr()) }
    }
}
