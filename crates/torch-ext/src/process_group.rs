//! c10d's process group: the ranks that average gradients together.
#![expect(unsafe_code, reason = "calls the shim")]

use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use crate::cuda_library;
use crate::ffi::{self, handles};
use crate::host::{self, HostCollectives, LastSubmitted, ReduceOp};
use crate::tree_sum::tree_sum;
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
    /// Whether NCCL, which adds in whatever order is fast, only carries what sums are made of.
    sums_along_tree: bool,
}

impl ProcessGroup {
    /// A group over host memory. Collectives run on a thread of their own, in order, while backward computes on.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn host(collectives: Box<dyn HostCollectives>) -> Result<Self> {
        Self::over(collectives, Device::Cpu, false)
    }

    /// The same of tensors on CUDA device `index`, which travel through page-locked host memory, in streams of their own: where
    /// NCCL connects nobody, as between ranks that share a device.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn staged(collectives: Box<dyn HostCollectives>, index: usize) -> Result<Self> {
        Self::over(collectives, Device::Cuda(index), false)
    }

    /// The same of tensors on `device`, which `collectives` carry from there [by themselves](HostCollectives::device_collectives): a CUDA-aware
    /// MPI's. Sums of half precision go the way of [`staged`](Self::staged). On the CPU, too, so that tests need no device.
    ///
    /// # Errors
    /// What libtorch threw, or collectives that know host memory only.
    pub fn direct(mut collectives: Box<dyn HostCollectives>, device: Device) -> Result<Self> {
        if collectives.device_collectives().is_none() {
            return Err(Error::State { what: "these collectives know host memory only".to_owned() });
        }
        Self::over(collectives, device, true)
    }

    fn over(collectives: Box<dyn HostCollectives>, device: Device, direct: bool) -> Result<Self> {
        let (rank, size) = (collectives.rank(), collectives.size());
        let (own, all) = numbers(rank, size)?;
        let last_submitted = LastSubmitted::default();
        let host = host::start(collectives, last_submitted.clone())?;
        // SAFETY: `out` is written before a null message comes back; the shim owns `host` from here on.
        Self::new(rank, size, device, last_submitted, |out| unsafe {
            ffi::te_process_group_host(own, all, host, ffi::device_index(device), direct, out)
        })
    }

    /// A group over NCCL, of one rank for each CUDA device. All ranks use the same `store`; `device` becomes this
    /// process's current one. A collective that takes longer than `timeout` ends the process.
    ///
    /// # Errors
    /// What libtorch threw; [`Error::WithoutCuda`] where the CUDA half is not there.
    pub fn nccl(store: &Store, rank: usize, size: usize, device: usize, timeout: Duration) -> Result<Self> {
        let functions = cuda_library::functions("NCCL")?;
        let (own, all) = numbers(rank, size)?;
        // SAFETY: the store lives during the call, and the group takes its own reference; `out` as in `host`.
        Self::new(rank, size, Device::Cuda(device), LastSubmitted::default(), |out| unsafe {
            let timeout = timeout.as_millis() as i64;
            (functions.process_group_nccl)(store.raw(), own, all, ffi::cuda_index(device), timeout, out)
        })
    }

    /// The same ranks, of which there must be a power of two, with sums of floating-point numbers along one binary tree over them
    /// ([`HostCollectives`] choose the order of theirs themselves): the bits of what is also summed along a tree on each rank do not depend
    /// on the number of ranks then. The gradients that [`DistributedDataParallel`](crate::DistributedDataParallel) exchanges are not meant.
    ///
    /// # Panics
    /// Where the group has been cloned before.
    #[must_use]
    pub fn along_tree(mut self) -> Self {
        let inner = Rc::get_mut(&mut self.0).expect("a new group has no clone");
        inner.sums_along_tree = inner.device.is_cuda();
        self
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
        Ok(Self(Rc::new(Inner { raw, rank, size, device, last_submitted, sums_along_tree: false })))
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

    /// Replaces every element of `tensor` by its reduction over all ranks, and waits for it. Elements meet by their
    /// indices, however each rank's tensor lies in memory.
    ///
    /// # Errors
    /// What the communication reported, or a tensor that is not dense, that overlaps itself, or that is elsewhere than
    /// on the group's device.
    pub fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<()> {
        if self.0.sums_along_tree && op == ReduceOp::Sum && tensor.is_floating_point() {
            return self.begins().sum_along_tree(tensor);
        }
        // SAFETY: both live during the call, which waits until the collective is done.
        unsafe { ffi::te_process_group_allreduce(self.raw(), tensor.as_ptr(), op.number()) }.check("all-reduce")
    }

    /// What begins all-reduces in whatever thread, as backward's, and does not wait for them.
    pub fn begins(&self) -> Begins<'_> {
        Begins { raw: self.0.raw, size: self.0.size, sums_along_tree: self.0.sums_along_tree, group: PhantomData }
    }

    /// The `tensor` of every rank, in rank order, as one of one dimension more: size × shape, contiguous.
    ///
    /// # Errors
    /// What the communication reported, or a tensor that is not dense, or elsewhere than on the group's device.
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Tensor> {
        if !tensor.defined() {
            return Err(Error::Torch { call: "all-gather", message: "the tensor is undefined".to_owned() });
        }
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
        if root >= self.size() {
            return Err(Error::State { what: format!("there is no rank {root} of {} to broadcast", self.size()) });
        }
        if tensors.is_empty() || self.size() == 1 {
            return Ok(());
        }
        let handles = handles(tensors);
        // SAFETY: the handles are of tensors that live during the call, which waits until all are received.
        unsafe { ffi::te_broadcast_coalesced(self.raw(), handles.list(), BUFFER_BYTES, root as i32) }
            .check("broadcasting tensors")
    }

    /// Replaces the floating-point ones among `tensors` by their mean over all ranks, in one message: BatchNorm's
    /// running statistics before an evaluation, say. Others are left alone.
    ///
    /// # Errors
    /// What the communication reported.
    pub fn average(&self, tensors: &[Tensor]) -> Result<()> {
        let floating =
            |tensor: &&Tensor| matches!(tensor.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
        let tensors: Vec<_> = tensors.iter().filter(floating).map(Tensor::detach).collect();
        if tensors.is_empty() || self.size() == 1 {
            return Ok(());
        }
        // In single precision or better: half's sums would overflow, or lose what they are made of.
        let is_double = tensors.iter().any(|tensor| tensor.kind() == Kind::Double);
        let kind = if is_double { Kind::Double } else { Kind::Float };
        let flat = |tensor: &Tensor| tensor.f_to_kind(kind)?.f_reshape([-1]);
        let flat: Vec<_> = tensors.iter().map(flat).collect::<std::result::Result<_, _>>()?;
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
        let own = unsafe { ffi::te_verify_params_across_processes(self.raw(), handles.list()) }
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
        if self.device().is_cuda() {
            let call = "aborting the process group";
            // SAFETY: the group lives during the call.
            return unsafe { (cuda_library::functions(call)?.process_group_abort)(self.raw()) }.check(call);
        }
        Ok(())
    }

    pub(crate) fn raw(&self) -> *mut ffi::ProcessGroup {
        self.0.raw.as_ptr()
    }
}

