//! Automatic mixed precision: convolutions and matrix products in half precision, sums and norms in single.
#![expect(unsafe_code, reason = "calls the shim")]

use std::marker::PhantomData;

use tch::{Device, Kind};

use crate::Result;
use crate::ffi::{self, AutocastState, scalar_type};

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

impl Drop for Autocast {
    fn drop(&mut self) {
        if let Some((cuda, before)) = &self.before {
            // SAFETY: `before` is what `te_autocast_enter` gave for the same kind of device, on this thread.
            unsafe { ffi::te_autocast_exit(*cuda, before) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

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
}
