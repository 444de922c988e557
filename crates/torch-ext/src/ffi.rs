//! The shim's functions as Rust sees them; `shim/` holds the other side.
#![expect(unsafe_code, reason = "declares the C functions and turns their messages into errors")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;

use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// libtorch's `at::Tensor`, behind tch's handle.
pub(crate) type AtTensor = torch_sys::C_tensor;

/// Handles of tensors, for calls of the shim: the borrow keeps the tensors alive.
pub(crate) struct Handles<'a> {
    handles: Vec<*const AtTensor>,
    _tensors: PhantomData<&'a Tensor>,
}

impl Handles<'_> {
    /// As a call takes them.
    pub(crate) fn list(&self) -> List<'_> {
        List { handles: self.handles.as_ptr(), count: self.handles.len(), _handles: PhantomData }
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.handles.len()
    }
}

/// The handles of `tensors`.
pub(crate) fn handles<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Handles<'a> {
    Handles { handles: tensors.into_iter().map(Tensor::as_ptr).collect(), _tensors: PhantomData }
}

/// `te_list`: a list's length travels with it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct List<'a> {
    handles: *const *const AtTensor,
    count: usize,
    _handles: PhantomData<&'a [*const AtTensor]>,
}

macro_rules! opaque {
    ($($name:ident),*) => {
        $(
            #[repr(C)]
            pub(crate) struct $name {
                _private: [u8; 0],
            }
        )*
    };
}

opaque!(Copy, Generator, GradientHooks, Graph, Numbers, Pending, ProcessGroup, Reducer, Store, Work);

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
    pub bytes: usize,
    pub output_bytes: usize,
    pub on_device: i32,
}

/// `te_host`.
#[repr(C)]
pub(crate) struct Host {
    pub context: *mut c_void,
    pub submit: unsafe extern "C" fn(*mut c_void, *const Collective, *mut Work),
    pub release: unsafe extern "C" fn(*mut c_void),
}

/// `te_computation`.
#[repr(C)]
pub(crate) struct Computation {
    pub context: *mut c_void,
    pub compute: unsafe extern "C" fn(*mut c_void, *const AtTensor, bool, *mut *mut AtTensor) -> *mut c_char,
    pub release: unsafe extern "C" fn(*mut c_void),
}

/// `te_reducer_options`.
#[repr(C)]
pub(crate) struct ReducerOptions {
    pub first_bucket_bytes: i64,
    pub bucket_bytes: i64,
    /// A number of `c10::ScalarType`, or -1.
    pub compression: i32,
    pub find_unused_parameters: bool,
    pub static_graph: bool,
}

/// `te_step`: lists of as many tensors as there are parameters; empty where a rule has no use for one.
#[repr(C)]
pub(crate) struct Step<'a> {
    pub params: List<'a>,
    pub grads: List<'a>,
    pub first: List<'a>,
    pub second: List<'a>,
    pub third: List<'a>,
    pub steps: List<'a>,
    pub skip: *const AtTensor,
    pub rate: *const AtTensor,
    pub lr: f64,
    pub weight_decay: f64,
}

/// `te_autocast`.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct AutocastState {
    pub enabled: bool,
    pub scalar_type: i32,
}

/// `te_memory`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Memory {
    pub allocated: i64,
    pub allocated_peak: i64,
    pub reserved: i64,
    pub reserved_peak: i64,
    pub retries: i64,
    pub out_of_memory: i64,
    pub free: u64,
    pub total: u64,
}

/// `te_device_properties`.
#[repr(C)]
pub(crate) struct DeviceProperties {
    pub name: [c_char; 256],
    pub major: i32,
    pub minor: i32,
    pub multiprocessors: i32,
    pub total_memory: u64,
    pub uuid: [u8; 16],
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
        let message = unsafe { take_text(self.0) };
        Err(Error::Torch { call, message })
    }
}