/// Begins all-reduces of a group. Whatever thread it is in, all ranks call the same in the same order.
#[derive(Debug)]
pub struct Begins<'a> {
    raw: NonNull<ffi::ProcessGroup>,
    size: usize,
    sums_along_tree: bool,
    group: PhantomData<&'a ProcessGroup>,
}

// SAFETY: c10d's groups take collectives from any thread, one at a time: Reducer calls them in those of backward.
unsafe impl Send for Begins<'_> {}

impl Begins<'_> {
    /// Starts [`all_reduce`](ProcessGroup::all_reduce) of a contiguous tensor, and returns: nobody may touch it before it was waited for.
    ///
    /// # Errors
    /// What libtorch threw, or a tensor that is not contiguous, or elsewhere than on the group's device.
    pub fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<Pending> {
        if self.sums_along_tree && op == ReduceOp::Sum && tensor.is_floating_point() {
            // Over NCCL it is only begun: the device does it when it comes to it.
            return self.sum_along_tree(tensor).map(|()| Pending(None));
        }
        let mut raw = ptr::null_mut();
        // SAFETY: both live during the call; what it starts keeps the tensor's memory alive.
        unsafe { ffi::te_process_group_allreduce_begin(self.raw.as_ptr(), tensor.as_ptr(), op.number(), &raw mut raw) }
            .check("all-reduce")?;
        Ok(Pending(Some(NonNull::new(raw).ok_or_else(|| no_object("all-reduce"))?)))
    }

    /// Replaces `tensor` by its sum over all ranks, along a tree.
    fn sum_along_tree(&self, tensor: &Tensor) -> Result<()> {
        let all_to_all = |rows: &Tensor| {
            let received = rows.f_empty_like()?;
            // SAFETY: all live during the call; what it starts keeps their memory.
            unsafe { ffi::te_process_group_alltoall(self.raw.as_ptr(), received.as_ptr(), rows.as_ptr()) }
                .check("all-to-all")?;
            Ok(received)
        };
        let all_gather = |chunk: &Tensor| {
            let gathered = Tensor::f_empty([self.size as i64, chunk.numel() as i64], (chunk.kind(), chunk.device()))?;
            // SAFETY: as above.
            unsafe { ffi::te_process_group_allgather(self.raw.as_ptr(), gathered.as_ptr(), chunk.as_ptr()) }
                .check("all-gather")?;
            Ok(gathered)
        };
        tch::no_grad(|| {
            let sum = tree_sum(&tensor.f_reshape([-1])?, self.size, all_to_all, all_gather)?;
            tensor.shallow_clone().f_copy_(&sum.f_view_as(tensor)?)?;
            Ok(())
        })
    }
}

