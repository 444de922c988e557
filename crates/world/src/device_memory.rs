//! Collectives over the memory of a device, which an MPI that is made for it ("CUDA-aware") reads and writes by itself.
#![expect(unsafe_code, reason = "gives MPI memory for as long as a collective takes")]

use std::ffi::c_int;

use mpi::{Gpu, Reduction};

use crate::call::{Call, Kind};
use crate::channel::{LARGEST_COUNT, pieces};
use crate::error::Result;
use crate::{Channel, Reducible, World};

impl World {
    /// Whether the MPI of every rank says that it reads and writes the memory of such GPUs. Collective.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    pub fn mpi_reaches(&self, gpu: Gpu) -> Result<bool> {
        let mut all = [u8::from(mpi::opened().is_some_and(|mpi| mpi.reaches(gpu)))];
        self.control().all_reduce(&mut all, Reduction::Min)?;
        Ok(all != [0])
    }
}

impl Channel {
    /// As [`all_reduce`](Self::all_reduce), of elements that MPI can reach and this program need not.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    ///
    /// # Safety
    /// `data` points to `count` elements that this MPI reads and writes, and that are left alone until this returns.
    pub unsafe fn all_reduce_at<T: Reducible>(&self, data: *mut T, count: usize, reduction: Reduction) -> Result<()> {
        for (start, count) in pieces(count, LARGEST_COUNT) {
            let call = Call { kind: Kind::AllReduce(reduction), element: T::ELEMENT, count };
            // Blocking, however short: MPIs that reach a device's memory need not do so in their non-blocking reductions.
            self.run_blocking(call, "MPI_Allreduce", || {
                // SAFETY: by the caller, until the call returns.
                unsafe { self.communicator().all_reduce(data.add(start).cast(), count as c_int, T::ELEMENT, reduction) }
            })?;
        }
        Ok(())
    }

    /// As [`broadcast`](Self::broadcast), of elements that MPI can reach and this program need not.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    ///
    /// # Safety
    /// As [`all_reduce_at`](Self::all_reduce_at).
    pub unsafe fn broadcast_at<T: Reducible>(&self, data: *mut T, count: usize, root: usize) -> Result<()> {
        // SAFETY: by the caller.
        unsafe { self.broadcast_within_at(data, count, root, None) }
    }
}