/// A text that the shim made, and its memory given back.
///
/// # Safety
/// `text` must be a null-terminated string from `strdup`, which nobody else frees.
pub(crate) unsafe fn take_text(text: *mut c_char) -> String {
    // SAFETY: as the caller says.
    unsafe {
        let words = CStr::from_ptr(text).to_string_lossy().into_owned();
        te_free_message(text);
        words
    }
}

/// The handle of a tensor that there may be.
pub(crate) fn pointer(tensor: Option<&Tensor>) -> *const AtTensor {
    tensor.map_or(ptr::null(), Tensor::as_ptr)
}

/// The tensor that `call` makes.
pub(crate) fn new_tensor(name: &'static str, call: impl FnOnce(*mut *mut AtTensor) -> Message) -> Result<Tensor> {
    let mut raw = ptr::null_mut();
    call(&mut raw).check(name)?;
    // SAFETY: after a null message the shim has written a tensor of its own to `raw`, which is ours from here on.
    Ok(unsafe { Tensor::from_ptr(raw) })
}

/// The number of `c10::ScalarType` of the types that are named in calls.
pub(crate) fn scalar_type(kind: Kind) -> i32 {
    match kind {
        Kind::Half => 5,
        Kind::BFloat16 => 15,
        Kind::Double => 7,
        _ => 6, // Float: what autocast and compression start from
    }
}

/// The number that the shim knows a CUDA device by. One that is too large for it is none that is there.
pub(crate) fn cuda_index(index: usize) -> c_int {
    c_int::try_from(index).unwrap_or(c_int::MAX)
}

/// The number that the shim knows a device by: -1 is the CPU.
pub(crate) fn device_index(device: Device) -> c_int {
    match device {
        Device::Cpu => -1,
        Device::Cuda(index) => cuda_index(index),
        _ => c_int::MAX, // the shim knows no others
    }
}