/// An all-reduce under way.
#[derive(Debug)]
#[must_use]
pub struct Pending(Option<NonNull<ffi::Pending>>);

// SAFETY: c10d's work objects may be waited for and let go of by any thread.
unsafe impl Send for Pending {}

impl Pending {
    /// Waits for it; over NCCL it is the device that does.
    ///
    /// # Errors
    /// What the communication reported.
    pub fn wait(self) -> Result<()> {
        // SAFETY: it lives during the call.
        self.0.map_or(Ok(()), |raw| unsafe { ffi::te_pending_wait(raw.as_ptr()) }.check("all-reduce"))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(raw) = self.0 {
            // SAFETY: it came from the shim and is freed once; what is under way has a reference of its own.
            unsafe { ffi::te_pending_free(raw.as_ptr()) }
        }
    }
}

/// A rank and the number of ranks, as libtorch counts them.
fn numbers(rank: usize, size: usize) -> Result<(i32, i32)> {
    match (i32::try_from(rank), i32::try_from(size)) {
        (Ok(own), Ok(all)) if rank < size => Ok((own, all)),
        _ => Err(Error::State { what: format!("a process group has no rank {rank} of {size}") }),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostElements;
    use crate::{MemoryFormat, set_memory_format};
    use std::sync::{Arc, Barrier, Mutex};

    type Desk = Arc<(Barrier, Mutex<[Vec<u8>; 2]>)>;

    fn desk() -> Desk {
        Arc::new((Barrier::new(2), Mutex::default()))
    }

    /// Two ranks, each a thread, which leave each other their bytes.
    struct Pair {
        rank: usize,
        desk: Desk,
        /// What panics.
        broken: Option<&'static str>,
    }

    impl Pair {
        /// The bytes of both ranks.
        fn exchange(&self, own: &[u8]) -> [Vec<u8>; 2] {
            let (barrier, bytes) = &*self.desk;
            bytes.lock().unwrap()[self.rank] = own.to_vec();
            barrier.wait();
            let both = bytes.lock().unwrap().clone();
            barrier.wait();
            both
        }
    }

    impl HostCollectives for Pair {
        fn rank(&self) -> usize {
            self.rank
        }
        fn size(&self) -> usize {
            2
        }
        fn all_reduce(&mut self, elements: HostElements<'_>, _: ReduceOp) -> std::result::Result<(), String> {
            assert_ne!(self.broken, Some("all-reduce"), "no way to the others");
            let HostElements::F32(elements) = elements else { return Err("only f32".to_owned()) };
            let own: Vec<u8> = elements.iter().flat_map(|number| number.to_ne_bytes()).collect();
            let theirs = self.exchange(&own).map(|bytes| {
                bytes.chunks(4).map(|four| f32::from_ne_bytes(four.try_into().unwrap())).collect::<Vec<_>>()
            });
            elements.iter_mut().enumerate().for_each(|(at, number)| *number = theirs[0][at] + theirs[1][at]);
            Ok(())
        }
        fn broadcast(&mut self, bytes: &mut [u8], root: usize) -> std::result::Result<(), String> {
            bytes.copy_from_slice(&self.exchange(bytes)[root]);
            Ok(())
        }
        fn all_gather(&mut self, input: &[u8], output: &mut [u8]) -> std::result::Result<(), String> {
            output.copy_from_slice(&self.exchange(input).concat());
            Ok(())
        }
        fn barrier(&mut self) -> std::result::Result<(), String> {
            if self.broken == Some("barrier") {
                std::panic::panic_any(7);
            }
            self.exchange(&[]);
            Ok(())
        }
    }

    /// Runs `test` on both ranks.
    fn on_both(broken: Option<&'static str>, test: impl Fn(&ProcessGroup) + Sync) {
        let desk = desk();
        std::thread::scope(|scope| {
            for rank in 0..2 {
                let (desk, test) = (Arc::clone(&desk), &test);
                scope.spawn(move || test(&ProcessGroup::host(Box::new(Pair { rank, desk, broken })).unwrap()));
            }
        });
    }

    /// Numbers that tell their place and rank, in several orders in memory: contiguous, channels last, transposed, with
    /// gaps, at an offset, of one element, of none.
    fn tensors(rank: usize, kind: Kind) -> Vec<(&'static str, Tensor)> {
        let count = |shape: &[i64]| {
            let all = shape.iter().product::<i64>();
            (Tensor::arange(all, (Kind::Int64, Device::Cpu)) + 100 * rank as i64).to_kind(kind).view(shape)
        };
        let channels_last = count(&[2, 3, 2, 2]);
        set_memory_format(&[channels_last.shallow_clone()], MemoryFormat::ChannelsLast).unwrap();
        vec![
            ("contiguous", count(&[2, 3])),
            ("channels last", channels_last),
            ("transposed", count(&[3, 4]).transpose(0, 1)),
            ("with gaps", count(&[4, 6]).narrow(1, 1, 3)),
            ("every second", count(&[8]).slice(0, 0, None, 2)),
            ("at an offset", count(&[10]).narrow(0, 3, 4)),
            ("one number", count(&[1]).view([0i64; 0])),
            ("no number", count(&[0, 3])),
        ]
    }

    #[test]
    fn elements_meet_by_their_indices_however_they_lie_in_memory() {
        for kind in [Kind::Float, Kind::Double, Kind::Int, Kind::Bool, Kind::BFloat16, Kind::Uint8] {
            on_both(None, |group| {
                let all = [0, 1].map(|rank| tensors(rank, kind));
                for (place, (name, tensor)) in tensors(group.rank(), kind).into_iter().enumerate() {
                    let gathered = group.all_gather(&tensor).unwrap();
                    for (rank, of_rank) in all.iter().enumerate() {
                        assert!(gathered.get(rank as i64).equal(&of_rank[place].1), "gathered {name} {kind:?}");
                    }
                    group.broadcast(&[tensor.shallow_clone()], 1).unwrap();
                    assert!(tensor.equal(&all[1][place].1), "broadcast {name} {kind:?}");
                }
                let many: Vec<_> = tensors(group.rank(), kind).into_iter().map(|(_, tensor)| tensor).collect();
                group.broadcast(&many, 0).unwrap();
                assert!(many.iter().zip(&all[0]).all(|(got, (_, expected))| got.equal(expected)));
            });
        }
        on_both(None, |group| {
            let all = [0, 1].map(|rank| tensors(rank, Kind::Float));
            for (place, (name, tensor)) in tensors(group.rank(), Kind::Float).into_iter().enumerate() {
                let sum = &all[0][place].1 + &all[1][place].1;
                group.all_reduce(&tensor, ReduceOp::Sum).unwrap();
                assert!(tensor.equal(&sum), "reduced {name}");
            }
            for kind in [Kind::Float, Kind::BFloat16] {
                let own: Vec<_> = tensors(group.rank(), kind).into_iter().map(|(_, tensor)| tensor).collect();
                group.average(&own).unwrap();
                let all = [0, 1].map(|rank| tensors(rank, kind));
                for (place, own) in own.iter().enumerate() {
                    let mean = (all[0][place].1.to_kind(Kind::Float) + all[1][place].1.to_kind(Kind::Float)) / 2.0;
                    assert!(own.equal(&mean.to_kind(kind)), "average of {} {kind:?}", all[0][place].0);
                }
            }
            // The two ranks need not even lie alike.
            let tensor = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]);
            let tensor = if group.rank() == 0 { tensor } else { tensor.transpose(0, 1).contiguous().transpose(0, 1) };
            group.all_reduce(&tensor, ReduceOp::Sum).unwrap();
            assert!(tensor.equal(&(Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]) * 2.0)));
        });
    }

    #[test]
    fn what_was_begun_is_there_when_it_was_waited_for() {
        on_both(None, |group| {
            let row = Tensor::arange(10, (Kind::Float, Device::Cpu)) + group.rank() as f64;
            let begin = |from, length| group.begins().all_reduce(&row.narrow(0, from, length), ReduceOp::Sum).unwrap();
            let pending = [begin(7, 3), begin(1, 6)];
            pending.into_iter().for_each(|pending| pending.wait().unwrap());
            let sum = Tensor::arange(10, (Kind::Float, Device::Cpu)) * 2.0 + 1.0;
            assert!(row.narrow(0, 1, 9).equal(&sum.narrow(0, 1, 9)), "{row}");
            assert_eq!(row.double_value(&[0]), group.rank() as f64, "what was not sent");
            let refused = group.begins().all_reduce(&row.slice(0, 0, None, 2), ReduceOp::Sum).unwrap_err();
            assert!(refused.to_string().contains("not contiguous"), "{refused}");
        });
    }

    #[test]
    fn what_cannot_travel_is_refused_before_anything_is_sent() {
        let group = ProcessGroup::host(Box::new(Pair { rank: 0, desk: desk(), broken: None })).unwrap();
        let one = Tensor::ones([1], (Kind::Float, Device::Cpu));
        let sparse = Tensor::eye(3, (Kind::Float, Device::Cpu)).to_sparse(None, None::<i64>, None);
        for (tensor, words) in [
            (
                one.expand([4], false),
                "more than one element of the written-to tensor refers to a single memory location",
            ),
            (Tensor::new(), "undefined"),
            (sparse, "not dense"),
        ] {
            let refused = group.all_reduce(&tensor, ReduceOp::Sum).unwrap_err();
            assert!(refused.to_string().contains(words), "{refused}");
            assert!(group.broadcast(&[tensor], 0).is_err());
        }
        assert!(group.all_gather(&Tensor::new()).unwrap_err().to_string().contains("undefined"));
        assert!(group.broadcast(&[one], 2).unwrap_err().to_string().contains("no rank 2 of 2"));
        let vector = |length: i64| Tensor::ones([length], (Kind::Float, Device::Cpu));
        for (channels, numbers) in [(0, 0), (3, 2)] {
            let (weight, few) = (vector(channels), vector(numbers));
            let layer = crate::BatchNorm {
                weight: &weight,
                bias: &few,
                running_mean: &few,
                running_var: &few,
                momentum: 0.1,
                epsilon: 1e-5,
            };
            let input = Tensor::ones([2, channels, 2, 2], (Kind::Float, Device::Cpu));
            let refused = crate::SyncBatchNorm::new(&group).forward(&layer, &input).unwrap_err();
            assert!(refused.to_string().contains("channels"), "{refused}");
        }
    }

    #[test]
    fn a_panic_of_the_collectives_fails_what_is_under_way_and_all_that_follows() {
        std::panic::set_hook(Box::new(|_| {}));
        for (broken, words) in [
            ("all-reduce", "the communication thread panicked in all-reduce: assertion `left != right` failed: no way"),
            ("barrier", "the communication thread panicked in barrier: a panic without a message"),
        ] {
            on_both(Some(broken), |group| {
                let tensor = Tensor::ones([3], (Kind::Float, Device::Cpu));
                let first = match broken {
                    "barrier" => group.barrier(),
                    _ => group.all_reduce(&tensor, ReduceOp::Sum),
                };
                assert!(first.as_ref().unwrap_err().to_string().contains(words), "{first:?}");
                let later = [group.barrier(), group.all_gather(&tensor).map(drop), group.broadcast(&[tensor], 0)];
                for later in later {
                    assert!(later.as_ref().unwrap_err().to_string().contains(words), "{later:?}");
                }
            });
        }
        let _ = std::panic::take_hook();
    }
}
