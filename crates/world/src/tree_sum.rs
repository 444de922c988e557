//! Sums over ranks whose bits do not depend on how many ranks there are: added up along one binary tree.
//!
//! ```text
//! ranks   0   1   2   3            a power of two of them
//!          \ /     \ /
//!          0+1     2+3             the same as where ranks 0 and 1 are one that has added its two parts, and so are 2 and 3
//!            \     /
//!          (0+1)+(2+3)
//! ```
//!
//! Neighbours swap halves of what they have and add, then those at distance 2 the halves of that, and so on; then everything goes back the
//! same way. Each number travels as often as in a ring: 2·(1 − 1/ranks) times.
#![expect(unsafe_code, reason = "sends and receives through MPI's C interface")]

use std::ffi::c_int;
use std::ops::{AddAssign, Range};
use std::sync::Mutex;

use mpi::mpi;

use crate::call::{Call, Kind};
use crate::channel::{Channel, LARGEST_COUNT, Reducible};
use crate::collective_matching::CollectiveMatching;
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::mpi_error::check;
use crate::wait::{WaitLimit, wait};

/// Messages of a meeting and letters have other tags.
const TAG: c_int = 3;

/// Numbers that are added up along a tree.
pub trait Summand: Reducible + AddAssign {}

impl Summand for f32 {}
impl Summand for f64 {}

impl Channel {
    /// Replaces every element by its sum over all ranks, added up along a binary tree: of a number of ranks that is a power of two. Where each
    /// rank has summed its own aligned part of a longer row of summands along the same tree, the bits are those of any other number of ranks.
    ///
    /// # Errors
    /// A number of ranks that is no power of two, a rank that did not come in time, or what MPI reported.
    pub fn tree_sum<T: Summand>(&self, elements: &mut [T]) -> Result<()> {
        if !self.size().is_power_of_two() {
            let message = format!("{} ranks are no power of two, as sums along a tree want it", self.size());
            return Err(Error::Mpi { call: "a sum along a tree", message });
        }
        for chunk in elements.chunks_mut(LARGEST_COUNT) {
            let call = Call { kind: Kind::TreeSum, element: T::ELEMENT, count: chunk.len() };
            self.meet_for(call, |matching, limit| self.sum_chunk(chunk, matching, limit))?;
        }
        Ok(())
    }

    fn sum_chunk<T: Summand>(
        &self,
        chunk: &mut [T],
        matching: &Mutex<CollectiveMatching>,
        limit: &WaitLimit<'_>,
    ) -> Result<()> {
        let mut matching = lock(matching);
        let mut exchange = |sent: *const T, send: usize, received: *mut T, receive: usize, partner: usize| {
            let (mut sending, mut receiving) = (mpi().request(), mpi().request());
            // SAFETY: by the callers below, both pieces are of so many elements, apart from each other, and left alone until the
            // requests are done, or, after an error, for ever: no collective works any more then, and the job ends.
            unsafe {
                let communicator = self.communicator();
                if receive > 0 {
                    let count = receive as c_int;
                    let code =
                        communicator.start_receive(received.cast(), count, T::ELEMENT, partner, TAG, &mut receiving);
                    check("MPI_Irecv", code)?;
                }
                if send > 0 {
                    let count = send as c_int;
                    check(
                        "MPI_Isend",
                        communicator.start_send(sent.cast(), count, T::ELEMENT, partner, TAG, &mut sending),
                    )?;
                }
            }
            if receive > 0 {
                wait(&mut receiving, "MPI_Irecv", limit, &mut matching)?;
            }
            if send > 0 {
                wait(&mut sending, "MPI_Isend", limit, &mut matching)?;
            }
            Ok(())
        };
        let mut theirs = vec![T::default(); chunk.len().div_ceil(2)];
        let mut own = 0..chunk.len();
        let mut before = Vec::new();
        let mut distance = 1;
        while distance < self.size() {
            let (kept, given) = halves(&own, self.rank() & distance != 0);
            let mut sum = || -> Result<()> {
                let sent = chunk[given.clone()].as_ptr();
                exchange(sent, given.len(), theirs.as_mut_ptr(), kept.len(), self.rank() ^ distance)
            };
            if let Err(error) = sum() {
                std::mem::forget(theirs); // MPI may still write there
                return Err(error);
            }
            chunk[kept.clone()].iter_mut().zip(&theirs).for_each(|(own, &their)| *own += their);
            before.push(own);
            own = kept;
            distance *= 2;
        }
        for (level, whole) in before.into_iter().enumerate().rev() {
            let (kept, given) = halves(&whole, self.rank() >> level & 1 != 0);
            debug_assert_eq!(kept, own);
            let data = chunk.as_mut_ptr();
            // SAFETY: both are ranges of the chunk.
            let (sent, received) = unsafe { (data.add(kept.start), data.add(given.start)) };
            exchange(sent.cast_const(), kept.len(), received, given.len(), self.rank() ^ 1 << level)?;
            own = whole;
        }
        Ok(())
    }
}

/// The half of a range that a rank sums, and the one that its partner does.
fn halves(range: &Range<usize>, is_upper: bool) -> (Range<usize>, Range<usize>) {
    let middle = range.start + range.len() / 2;
    let (lower, upper) = (range.start..middle, middle..range.end);
    if is_upper { (upper, lower) } else { (lower, upper) }
}
