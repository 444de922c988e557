//! PyTorch's DistributedDataParallel: gradients are averaged over all ranks while backward computes the next ones.
#![expect(unsafe_code, reason = "calls the shim")]

use std::cell::OnceCell;
use std::ffi::CString;
use std::ptr::{self, NonNull};

use tch::{Kind, Tensor};

use crate::each::drop_gradients;
use crate::ffi::{self, handles};
use crate::process_group::no_object;
use crate::replicas::{self, Difference};
use crate::{Error, ProcessGroup, Result};

/// How gradients are put in buckets, and how they travel.
#[derive(Clone, Debug)]
pub struct DdpConfig {
    /// Bytes of gradients that travel together.
    pub bucket_bytes: usize,
    /// Bytes of the first bucket: small, so that the first message leaves early.
    pub first_bucket_bytes: usize,
    /// Looks, after every forward pass, for parameters that took no part in it on this rank, so that nobody waits for
    /// their gradients. It costs a walk through the graph and a small all-reduce each step.
    pub find_unused_parameters: bool,
    /// Every step uses the same parameters in the same order: buckets follow that order even where parameters are
    /// unused, and nothing is searched after the first step.
    pub static_graph: bool,
    /// Sends gradients as [`Kind::Half`] or [`Kind::BFloat16`], divided by the number of ranks first; `None` sends them
    /// as they are.
    pub compression: Option<Kind>,
    /// Puts gradients in buckets on the only rank of a group, too, where nobody waits for them: for tests.
    pub even_alone: bool,
}

impl Default for DdpConfig {
    fn default() -> Self {
        Self {
            bucket_bytes: 25 << 20, // as PyTorch
            first_bucket_bytes: 1 << 20,
            find_unused_parameters: false,
            static_graph: false,
            compression: None,
            even_alone: false,
        }
    }
}

/// What a forward pass gives: the tensors among it that backward starts from.
pub trait Outputs {
    /// Those tensors.
    fn tensors(&self) -> Vec<Tensor>;
}

impl Outputs for Tensor {
    fn tensors(&self) -> Vec<Tensor> {
        vec![self.shallow_clone()]
    }
}

impl Outputs for Vec<Tensor> {
    fn tensors(&self) -> Vec<Tensor> {
        self.iter().map(Tensor::shallow_clone).collect()
    }
}

/// A pass that failed has none.
impl<T: Outputs, E> Outputs for std::result::Result<T, E> {
    fn tensors(&self) -> Vec<Tensor> {
        self.as_ref().map_or_else(|_| Vec::new(), Outputs::tensors)
    }
}

impl<T: Outputs, U: Outputs> Outputs for (T, U) {
    fn tensors(&self) -> Vec<Tensor> {
        let mut tensors = self.0.tensors();
        tensors.extend(self.1.tensors());
        tensors
    }
}

/// Averages gradients over the ranks of a group with `c10d::Reducer`.
///
/// After `backward` of a pass that went through [`forward`](Self::forward), every parameter's gradient is the mean over
/// all ranks. Gradients are views of the buckets: drop them with [`zero_grad`](Self::zero_grad), never through tch's
/// optimizer, which would detach them.
///
/// ```no_run
/// # use torch_ext::{DdpConfig, DistributedDataParallel, ProcessGroup};
/// # fn example(group: &ProcessGroup, weight: tch::Tensor, input: tch::Tensor) -> torch_ext::Result<()> {
/// let parameters = [("weight".to_owned(), weight.shallow_clone())];
/// let ddp = DistributedDataParallel::new(&parameters, &[], group, DdpConfig::default())?;
/// // Two micro-batches, one exchange: the first one's gradients stay on this rank.
/// ddp.zero_grad()?;
/// ddp.no_sync(|| input.matmul(&weight).mean(tch::Kind::Float)).backward();
/// let loss = ddp.forward(|| input.matmul(&weight).mean(tch::Kind::Float))?;
/// loss.backward(); // weight.grad() is now the mean over all ranks, of the sum of both passes
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DistributedDataParallel {
    /// Made by the first pass that exchanges gradients: a static graph counts every pass from then on, and passes of
    /// [`no_sync`](Self::no_sync) before it must not count.
    reducer: OnceCell<Reducer>,
    parameters: Vec<(String, Tensor)>,
    group: ProcessGroup,
    config: DdpConfig,
}

impl DistributedDataParallel {
    /// Verifies that `parameters` have the same number, shapes and types on all ranks, and replaces them and `buffers`
    /// by rank 0's. Only parameters that require a gradient take part in the exchange.
    ///
    /// # Errors
    /// A parameter that differs from rank 0's in shape or type, a `compression` that is no half precision, or what the
    /// communication reported.
    pub fn new(
        parameters: &[(String, Tensor)],
        buffers: &[Tensor],
        group: &ProcessGroup,
        config: DdpConfig,
    ) -> Result<Self> {
        if let Some(kind) = config.compression.filter(|kind| !matches!(kind, Kind::Half | Kind::BFloat16)) {
            return Err(Error::State { what: format!("gradients can travel as Half or BFloat16, not as {kind:?}") });
        }
        let trained: Vec<_> = parameters
            .iter()
            .filter(|(_, tensor)| tensor.requires_grad())
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect();
        let tensors: Vec<_> = trained.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        group.verify_parameters(&tensors)?;
        let state: Vec<_> = parameters.iter().map(|(_, tensor)| tensor).chain(buffers).map(Tensor::detach).collect();
        group.broadcast(&state, 0)?;
        Ok(Self { reducer: OnceCell::new(), parameters: trained, group: group.clone(), config })
    }