unsafe extern "C" {
    fn te_free_message(message: *mut c_char);

    // process_group.cpp
    pub(crate) fn te_work_prepare(work: *mut Work) -> Message;
    pub(crate) fn te_work_complete(work: *mut Work, error: *const c_char);
    pub(crate) fn te_process_group_host(
        rank: c_int,
        size: c_int,
        host: Host,
        device: c_int,
        direct: bool,
        out: *mut *mut ProcessGroup,
    ) -> Message;
    pub(crate) fn te_process_group_free(group: *mut ProcessGroup);
    pub(crate) fn te_process_group_shutdown(group: *mut ProcessGroup) -> Message;
    pub(crate) fn te_process_group_allreduce(group: *mut ProcessGroup, tensor: *const AtTensor, op: c_int) -> Message;
    pub(crate) fn te_process_group_allreduce_begin(
        group: *mut ProcessGroup,
        tensor: *const AtTensor,
        op: c_int,
        out: *mut *mut Pending,
    ) -> Message;
    pub(crate) fn te_pending_wait(pending: *mut Pending) -> Message;
    pub(crate) fn te_pending_free(pending: *mut Pending);
    pub(crate) fn te_process_group_allgather(
        group: *mut ProcessGroup,
        output: *const AtTensor,
        input: *const AtTensor,
    ) -> Message;
    pub(crate) fn te_process_group_alltoall(
        group: *mut ProcessGroup,
        output: *const AtTensor,
        input: *const AtTensor,
    ) -> Message;
    pub(crate) fn te_process_group_barrier(group: *mut ProcessGroup) -> Message;
    pub(crate) fn te_verify_params_across_processes(group: *mut ProcessGroup, params: List<'_>) -> Message;
    pub(crate) fn te_broadcast_coalesced(
        group: *mut ProcessGroup,
        tensors: List<'_>,
        buffer_bytes: usize,
        root: c_int,
    ) -> Message;

    // recompute.cpp
    pub(crate) fn te_message(text: *const c_char) -> *mut c_char;
    pub(crate) fn te_recomputed(input: *const AtTensor, computation: Computation, out: *mut *mut AtTensor) -> Message;

    // reducer.cpp
    pub(crate) fn te_gradient_hooks_new(
        params: List<'_>,
        call: unsafe extern "C" fn(*mut c_void, usize),
        context: *mut c_void,
        out: *mut *mut GradientHooks,
    ) -> Message;
    pub(crate) fn te_gradient_hooks_free(hooks: *mut GradientHooks);
    pub(crate) fn te_reducer_new(
        group: *mut ProcessGroup,
        params: List<'_>,
        names: *const *const c_char,
        count: usize,
        options: *const ReducerOptions,
        out: *mut *mut Reducer,
    ) -> Message;
    pub(crate) fn te_reducer_free(reducer: *mut Reducer);
    pub(crate) fn te_reducer_came(reducer: *mut Reducer, out: *mut bool, count: usize) -> Message;
    pub(crate) fn te_reducer_prepare_for_forward(reducer: *mut Reducer, rebuilt: *mut bool) -> Message;
    pub(crate) fn te_reducer_prepare_for_backward(reducer: *mut Reducer, outputs: List<'_>, search: bool) -> Message;
    pub(crate) fn te_drop_grads(params: List<'_>) -> Message;
    pub(crate) fn te_set_grads(params: List<'_>, grads: List<'_>) -> Message;

    // cpu/batch_norm.cpp
    pub(crate) fn te_batch_norm_takes(input: *const AtTensor, residual: *const AtTensor) -> bool;
    pub(crate) fn te_batch_norm(
        input_weight_bias_mean_var: List<'_>,
        residual: *const AtTensor,
        momentum: f64,
        epsilon: f64,
        lower: f64,
        upper: f64,
        out: *mut *mut AtTensor,
    ) -> Message;

    // cpu/convolution.cpp
    pub(crate) fn te_convolution_pays(
        input: *const AtTensor,
        weight: *const AtTensor,
        stride: i64,
        padding: i64,
    ) -> bool;
    pub(crate) fn te_convolution(input_weight: List<'_>, stride: i64, padding: i64, out: *mut *mut AtTensor)
    -> Message;

    // gpu/batch_norm.cpp
    pub(crate) fn te_gpu_batch_norm_takes(input: *const AtTensor, residual: *const AtTensor) -> bool;
    pub(crate) fn te_gpu_batch_norm(
        input_weight_bias_mean_var: List<'_>,
        residual: *const AtTensor,
        momentum: f64,
        epsilon: f64,
        activation: i32,
        group: *mut ProcessGroup,
        out: *mut *mut AtTensor,
    ) -> Message;

    // gpu/layer_norm.cpp
    pub(crate) fn te_gpu_layer_norm_takes(input: *const AtTensor, added: *const AtTensor) -> bool;
    pub(crate) fn te_gpu_layer_norm(
        input_weight_bias: List<'_>,
        added: *const AtTensor,
        epsilon: f64,
        is_for_products: bool,
        norm: *mut *mut AtTensor,
        sum: *mut *mut AtTensor,
    ) -> Message;

    // gpu/max_pool.cpp
    pub(crate) fn te_gpu_max_pool_takes(input: *const AtTensor, side: i64) -> bool;
    pub(crate) fn te_gpu_max_pool(
        input: *const AtTensor,
        side: i64,
        stride: i64,
        padding: i64,
        ceil: bool,
        out: *mut *mut AtTensor,
    ) -> Message;

    // gpu/images.cpp
    pub(crate) fn te_gpu_images(
        bytes: *const AtTensor,
        scale: *const f32,
        shift: *const f32,
        scalar_type: i32,
        channels_last: bool,
        out: *mut *mut AtTensor,
    ) -> Message;

    // gpu/device.cpp
    pub(crate) fn te_gpu_begin(device: c_int, types: *const i32, lanes: *const i32, count: usize) -> Message;
    pub(crate) fn te_gpu_end();
    pub(crate) fn te_gpu_compile(
        architecture: *const c_char,
        scalar_type: i32,
        lanes: i32,
        compiler: *const c_char,
        log: *mut *mut c_char,
        bytes: *mut usize,
    ) -> Message;

    // sync_batch_norm.cpp
    pub(crate) fn te_sync_batch_norm(
        group: *mut ProcessGroup,
        input_weight_bias_mean_var: List<'_>,
        momentum: f64,
        epsilon: f64,
        out: *mut *mut AtTensor,
    ) -> Message;

    // optim.cpp
    pub(crate) fn te_sgd(step: *const Step<'_>, momentum: f64, nesterov: bool, is_first_step: bool) -> Message;
    pub(crate) fn te_adam(step: *const Step<'_>, beta1: f64, beta2: f64, eps: f64, decoupled: bool) -> Message;
    pub(crate) fn te_lars(step: *const Step<'_>, momentum: f64, trust: f64, eps: f64) -> Message;
    pub(crate) fn te_lamb(step: *const Step<'_>, beta1: f64, beta2: f64, eps: f64) -> Message;
    pub(crate) fn te_nadam(
        step: *const Step<'_>,
        beta1: f64,
        beta2: f64,
        eps: f64,
        momentum_decay: f64,
        decoupled: bool,
    ) -> Message;
    pub(crate) fn te_schedule_free(step: *const Step<'_>, beta1: f64, beta2: f64, eps: f64) -> Message;
    pub(crate) fn te_lion(step: *const Step<'_>, beta1: f64, beta2: f64) -> Message;
    pub(crate) fn te_adafactor(step: *const Step<'_>, beta2_decay: f64, least_scale: f64, clip: f64) -> Message;
    pub(crate) fn te_muon(step: *const Step<'_>, momentum: f64) -> Message;
    pub(crate) fn te_each_add(tensors: List<'_>, number: i64) -> Message;
    pub(crate) fn te_each_copy(targets: List<'_>, sources: List<'_>) -> Message;
    pub(crate) fn te_lerp(targets: List<'_>, sources: List<'_>, weight: f64, skip: *const AtTensor) -> Message;
    pub(crate) fn te_clip_grad_norm(grads: List<'_>, max_norm: f64, norm: *mut *mut AtTensor) -> Message;
    pub(crate) fn te_unscale(grads: List<'_>, scale: *const AtTensor, found_inf: *const AtTensor) -> Message;
    pub(crate) fn te_update_scale(
        scale: *const AtTensor,
        good_steps: *const AtTensor,
        found_inf: *const AtTensor,
        skip: *const AtTensor,
        growth: f64,
        backoff: f64,
        interval: i64,
    ) -> Message;

    // context.cpp
    pub(crate) fn te_set_same_on_any_threads();
    pub(crate) fn te_set_cudnn(benchmark: bool, deterministic: bool);
    pub(crate) fn te_pinned(bytes: usize, out: *mut *mut AtTensor) -> Message;
    pub(crate) fn te_set_deterministic(deterministic: bool) -> Message;
    pub(crate) fn te_on_warning(hear: extern "C" fn(*const c_char));
    pub(crate) fn te_set_tf32(allowed: bool) -> Message;
    pub(crate) fn te_set_device(device: c_int) -> Message;
    pub(crate) fn te_profile_begin(cuda: bool) -> Message;
    pub(crate) fn te_profile_end(cuda: bool, out: *mut *mut c_char) -> Message;
    pub(crate) fn te_copy_new(
        bytes: *const c_void,
        shape: *const i64,
        dimensions: usize,
        device: c_int,
        copy: *mut *mut Copy,
        out: *mut *mut AtTensor,
    ) -> Message;
    pub(crate) fn te_copy_arrived(copy: *mut Copy, waits: bool, out: *mut bool) -> Message;
    pub(crate) fn te_copy_free(copy: *mut Copy);
    pub(crate) fn te_numbers_new(tensor: *const AtTensor, out: *mut *mut Numbers) -> Message;
    pub(crate) fn te_numbers_get(numbers: *mut Numbers, out: *mut f32, count: usize) -> Message;
    pub(crate) fn te_numbers_free(numbers: *mut Numbers);
    pub(crate) fn te_version() -> *const c_char;
    pub(crate) fn te_cpu_capability() -> *const c_char;
    pub(crate) fn te_autocast_enter(cuda: bool, scalar_type: i32, before: *mut AutocastState) -> Message;
    pub(crate) fn te_autocast_exit(cuda: bool, before: *const AutocastState);
    pub(crate) fn te_scaled_sum(sum_x_factor: List<'_>, out: *mut *mut AtTensor) -> Message;
    pub(crate) fn te_autocast_entered(cuda: bool) -> bool;
    pub(crate) fn te_autocast_weights(weights: List<'_>, out: *mut *mut AtTensor) -> Message;
    pub(crate) fn te_rng_get_state(device: c_int, out: *mut *mut AtTensor) -> Message;
    pub(crate) fn te_rng_set_state(device: c_int, state: *const AtTensor) -> Message;
    pub(crate) fn te_rng_in_use(device: c_int, out: *mut *mut AtTensor) -> Message;
    pub(crate) fn te_own_generator(seed: i64) -> *mut Generator;
    pub(crate) fn te_own_generator_of(state: *const AtTensor, before: *mut *mut Generator) -> Message;
    pub(crate) fn te_own_generator_back(before: *mut Generator);
    pub(crate) fn te_dropout(input: *const AtTensor, probability: f64, out: *mut *mut AtTensor) -> Message;
    pub(crate) fn te_bernoulli(tensor: *const AtTensor, probability: f64) -> Message;
    pub(crate) fn te_memory_stats(device: c_int, out: *mut Memory) -> Message;
    pub(crate) fn te_memory_reset_peak(device: c_int) -> Message;
    pub(crate) fn te_set_channels_last(tensors: List<'_>, channels_last: bool) -> Message;
    pub(crate) fn te_to_channels_last(tensor: *const AtTensor, out: *mut *mut AtTensor) -> Message;
    pub(crate) fn te_hash(tensors: List<'_>, out: *mut *mut AtTensor) -> Message;

    // store.cpp
    pub(crate) fn te_store_new(
        host: *const c_char,
        port: u16,
        is_server: bool,
        timeout_ms: i64,
        out: *mut *mut Store,
    ) -> Message;
    pub(crate) fn te_store_port(store: *mut Store) -> u16;
    pub(crate) fn te_store_set(store: *mut Store, key: *const c_char, value: *const u8, length: usize) -> Message;
    pub(crate) fn te_store_get(
        store: *mut Store,
        key: *const c_char,
        value: *mut u8,
        capacity: usize,
        length: *mut usize,
    ) -> Message;
    pub(crate) fn te_store_free(store: *mut Store);
}

/// `te_cuda` of cuda.h: the functions of `libtorch_ext_cuda.so`.
#[repr(C)]
pub(crate) struct CudaFunctions {
    pub size: usize,
    pub process_group_nccl:
        unsafe extern "C" fn(*mut Store, c_int, c_int, c_int, i64, *mut *mut ProcessGroup) -> Message,
    pub process_group_abort: unsafe extern "C" fn(*mut ProcessGroup) -> Message,
    pub own_stream: unsafe extern "C" fn(c_int) -> Message,
    pub refuse_waits: unsafe extern "C" fn(bool) -> Message,
    pub graph_begin: unsafe extern "C" fn(*mut *mut Graph) -> Message,
    pub graph_end: unsafe extern "C" fn(*mut Graph) -> Message,
    pub graph_replay: unsafe extern "C" fn(*mut Graph) -> Message,
    pub graph_free: unsafe extern "C" fn(*mut Graph),
    pub device_properties: unsafe extern "C" fn(c_int, *mut DeviceProperties) -> Message,
}
