//! Collectives over the memory of a device, for whoever can carry it from there.

use std::ffi::c_void;
use std::marker::PhantomData;

use crate::ffi;
use crate::host::{self, ReduceOp, scalar_type};

/// Numbers that lie on a device, one after the other: what they are only the device can tell.
#[derive(Debug)]
pub struct DeviceSlice<'a, T> {
    data: *mut T,
    length: usize,
    memory: PhantomData<&'a mut [T]>,
}

impl<T> DeviceSlice<'_, T> {
    /// Where they begin, in the addresses of the device.
    pub fn as_mut_ptr(&self) -> *mut T {
        self.data
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.length * size_of::<T>()
    }
}

/// The elements of an all-reduce, by their type: those that MPI can reduce. Of half precision a device's come to host memory.
#[derive(Debug)]
pub enum DeviceElements<'a> {
    /// Bytes.
    U8(DeviceSlice<'a, u8>),
    /// 32-bit integers.
    I32(DeviceSlice<'a, i32>),
    /// 64-bit integers.
    I64(DeviceSlice<'a, i64>),
    /// Single precision.
    F32(DeviceSlice<'a, f32>),
    /// Double precision.
    F64(DeviceSlice<'a, f64>),
}

impl DeviceElements<'_> {
    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::U8(elements) => elements.bytes(),
            Self::I32(elements) => elements.bytes(),
            Self::I64(elements) => elements.bytes(),
            Self::F32(elements) => elements.bytes(),
            Self::F64(elements) => elements.bytes(),
        }
    }
}

/// What connects the ranks where their devices' memory can be reached: as [`HostCollectives`](crate::HostCollectives), of the same ranks
/// and in one order with those.
pub trait DeviceCollectives {
    /// Replaces every element by the reduction of that element over all ranks.
    ///
    /// # Errors
    /// The reason as one line.
    fn all_reduce(&mut self, elements: DeviceElements<'_>, op: ReduceOp) -> Result<(), String>;
    /// Replaces `bytes` by those of rank `root`; equally long on every rank.
    ///
    /// # Errors
    /// The reason as one line.
    fn broadcast(&mut self, bytes: DeviceSlice<'_, u8>, root: usize) -> Result<(), String>;
    /// Collects the `input` of every rank, in rank order, in `output` of `size` times its bytes.
    ///
    /// # Errors
    /// The reason as one line.
    fn all_gather(&mut self, input: DeviceSlice<'_, u8>, output: DeviceSlice<'_, u8>) -> Result<(), String>;
}

pub(crate) fn run(collectives: &mut dyn DeviceCollectives, collective: &ffi::Collective) -> Result<(), String> {
    fn slice<'a, T>(data: *mut c_void, bytes: usize) -> DeviceSlice<'a, T> {
        DeviceSlice { data: data.cast(), length: bytes / size_of::<T>(), memory: PhantomData }
    }
    let ffi::Collective { data, output, bytes, output_bytes, .. } = *collective;
    match collective.kind {
        host::ALL_REDUCE => {
            let elements = match collective.scalar_type {
                scalar_type::U8 => DeviceElements::U8(slice(data, bytes)),
                scalar_type::I32 => DeviceElements::I32(slice(data, bytes)),
                scalar_type::I64 => DeviceElements::I64(slice(data, bytes)),
                scalar_type::F32 => DeviceElements::F32(slice(data, bytes)),
                scalar_type::F64 => DeviceElements::F64(slice(data, bytes)),
                other => return Err(format!("all-reduce: scalar type {other} is not reduced on a device")),
            };
            collectives.all_reduce(elements, host::op_of(collective)?)
        }
        host::BROADCAST => collectives.broadcast(slice(data, bytes), collective.root as usize),
        host::ALL_GATHER => collectives.all_gather(slice(data, bytes), slice(output, output_bytes)),
        other => Err(format!("no collective numbered {other} over a device's memory")),
    }
}
