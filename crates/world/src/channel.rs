//! Collectives over host memory, each with a time-out and with MPI's return codes as errors.
#![expect(unsafe_code, reason = "gives MPI memory for as long as a collective takes")]

use std::ffi::c_int;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mpi::{Communicator, Element, Handle, Reduction, mpi};

use crate::call::{Call, Kind};
use crate::collective_matching::CollectiveMatching;
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::mpi_error::{check, failed};
use crate::wait::{WaitLimit, wait};
use crate::watchdog::watch;
use crate::{farewell, progress, stop};

mod sealed {
    /// MPI's name for a Rust type.
    pub trait Sealed: Copy + Default {
        const ELEMENT: mpi::Element;
    }
}

/// Numbers that MPI can send and reduce.
pub trait Reducible: sealed::Sealed {}

macro_rules! reducible {
    ($($number:ty => $element:ident;)*) => {
        $(
            impl Reducible for $number {}
            impl sealed::Sealed for $number {
                const ELEMENT: Element = Element::$element;
            }
        )*
    };
}

reducible! {
    u8 => U8;
    i32 => I32;
    i64 => I64;
    u64 => U64;
    f32 => F32;
    f64 => F64;
}

/// Half-precision numbers, which MPI does not know: they are reduced in single precision.
pub trait HalfFloat: Copy {
    /// The same number in single precision.
    fn to_f32(self) -> f32;
    /// The nearest number in half precision.
    fn from_f32(number: f32) -> Self;
}

macro_rules! half_float {
    ($($number:ty),*) => {
        $(
            impl HalfFloat for $number {
                fn to_f32(self) -> f32 {
                    self.to_f32()
                }
                fn from_f32(number: f32) -> Self {
                    Self::from_f32(number)
                }
            }
        )*
    };
}

half_float!(half::f16, half::bf16);

/// Half-precision numbers that are widened at a time: bounds the memory that this takes.
const HALF_PIECE: usize = 4 << 20;

/// MPI counts in C's `int`: longer messages go in pieces of at most this many elements.
pub(crate) const LARGEST_COUNT: usize = 1 << 30;

/// Broadcasts go in pieces of at most this many elements, each with a time-out of its own: a checkpoint of gigabytes may
/// take a slow network longer than one.
const BROADCAST_PIECE: usize = 64 << 20;

/// The start and length of each piece of at most `longest` of so many elements.
pub(crate) fn pieces(count: usize, longest: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).step_by(longest).map(move |start| (start, (count - start).min(longest)))
}

/// All-reduces from this size on run as MPI's blocking call, whose algorithms are up to twice as fast as those of the
/// non-blocking one (Open MPI 4.1). It may block, because all ranks have met before and a watchdog looks after it.
const BLOCKING_BYTES: usize = 64 << 10;

/// The longest back-off while waiting in a collective that all ranks are expected to enter at about the same time.
const COLLECTIVE_BACK_OFF: Duration = Duration::from_micros(500);

/// A communicator of its own: messages of one channel never meet those of another. Every rank of the channel must call
/// the same collectives in the same order, from one thread at a time.
///
/// Before any data moves the ranks meet and compare what they call: a rank that stays away or calls another collective is
/// named. After a time-out the ranks are out of step: every later call is refused, and the only way on is to end the job.
pub struct Channel {
    communicator: Communicator,
    name: &'static str,
    rank: usize,
    size: usize,
    timeout: Duration,
    collective_matching: Arc<Mutex<CollectiveMatching>>,
}

// SAFETY: a communicator is a handle that any thread may use under MPI_THREAD_MULTIPLE, which `World::init` demands. The
// channel is not `Sync`, so it is one thread at a time.
unsafe impl Send for Channel {}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({}, rank {} of {})", self.name, self.rank, self.size)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        progress::forget(&self.collective_matching);
        farewell::retire(&self.collective_matching);
    }
}

