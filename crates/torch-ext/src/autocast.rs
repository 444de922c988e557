//! Automatic mixed precision: convolutions and matrix products in half precision, sums and norms in single.
#![expect(unsafe_code, reason = "calls the shim")]

use std::marker::PhantomData;

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::ffi::{self, AutocastState, handles, scalar_type};

/// The type that a forward pass computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    Single,
    /// bfloat16 where it is safe: no scaling needed, three digits.
    BFloat16,
    /// fp16 where it is safe: gradients need a [`GradScaler`](crate::optim::GradScaler).
    Half,
}

impl Precision {
    /// The type of what convolutions and matrix products give.
    pub fn kind(self) -> Kind {
        match self {
            Self::Single => Kind::Float,
            Self::BFloat16 => Kind::BFloat16,
            Self::Half => Kind::Half,
        }
    }
}

/// While it lives, operations of this thread on a kind of device run in a lower precision where that is safe
/// (`torch.autocast`). Backward runs outside of it, each operation in the type of its forward.
///
/// ```
/// # use tch::{Device, Kind, Tensor};
/// # use torch_ext::{Autocast, Precision};
/// let x = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
/// let y = {
///     let _autocast = Autocast::enter(Device::Cpu, Precision::BFloat16)?;
///     x.matmul(&x)
/// };
/// assert_eq!((y.kind(), x.matmul(&x).kind()), (Kind::BFloat16, Kind::Float));
/// # Ok::<(), torch_ext::Error>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct Autocast {
    before: Option<(bool, AutocastState)>,
    /// libtorch's switch is of the thread that set it.
    _not_send: PhantomData<*const ()>,
}

impl Autocast {
    /// Enters `precision` for operations on `device`. [`Precision::Single`] changes nothing.
    ///
    /// # Errors
    /// What libtorch threw: a type that autocast does not know on this device.
    pub fn enter(device: Device, precision: Precision) -> Result<Self> {
        if precision == Precision::Single {
            return Ok(Self { before: None, _not_send: PhantomData });
        }
        let mut before = AutocastState::default();
        // SAFETY: `before` lives during the call.
        unsafe { ffi::te_autocast_enter(device.is_cuda(), scalar_type(precision.kind()), &mut before) }
            .check("autocast")?;
        Ok(Self { before: Some((device.is_cuda(), before)), _not_send: PhantomData })
    }
}

/// Whether this thread's operations on `device` run in a lower precision now.
pub fn in_autocast(device: Device) -> bool {
    // SAFETY: takes a yes or no.
    unsafe { ffi::te_autocast_entered(device.is_cuda()) }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        if let Some((cuda, before)) = &self.before {
            // SAFETY: `before` is what `te_autocast_enter` gave for the same kind of device, on this thread.
            unsafe { ffi::te_autocast_exit(*cuda, before) }
        }
    }
}

/// A copy of each of `weights`, in the type that products of this thread run in [now](in_autocast), with the way back to the weight for
/// its gradient: what autocast makes of each by itself, by one call.
///
/// # Errors
/// Weights of another type than single precision, on several devices, or not dense in memory; what libtorch threw.
pub fn weights_in_autocast(weights: &[Tensor]) -> Result<Vec<Tensor>> {
    let (handles, mut raw) = (handles(weights), vec![std::ptr::null_mut(); weights.len()]);
    // SAFETY: all live during the call; there is room for a tensor of each weight.
    unsafe { ffi::te_autocast_weights(handles.list(), raw.as_mut_ptr()) }.check("autocast")?;
    // SAFETY: after a null message the shim has written tensors, which are ours from here on.
    Ok(raw.into_iter().map(|tensor| unsafe { Tensor::from_ptr(tensor) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryFormat, set_memory_format, watch_gradients};

    #[test]
    fn scopes_nest_and_end() {
        let x = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
        let kind = || x.matmul(&x).kind();
        let enter = |precision| Autocast::enter(Device::Cpu, precision).unwrap();
        let _outer = enter(Precision::BFloat16);
        assert_eq!(kind(), Kind::BFloat16);
        {
            let _inner = enter(Precision::Half);
            assert_eq!(kind(), Kind::Half);
            let _single = enter(Precision::Single);
            assert_eq!(kind(), Kind::Half, "single precision changes nothing");
        }
        assert_eq!(kind(), Kind::BFloat16);
        assert_eq!(
            std::thread::spawn(|| Tensor::ones([1, 1], (Kind::Float, Device::Cpu))).join().unwrap().kind(),
            Kind::Float
        );
    }

    #[test]
    fn weights_are_cast_at_once_as_one_by_one() {
        let weight = |shape: &[i64]| {
            let weight = Tensor::randn(shape, (Kind::Float, Device::Cpu));
            if shape.len() == 4 {
                set_memory_format(&[weight.shallow_clone()], MemoryFormat::ChannelsLast).unwrap();
            }
            weight.set_requires_grad(true)
        };
        let mut weights: Vec<_> = [&[4, 3, 3, 3][..], &[5], &[7, 9], &[0, 2]].map(weight).into();
        weights.push(Tensor::ones([3], (Kind::Float, Device::Cpu))); // frozen
        assert!(!in_autocast(Device::Cpu));
        let _autocast = Autocast::enter(Device::Cpu, Precision::BFloat16).unwrap();
        assert!(in_autocast(Device::Cpu) && !in_autocast(Device::Cuda(0)));
        assert!(weights_in_autocast(&[]).unwrap().is_empty());
        let cast = weights_in_autocast(&weights).unwrap();
        for (cast, weight) in cast.iter().zip(&weights) {
            assert!(cast.equal(&weight.to_kind(Kind::BFloat16)) && cast.stride() == weight.stride());
            assert_eq!((cast.requires_grad(), cast.kind()), (weight.requires_grad(), Kind::BFloat16));
        }
        let sum = cast.iter().map(|cast| (cast * cast).sum(Kind::Float)).reduce(|a, b| a + b).unwrap();
        sum.backward();
        for (weight, cast) in weights.iter().zip(&cast).filter(|(weight, _)| weight.requires_grad()) {
            assert!(weight.grad().equal(&(cast * 2.0).to_kind(Kind::Float)) && weight.grad().kind() == Kind::Float);
        }
        let double = Tensor::ones([3], (Kind::Double, Device::Cpu));
        assert!(weights_in_autocast(&[double]).is_err());
    }

    #[test]
    fn a_gradient_comes_as_soon_as_its_layer_is_done() {
        let leaf = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        // The weights of two layers, and what the first one's input is scaled by.
        let leaves = [leaf(&[4, 4]), leaf(&[4, 4]), leaf(&[4])];
        let loss = {
            let _autocast = Autocast::enter(Device::Cpu, Precision::BFloat16).unwrap();
            let cast = weights_in_autocast(&leaves[..2]).unwrap();
            (&leaves[2] * 3.0).view([1, 4]).matmul(&cast[0]).matmul(&cast[1]).sum(Kind::Float)
        };
        let mut order = Vec::new();
        let mut come = |place: usize| order.push(place);
        watch_gradients(&leaves, &mut come, || loss.f_backward()).unwrap().unwrap();
        assert_eq!(order, [1, 0, 2]);
    }
}