    /// Runs a forward pass whose backward pass will average the gradients. Every rank must run both, each once.
    ///
    /// # Errors
    /// The backward pass before has not ended, or what the communication reported.
    pub fn forward<T: Outputs>(&self, pass: impl FnOnce() -> T) -> Result<T> {
        let DdpConfig { find_unused_parameters, static_graph, compression, even_alone, .. } = self.config;
        if self.group.size() == 1 && compression.is_none() && !even_alone {
            return Ok(pass()); // the mean over one rank
        }
        let reducer = self.reducer()?;
        let mut rebuilt = false;
        // SAFETY: a live Reducer; `rebuilt` lives during the call.
        unsafe { ffi::te_reducer_prepare_for_forward(reducer.raw(), &mut rebuilt) }.check("preparing forward")?;
        if rebuilt {
            log::debug!("gradient buckets rebuilt in the order in which gradients become ready");
        }
        let output = pass();
        let outputs = if find_unused_parameters || static_graph { output.tensors() } else { Vec::new() };
        let handles = handles(&outputs);
        let search = find_unused_parameters && !static_graph;
        // SAFETY: a live Reducer; the handles are of tensors that live during the call.
        unsafe { ffi::te_reducer_prepare_for_backward(reducer.raw(), handles.list(), search) }
            .check("preparing backward")?;
        Ok(output)
    }

    fn reducer(&self) -> Result<&Reducer> {
        if let Some(reducer) = self.reducer.get() {
            return Ok(reducer);
        }
        let reducer = Reducer::new(&self.parameters, &self.group, &self.config)?;
        Ok(self.reducer.get_or_init(|| reducer))
    }

    /// Runs a forward pass whose gradients stay on this rank and are added to what is there: for accumulation over
    /// micro-batches, whose last pass goes through [`forward`](Self::forward).
    pub fn no_sync<T>(&self, pass: impl FnOnce() -> T) -> T {
        pass() // Reducer takes part only in passes that were prepared
    }

    /// The parameters whose gradient has not come yet in the backward pass of the last [`forward`](Self::forward), where one was
    /// broken off: the other ranks wait for theirs. None where nobody waits.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn awaited(&self) -> Result<Vec<Tensor>> {
        let Some(reducer) = self.reducer.get() else { return Ok(Vec::new()) };
        let mut came = vec![false; self.parameters.len()];
        // SAFETY: a live Reducer, and room for as many answers as there are parameters.
        unsafe { ffi::te_reducer_came(reducer.raw(), came.as_mut_ptr(), came.len()) }.check("gradients that came")?;
        let awaited = self.parameters.iter().zip(came).filter(|(_, came)| !came);
        Ok(awaited.map(|((_, tensor), _)| tensor.shallow_clone()).collect())
    }

    /// Begins again with new buckets, where a pass was broken off in the middle. Every rank must call it.
    pub fn restart(&mut self) {
        self.reducer.take();
    }

    /// Drops every gradient: the next backward pass writes new ones instead of adding to zeros.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn zero_grad(&self) -> Result<()> {
        let parameters: Vec<_> = self.parameters.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        drop_gradients(&parameters)
    }

    /// Compares all parameters across ranks by a hash of each: the first that differs, if any. It reads every parameter
    /// once and sends 8 bytes for each; calling it every few hundred steps costs nothing to speak of.
    ///
    /// # Errors
    /// What the communication reported.
    pub fn compare_replicas(&self) -> Result<Option<Difference>> {
        replicas::compare(&self.parameters, &self.group)
    }
}

/// c10d's own, which has hooks on the parameters as long as it lives.
#[derive(Debug)]
struct Reducer(NonNull<ffi::Reducer>);

impl Reducer {
    fn new(parameters: &[(String, Tensor)], group: &ProcessGroup, config: &DdpConfig) -> Result<Self> {
        let texts: Vec<_> =
            parameters.iter().map(|(name, _)| CString::new(name.replace('\0', " ")).unwrap_or_default()).collect();
        let names: Vec<_> = texts.iter().map(|name| name.as_ptr()).collect();
        let handles = handles(parameters.iter().map(|(_, tensor)| tensor));
        let options = ffi::ReducerOptions {
            first_bucket_bytes: config.first_bucket_bytes as i64,
            bucket_bytes: config.bucket_bytes as i64,
            compression: config.compression.map_or(-1, ffi::scalar_type),
            find_unused_parameters: config.find_unused_parameters,
            static_graph: config.static_graph,
        };
        let mut raw = ptr::null_mut();
        // SAFETY: the handles, names and options live during the call, and there are `names.len()` names; the Reducer
        // takes its own references.
        unsafe { ffi::te_reducer_new(group.raw(), handles.list(), names.as_ptr(), names.len(), &options, &mut raw) }
            .check("Reducer")?;
        NonNull::new(raw).map(Self).ok_or_else(|| no_object("Reducer"))
    }

    fn raw(&self) -> *mut ffi::Reducer {
        self.0.as_ptr()
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `te_reducer_new` and is freed once.
        unsafe { ffi::te_reducer_free(self.0.as_ptr()) }
    }
}