impl Channel {
    /// A channel of the ranks of `communicator`. `labels` name them, in order: "rank 2 on n1".
    pub(crate) fn new(
        communicator: &Communicator,
        name: &'static str,
        timeout: Duration,
        labels: Vec<String>,
    ) -> Result<Self> {
        let (rank, size) = (communicator.rank(), communicator.size());
        let matching = CollectiveMatching::new(communicator.duplicate().map_err(failed)?, rank, labels);
        let collective_matching = Arc::new(Mutex::new(matching));
        Ok(Self {
            communicator: communicator.duplicate().map_err(failed)?,
            name,
            rank,
            size,
            timeout,
            collective_matching,
        })
    }

    pub(crate) fn duplicate(&self, name: &'static str, timeout: Duration) -> Result<Self> {
        self.barrier()?; // names who stays away, which MPI_Comm_dup cannot
        let labels = lock(&self.collective_matching).labels().to_vec();
        Self::new(&self.communicator, name, timeout, labels)
    }

    /// What it runs over.
    pub(crate) fn communicator(&self) -> &Communicator {
        &self.communicator
    }

    /// From here on whoever waits in this channel hears what this rank [`report`](crate::report)s.
    pub(crate) fn hear_reports(&self) {
        progress::listen(&self.collective_matching, self.timeout);
    }

    /// Names the ranks once their hosts are known.
    pub(crate) fn relabel(&self, labels: Vec<String>) {
        lock(&self.collective_matching).relabel(labels);
    }

