//! PyTorch's DistributedDataParallel: gradients are averaged over all ranks while backward computes the next ones.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ffi::CString;
use std::ptr::{self, NonNull};

use tch::Tensor;

use crate::ffi::{self, handles};
use crate::process_group::no_object;
use crate::{ProcessGroup, Result};

/// How gradients are put in buckets.
#[derive(Clone, Debug)]
pub struct DdpConfig {
    /// Bytes of gradients that travel together.
    pub bucket_bytes: usize,
    /// Bytes of the first bucket: small, so that the first message leaves early.
    pub first_bucket_bytes: usize,
}

impl Default for DdpConfig {
    fn default() -> Self {
        Self { bucket_bytes: 25 << 20, first_bucket_bytes: 1 << 20 } // as PyTorch
    }
}

/// Averages gradients over the ranks of a group with `c10d::Reducer`.
///
/// After `backward` of a pass that went through [`forward`](Self::forward), every parameter's gradient is the mean over
/// all ranks. Gradients are views of the buckets: zero them in place with [`zero_grad`](Self::zero_grad), and never
/// through tch's optimizer, which would detach them.
///
/// ```no_run
/// # use torch_ext::{DdpConfig, DistributedDataParallel, ProcessGroup};
/// # fn example(group: &ProcessGroup, weight: tch::Tensor, input: tch::Tensor) -> torch_ext::Result<()> {
/// let parameters = [("weight".to_owned(), weight.shallow_clone())];
/// let ddp = DistributedDataParallel::new(&parameters, &[], group, DdpConfig::default())?;
/// let loss = ddp.forward(|| input.matmul(&weight).mean(tch::Kind::Float))?;
/// loss.backward(); // weight.grad() is now the mean over all ranks
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DistributedDataParallel {
    raw: NonNull<ffi::Reducer>,
    parameters: Vec<Tensor>,
}

impl DistributedDataParallel {
    /// Verifies that `parameters` have the same number, shapes and types on all ranks, replaces them and `buffers` by
    /// rank 0's, and installs the hooks that average gradients. Only parameters that require a gradient take part.
    ///
    /// # Errors
    /// A parameter that differs from rank 0's in shape or type, or what the communication reported.
    pub fn new(
        parameters: &[(String, Tensor)],
        buffers: &[Tensor],
        group: &ProcessGroup,
        config: DdpConfig,
    ) -> Result<Self> {
        let (names, trained): (Vec<_>, Vec<_>) = parameters
            .iter()
            .filter(|(_, tensor)| tensor.requires_grad())
            .map(|(name, tensor)| (CString::new(name.replace('\0', " ")).unwrap_or_default(), tensor.shallow_clone()))
            .unzip();
        group.verify_parameters(&trained)?;
        let state: Vec<_> = parameters.iter().map(|(_, tensor)| tensor).chain(buffers).map(Tensor::detach).collect();
        group.broadcast(&state, 0)?;

        let name_pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let handles = handles(&trained);
        let mut raw = ptr::null_mut();
        // SAFETY: the handles and names live during the call; the Reducer takes its own references to both.
        unsafe {
            ffi::te_reducer_new(
                group.raw(),
                handles.as_ptr(),
                name_pointers.as_ptr(),
                handles.len(),
                config.first_bucket_bytes as i64,
                config.bucket_bytes as i64,
                false,
                &mut raw,
            )
        }
        .check("Reducer")?;
        let raw = NonNull::new(raw).ok_or_else(|| no_object("Reducer"))?;
        Ok(Self { raw, parameters: trained })
    }

    /// Runs a forward pass whose backward pass will average the gradients. Every rank must run both, each once.
    ///
    /// # Errors
    /// The backward pass before has not ended, or what the communication reported.
    pub fn forward<T>(&self, pass: impl FnOnce() -> T) -> Result<T> {
        let mut rebuilt = false;
        // SAFETY: `raw` is a live Reducer; `rebuilt` lives during the call.
        unsafe { ffi::te_reducer_prepare_for_forward(self.raw.as_ptr(), &mut rebuilt) }.check("preparing forward")?;
        if rebuilt {
            log::debug!("gradient buckets rebuilt in the order in which gradients become ready");
        }
        let output = pass();
        // SAFETY: `raw` is a live Reducer; no outputs are passed since unused parameters are not searched.
        unsafe { ffi::te_reducer_prepare_for_backward(self.raw.as_ptr(), ptr::null(), 0) }
            .check("preparing backward")?;
        Ok(output)
    }

    /// Sets every gradient to zero, in place.
    pub fn zero_grad(&self) {
        for parameter in &self.parameters {
            let mut grad = parameter.grad();
            if grad.defined() {
                let _ = grad.zero_();
            }
        }
    }
}

impl Drop for DistributedDataParallel {
    fn drop(&mut self) {
        // SAFETY: `raw` came from `te_reducer_new` and is freed once.
        unsafe { ffi::te_reducer_free(self.raw.as_ptr()) }
    }
}
