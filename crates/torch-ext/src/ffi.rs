//! The shim's functions as Rust sees them; `shim/` holds the other side.
#![expect(unsafe_code, reason = "declares the C functions and turns their messages into errors")]

use std::ffi::{CStr, c_char, c_int, c_void};

use tch::Tensor;

use crate::{Error, Result};

/// libtorch's `at::Tensor`, behind tch's handle.
pub(crate) type AtTensor = torch_sys::C_tensor;

#[repr(C)]
pub(crate) struct ProcessGroup {
    _private: [u8; 0],
}

#[repr(C)]
pub(crate) struct Reducer {
    _private: [u8; 0],
}

#[repr(C)]
pub(crate) struct Work {
    _private: [u8; 0],
}

/// `te_collective`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Collective {
    pub kind: i32,
    pub scalar_type: i32,
    pub op: i32,
    pub root: i32,
    pub data: *mut c_void,
    pub output: *mut c_void,
    pub numel: usize,
    pub bytes: usize,
}

/// `te_host`.
#[repr(C)]
pub(crate) struct Host {
    pub context: *mut c_void,
    pub submit: unsafe extern "C" fn(*mut c_void, *const Collective, *mut Work),
    pub release: unsafe extern "C" fn(*mut c_void),
}

/// A message of the shim: null when all went well.
#[repr(transparent)]
#[must_use]
pub(crate) struct Message(*mut c_char);

impl Message {
    /// The outcome of `call`.
    pub(crate) fn check(self, call: &'static str) -> Result<()> {
        if self.0.is_null() {
            return Ok(());
        }
        // SAFETY: the shim returns null or a null-terminated string from `strdup`, which is ours to free, once.
        let message = unsafe {
            let message = CStr::from_ptr(self.0).to_string_lossy().into_owned();
            te_free_message(self.0);
            message
        };
        Err(Error::Torch { call, message })
    }
}

/// The handles of `tensors`, for one call: they must not outlive the borrow.
pub(crate) fn handles(tensors: &[Tensor]) -> Vec<*const AtTensor> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

unsafe extern "C" {
    fn te_free_message(message: *mut c_char);
    pub(crate) fn te_work_complete(work: *mut Work, error: *const c_char);
    pub(crate) fn te_process_group_host(rank: c_int, size: c_int, host: Host, out: *mut *mut ProcessGroup) -> Message;
    pub(crate) fn te_process_group_free(group: *mut ProcessGroup);
    pub(crate) fn te_process_group_allreduce(group: *mut ProcessGroup, tensor: *const AtTensor) -> Message;
    pub(crate) fn te_verify_params_across_processes(
        group: *mut ProcessGroup,
        params: *const *const AtTensor,
        count: usize,
    ) -> Message;
    pub(crate) fn te_broadcast_coalesced(
        group: *mut ProcessGroup,
        tensors: *const *const AtTensor,
        count: usize,
        buffer_bytes: usize,
        root: c_int,
    ) -> Message;
    pub(crate) fn te_reducer_new(
        group: *mut ProcessGroup,
        params: *const *const AtTensor,
        names: *const *const c_char,
        count: usize,
        first_bucket_bytes: i64,
        bucket_bytes: i64,
        find_unused_parameters: bool,
        out: *mut *mut Reducer,
    ) -> Message;
    pub(crate) fn te_reducer_free(reducer: *mut Reducer);
    pub(crate) fn te_reducer_prepare_for_forward(reducer: *mut Reducer, rebuilt: *mut bool) -> Message;
    pub(crate) fn te_reducer_prepare_for_backward(
        reducer: *mut Reducer,
        outputs: *const *const AtTensor,
        count: usize,
    ) -> Message;
    pub(crate) fn te_fused_sgd(
        params: *const *const AtTensor,
        grads: *const *const AtTensor,
        momentum_buffers: *const *const AtTensor,
        count: usize,
        weight_decay: f64,
        momentum: f64,
        lr: f64,
        dampening: f64,
        nesterov: bool,
        is_first_step: bool,
    ) -> Message;
    pub(crate) fn te_set_cudnn(benchmark: bool, deterministic: bool);
}
