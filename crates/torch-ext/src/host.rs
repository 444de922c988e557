//! Collectives over host memory, as c10d needs them: the trait, and the thread that runs it.
#![expect(unsafe_code, reason = "makes slices of the memory that c10d hands over")]

use std::any::Any;
use std::ffi::{CString, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::device_elements::{self, DeviceCollectives};
use crate::ffi;

/// How the values of all ranks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceOp {
    /// The sum.
    Sum,
    /// The product.
    Product,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

impl ReduceOp {
    /// Its number in `c10d::ReduceOp`.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Sum => 0,
            Self::Product => 2,
            Self::Min => 3,
            Self::Max => 4,
        }
    }

    fn from_number(number: i32) -> Option<Self> {
        [Self::Sum, Self::Product, Self::Min, Self::Max].into_iter().find(|op| op.number() == number)
    }
}

/// The elements of an all-reduce, by their type.
#[derive(Debug)]
pub enum HostElements<'a> {
    /// Bytes.
    U8(&'a mut [u8]),
    /// 32-bit integers.
    I32(&'a mut [i32]),
    /// 64-bit integers.
    I64(&'a mut [i64]),
    /// Single precision.
    F32(&'a mut [f32]),
    /// Double precision.
    F64(&'a mut [f64]),
    /// Half precision.
    F16(&'a mut [half::f16]),
    /// Half precision with the exponents of single precision.
    BF16(&'a mut [half::bf16]),
}

impl HostElements<'_> {
    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::U8(elements) => size_of_val(*elements),
            Self::I32(elements) => size_of_val(*elements),
            Self::I64(elements) => size_of_val(*elements),
            Self::F32(elements) => size_of_val(*elements),
            Self::F64(elements) => size_of_val(*elements),
            Self::F16(elements) => size_of_val(*elements),
            Self::BF16(elements) => size_of_val(*elements),
        }
    }
}

/// What connects the ranks through host memory. Every rank calls the same collectives in the same order; a call blocks
/// until it is done on this rank, and must end in an error rather than wait for ever. An error's text should name the
/// collective and the rank that is missing. After a panic nothing is called any more, and every collective under way or
/// to come fails with its message. `rank` and `size` are asked once.
pub trait HostCollectives: Send {
    /// This rank, from 0.
    fn rank(&self) -> usize;
    /// The number of ranks.
    fn size(&self) -> usize;
    /// Replaces every element by the reduction of that element over all ranks.
    ///
    /// # Errors
    /// The reason as one line.
    fn all_reduce(&mut self, elements: HostElements<'_>, op: ReduceOp) -> Result<(), String>;
    /// Replaces `bytes` by those of rank `root`; equally long on every rank.
    ///
    /// # Errors
    /// The reason as one line.
    fn broadcast(&mut self, bytes: &mut [u8], root: usize) -> Result<(), String>;
    /// Collects the `input` of every rank, in rank order, in `output` of `size × input.len()` bytes.
    ///
    /// # Errors
    /// The reason as one line.
    fn all_gather(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), String>;
    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// The reason as one line.
    fn barrier(&mut self) -> Result<(), String>;
    /// The same ranks' way to carry what lies on a device, if they have one: asked by [`ProcessGroup::direct`](crate::ProcessGroup::direct).
    fn device_collectives(&mut self) -> Option<&mut dyn DeviceCollectives> {
        None
    }
}

/// A rank that is alone: its collectives have nothing to do.
#[derive(Clone, Copy, Debug)]
pub struct OnlyRank;

impl HostCollectives for OnlyRank {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&mut self, _: HostElements<'_>, _: ReduceOp) -> Result<(), String> {
        Ok(())
    }

    fn broadcast(&mut self, _: &mut [u8], _: usize) -> Result<(), String> {
        Ok(())
    }

    fn all_gather(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), String> {
        output.copy_from_slice(input);
        Ok(())
    }

    fn barrier(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A collective on its way to the communication thread.
struct Task {
    collective: ffi::Collective,
    work: *mut ffi::Work,
}

// SAFETY: the work object keeps the tensors whose memory the collective names alive until it is completed, and nobody
// else touches that memory before: c10d's contract for a collective under way.
unsafe impl Send for Task {}

/// When a collective was last handed to the communication thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastSubmitted(Arc<Mutex<Option<Instant>>>);

impl LastSubmitted {
    pub(crate) fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// The queue in front of the communication thread. Collectives run in the order in which they were submitted, which is
/// the same on every rank.
struct Queue {
    last: LastSubmitted,
    sender: Option<mpsc::Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.sender.take());
        // The thread itself may be the last to hold the group; it then ends by itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join(); // panics of the collectives are caught in it
        }
    }
}

/// Starts the communication thread and gives the C++ side its hold on it. `last` is kept up to date.
pub(crate) fn start(mut collectives: Box<dyn HostCollectives>, last: LastSubmitted) -> crate::Result<ffi::Host> {
    let (sender, receiver) = mpsc::channel::<Task>();
    let thread = std::thread::Builder::new()
        .name("communication".to_owned())
        .spawn(move || {
            // Once they have panicked, nobody knows what state they are in, nor the ranks.
            let mut panicked: Option<String> = None;
            for task in receiver {
                let outcome = match &panicked {
                    Some(panic) => Err(panic.clone()),
                    None => {
                        // SAFETY: `work` came with the task, and is completed below.
                        let ready = unsafe { ffi::te_work_prepare(task.work) }.check("memory of a collective");
                        let run = AssertUnwindSafe(|| {
                            ready.map_err(|error| error.to_string())?;
                            if task.collective.on_device == 0 {
                                return run(collectives.as_mut(), &task.collective);
                            }
                            let on_device =
                                collectives.device_collectives().ok_or("these collectives know host memory only")?;
                            device_elements::run(on_device, &task.collective)
                        });
                        catch_unwind(run).unwrap_or_else(|payload| {
                            let panic = format!(
                                "the communication thread panicked in {}: {}",
                                name(task.collective.kind),
                                message(payload.as_ref())
                            );
                            // Dropping what was thrown may itself throw.
                            std::mem::forget(payload);
                            Err(panicked.insert(panic).clone())
                        })
                    }
                };
                let error = outcome.err().map(|text| CString::new(text.replace('\0', " ")).unwrap_or_default());
                let error = error.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
                // SAFETY: `work` came with the task and is completed once; `error` lives until after the call.
                unsafe { ffi::te_work_complete(task.work, error) }
            }
        })
        .map_err(|error| crate::Error::State { what: format!("the communication thread cannot start: {error}") })?;
    let queue = Box::new(Queue { last, sender: Some(sender), thread: Some(thread) });
    Ok(ffi::Host { context: Box::into_raw(queue).cast(), submit, release })
}

/// What a panic says.
fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

/// The collective numbered `kind`.
fn name(kind: i32) -> &'static str {
    match kind {
        ALL_REDUCE => "all-reduce",
        BROADCAST => "broadcast",
        ALL_GATHER => "all-gather",
        BARRIER => "barrier",
        _ => "a collective",
    }
}

/// Numbers of `te_kind`.
pub(crate) const ALL_REDUCE: i32 = 0;
pub(crate) const BROADCAST: i32 = 1;
pub(crate) const ALL_GATHER: i32 = 2;
const BARRIER: i32 = 3;

unsafe extern "C" fn submit(context: *mut c_void, collective: *const ffi::Collective, work: *mut ffi::Work) {
    // SAFETY: `context` is the queue of `start`, alive until `release`, and `Sync`; `collective` lives during this call.
    let (queue, collective) = unsafe { (&*context.cast::<Queue>(), *collective) };
    queue.last.note();
    let sent = queue.sender.as_ref().is_some_and(|sender| sender.send(Task { collective, work }).is_ok());
    if !sent {
        // SAFETY: the task was not taken, so the work is still ours to complete.
        unsafe { ffi::te_work_complete(work, c"the communication thread has ended".as_ptr()) }
    }
}

unsafe extern "C" fn release(context: *mut c_void) {
    // SAFETY: `context` is the box of `start`, and the C++ side releases it once, when nobody can submit any more.
    drop(unsafe { Box::from_raw(context.cast::<Queue>()) });
}

/// Numbers of `c10::ScalarType`.
pub(crate) mod scalar_type {
    pub const U8: i32 = 0;
    pub const I32: i32 = 3;
    pub const I64: i32 = 4;
    pub const F16: i32 = 5;
    pub const F32: i32 = 6;
    pub const F64: i32 = 7;
    pub const BF16: i32 = 15;
}

/// What an all-reduce reduces by.
pub(crate) fn op_of(collective: &ffi::Collective) -> Result<ReduceOp, String> {
    ReduceOp::from_number(collective.op).ok_or_else(|| format!("all-reduce: no reduction numbered {}", collective.op))
}

fn run(collectives: &mut dyn HostCollectives, collective: &ffi::Collective) -> Result<(), String> {
    /// The elements in the `bytes` at `data`; an empty tensor's pointer may be null.
    fn slice<'a, T>(data: *mut c_void, bytes: usize) -> Result<&'a mut [T], String> {
        let data = data.cast::<T>();
        if bytes == 0 {
            return Ok(&mut []);
        }
        if !data.is_aligned() || !bytes.is_multiple_of(size_of::<T>()) {
            return Err(format!(
                "a tensor of {bytes} bytes at {data:p} is not a row of {}",
                std::any::type_name::<T>()
            ));
        }
        // SAFETY: the shim checked that the tensor is contiguous, in host memory, and holds `bytes` of elements of this
        // type; the work keeps it alive and to ourselves until we complete it.
        Ok(unsafe { std::slice::from_raw_parts_mut(data, bytes / size_of::<T>()) })
    }
    let ffi::Collective { data, output, bytes, output_bytes, .. } = *collective;
    match collective.kind {
        ALL_REDUCE => {
            let elements = match collective.scalar_type {
                scalar_type::U8 => HostElements::U8(slice(data, bytes)?),
                scalar_type::I32 => HostElements::I32(slice(data, bytes)?),
                scalar_type::I64 => HostElements::I64(slice(data, bytes)?),
                scalar_type::F32 => HostElements::F32(slice(data, bytes)?),
                scalar_type::F64 => HostElements::F64(slice(data, bytes)?),
                scalar_type::F16 => HostElements::F16(slice(data, bytes)?),
                scalar_type::BF16 => HostElements::BF16(slice(data, bytes)?),
                other => return Err(format!("all-reduce: scalar type {other} cannot be reduced over host memory")),
            };
            collectives.all_reduce(elements, op_of(collective)?)
        }
        BROADCAST => collectives.broadcast(slice(data, bytes)?, collective.root as usize),
        ALL_GATHER => collectives.all_gather(slice::<u8>(data, bytes)?, slice(output, output_bytes)?),
        BARRIER => collectives.barrier(),
        other => Err(format!("no collective numbered {other}")),
    }
}