    /// This rank in the channel, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of ranks in the channel.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How long a collective waits for other ranks that say nothing before it gives up.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Replaces every element by its reduction over all ranks.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    pub fn all_reduce<T: Reducible>(&self, elements: &mut [T], reduction: Reduction) -> Result<()> {
        self.all_reduce_within(elements, reduction, None)
    }

    /// As [`all_reduce`](Self::all_reduce), after work: `timeout` says what the others wait for.
    pub(crate) fn all_reduce_within<T: Reducible>(
        &self,
        elements: &mut [T],
        reduction: Reduction,
        limit: Option<&WaitLimit<'_>>,
    ) -> Result<()> {
        for chunk in elements.chunks_mut(LARGEST_COUNT) {
            let call = Call { kind: Kind::AllReduce(reduction), element: T::ELEMENT, count: chunk.len() };
            let (data, count) = (chunk.as_mut_ptr().cast(), chunk.len() as c_int);
            if size_of_val(chunk) >= BLOCKING_BYTES {
                self.run_blocking(call, "MPI_Allreduce", || {
                    // SAFETY: `chunk` is borrowed until the call returns, and holds that many elements of that type.
                    unsafe { self.communicator.all_reduce(data, count, T::ELEMENT, reduction) }
                })?;
                continue;
            }
            self.run_within(call, "MPI_Iallreduce", limit, |request| {
                // SAFETY: `chunk` is borrowed until the request is done, and holds that many elements of that type.
                unsafe { self.communicator.start_all_reduce(data, count, T::ELEMENT, reduction, request) }
            })?;
        }
        Ok(())
    }

    /// `MPI_Allreduce` as a C program would call it: no matching before it, no time-out, no watchdog. To measure what these
    /// cost; nothing else may use it.
    ///
    /// # Errors
    /// What MPI reported.
    pub fn bare_all_reduce<T: Reducible>(&self, elements: &mut [T], reduction: Reduction) -> Result<()> {
        let (data, count) = (elements.as_mut_ptr().cast(), elements.len() as c_int);
        // SAFETY: the elements are borrowed until the call returns, and are that many of that type.
        check("MPI_Allreduce", unsafe { self.communicator.all_reduce(data, count, T::ELEMENT, reduction) })
    }

    /// As [`all_reduce`](Self::all_reduce), for half precision: added up in single precision and rounded once.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    pub fn all_reduce_half<T: HalfFloat>(&self, elements: &mut [T], reduction: Reduction) -> Result<()> {
        let mut wide = Vec::with_capacity(elements.len().min(HALF_PIECE));
        for piece in elements.chunks_mut(HALF_PIECE) {
            wide.clear();
            wide.extend(piece.iter().map(|number| number.to_f32()));
            self.all_reduce(&mut wide, reduction)?;
            piece.iter_mut().zip(&wide).for_each(|(number, &sum)| *number = T::from_f32(sum));
        }
        Ok(())
    }

    /// Replaces `elements` by those of rank `root`; equally many on every rank.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    pub fn broadcast<T: Reducible>(&self, elements: &mut [T], root: usize) -> Result<()> {
        self.broadcast_within(elements, root, None)
    }

    /// As [`broadcast`](Self::broadcast), for what takes the root long: `timeout` says what the others wait for.
    pub(crate) fn broadcast_within<T: Reducible>(
        &self,
        elements: &mut [T],
        root: usize,
        limit: Option<&WaitLimit<'_>>,
    ) -> Result<()> {
        // SAFETY: the elements are borrowed until it returns.
        unsafe { self.broadcast_within_at(elements.as_mut_ptr(), elements.len(), root, limit) }
    }

    /// As [`broadcast_within`](Self::broadcast_within), wherever the elements lie.
    ///
    /// # Safety
    /// `data` points to `count` elements that MPI reads and writes, and that are left alone until this returns.
    pub(crate) unsafe fn broadcast_within_at<T: Reducible>(
        &self,
        data: *mut T,
        count: usize,
        root: usize,
        limit: Option<&WaitLimit<'_>>,
    ) -> Result<()> {
        for (start, count) in pieces(count, BROADCAST_PIECE) {
            let call = Call { kind: Kind::Broadcast { root }, element: T::ELEMENT, count };
            self.run_within(call, "MPI_Ibcast", limit, |request| {
                // SAFETY: by the caller, until the request is done.
                unsafe {
                    self.communicator.start_broadcast(data.add(start).cast(), count as c_int, T::ELEMENT, root, request)
                }
            })?;
        }
        Ok(())
    }

    /// Gives every rank the bytes of rank `root`, however many they are.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    pub fn broadcast_bytes(&self, bytes: &mut Vec<u8>, root: usize) -> Result<()> {
        let mut length = [bytes.len() as u64];
        self.broadcast(&mut length, root)?;
        bytes.resize(length[0] as usize, 0);
        self.broadcast(bytes, root)
    }

    /// Collects the elements of every rank, in rank order; equally many on every rank.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    pub fn all_gather<T: Reducible>(&self, elements: &[T]) -> Result<Vec<T>> {
        let mut gathered = vec![T::default(); elements.len() * self.size];
        self.all_gather_into(elements, &mut gathered)?;
        Ok(gathered)
    }

    /// Collects the elements of every rank, in rank order, in `gathered` of `size × elements.len()`.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    ///
    /// # Panics
    /// If `gathered` has another length.
    pub fn all_gather_into<T: Reducible>(&self, elements: &[T], gathered: &mut [T]) -> Result<()> {
        assert_eq!(gathered.len(), elements.len() * self.size, "room for the elements of every rank");
        // SAFETY: both slices are borrowed until it returns; `gathered` has room for every rank's elements.
        unsafe { self.all_gather_at(elements.as_ptr(), gathered.as_mut_ptr(), elements.len()) }
    }

    /// As [`all_gather_into`](Self::all_gather_into), wherever the elements lie.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    ///
    /// # Safety
    /// `data` points to `count` elements, `gathered` to so many of every rank, that MPI reads and writes; both are left alone until
    /// this returns.
    pub unsafe fn all_gather_at<T: Reducible>(&self, data: *const T, gathered: *mut T, count: usize) -> Result<()> {
        if count == 0 {
            return Ok(()); // an empty slice points nowhere, which Open MPI takes for MPI_IN_PLACE
        }
        let countable = c_int::try_from(count).map_err(|_| Error::Mpi {
            call: "MPI_Iallgather",
            message: format!("{count} elements are more than MPI can count"),
        })?;
        let call = Call { kind: Kind::AllGather, element: T::ELEMENT, count };
        self.run(call, "MPI_Iallgather", |request| {
            // SAFETY: by the caller, until the request is done.
            unsafe { self.communicator.start_all_gather(data.cast(), gathered.cast(), countable, T::ELEMENT, request) }
        })
    }

    /// Collects one text of every rank, in rank order. For short texts: each travels padded to the longest.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    pub fn all_gather_text(&self, text: &str) -> Result<Vec<String>> {
        let lengths = self.all_gather(&[text.len() as u64])?;
        let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
        let mut padded = vec![0u8; longest];
        padded[..text.len()].copy_from_slice(text.as_bytes());
        let gathered = self.all_gather(&padded)?;
        let text_of = |(rank, length): (usize, &u64)| {
            String::from_utf8_lossy(&gathered[rank * longest..][..*length as usize]).into_owned()
        };
        Ok(lengths.iter().enumerate().map(text_of).collect())
    }

    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// A rank that did not come in time, or what MPI reported.
    pub fn barrier(&self) -> Result<()> {
        let call = Call { kind: Kind::Barrier, element: Element::U8, count: 0 };
        self.run(call, "MPI_Ibarrier", |request| {
            // SAFETY: the communicator is valid.
            unsafe { self.communicator.start_barrier(request) }
        })
    }

    fn run(&self, call: Call, mpi_call: &'static str, start: impl FnOnce(&mut Handle) -> c_int) -> Result<()> {
        self.run_within(call, mpi_call, None, start)
    }

    /// Meets the others, then starts a non-blocking collective and waits for its end.
    fn run_within(
        &self,
        call: Call,
        mpi_call: &'static str,
        limit: Option<&WaitLimit<'_>>,
        start: impl FnOnce(&mut Handle) -> c_int,
    ) -> Result<()> {
        let what = || self.describe(call);
        let own = self.wait_limit(&what);
        let limit = limit.unwrap_or(&own);
        self.refuse_if_broken(limit.what)?;
        let mut collective_matching = lock(&self.collective_matching);
        collective_matching.meet(call, limit)?;
        let mut request = mpi().request();
        check(mpi_call, start(&mut request))?;
        wait(&mut request, mpi_call, limit, &mut collective_matching)
    }

    /// Meets the others, then does what a call consists of that MPI has no function for.
    pub(crate) fn meet_for(
        &self,
        call: Call,
        run: impl FnOnce(&Mutex<CollectiveMatching>, &WaitLimit<'_>) -> Result<()>,
    ) -> Result<()> {
        let what = || self.describe(call);
        self.refuse_if_broken(&what)?;
        let limit = self.wait_limit(&what);
        lock(&self.collective_matching).meet(call, &limit)?;
        run(&self.collective_matching, &limit)
    }

    /// Meets the others, then runs a blocking collective under the eyes of the watchdog.
    pub(crate) fn run_blocking(&self, call: Call, mpi_call: &'static str, run: impl FnOnce() -> c_int) -> Result<()> {
        let what = || self.describe(call);
        self.refuse_if_broken(&what)?;
        lock(&self.collective_matching).meet(call, &self.wait_limit(&what))?;
        let _watch = watch(call, self.name, self.timeout, &self.collective_matching);
        check(mpi_call, run())
    }

    fn wait_limit<'a>(&self, what: &'a dyn Fn() -> String) -> WaitLimit<'a> {
        WaitLimit { what, timeout: self.timeout, longest_back_off: COLLECTIVE_BACK_OFF }
    }

    fn describe(&self, call: Call) -> String {
        format!("{call} of channel {}", self.name)
    }

    fn refuse_if_broken(&self, what: &dyn Fn() -> String) -> Result<()> {
        if stop::is_broken() { Err(Error::Broken { what: what() }) } else { Ok(()) }
    }
}
