//! Optimizers over ATen's fused steps: one kernel call for all parameters.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ptr;

use tch::Tensor;

use crate::Result;
use crate::ffi::{self, handles};

/// The settings of [`Sgd`], as PyTorch's `torch.optim.SGD`.
#[derive(Clone, Debug)]
pub struct SgdConfig {
    /// The share of the last step's direction that is kept.
    pub momentum: f64,
    /// Nesterov's form of momentum.
    pub nesterov: bool,
    /// L2 penalty, added to the gradient as `weight_decay × parameter`.
    pub weight_decay: f64,
}

/// Stochastic gradient descent with momentum.
///
/// `v ← momentum·v + g + weight_decay·p`, then `p ← p − lr·v` (Nesterov: `p ← p − lr·(g' + momentum·v)`).
#[derive(Debug)]
pub struct Sgd {
    parameters: Vec<Tensor>,
    momentum_buffers: Vec<Tensor>,
    config: SgdConfig,
    is_first_step: bool,
}

impl Sgd {
    /// An optimizer of `parameters`, which must require gradients.
    pub fn new(parameters: Vec<Tensor>, config: SgdConfig) -> Self {
        let momentum_buffers = if config.momentum == 0.0 {
            Vec::new()
        } else {
            parameters.iter().map(|parameter| parameter.detach().zeros_like()).collect()
        };
        Self { parameters, momentum_buffers, config, is_first_step: true }
    }

    /// One step against the gradients, with learning rate `lr`. Every parameter must have a gradient.
    ///
    /// # Errors
    /// What libtorch threw: a parameter without a gradient, say.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        let grads: Vec<_> = self.parameters.iter().map(Tensor::grad).collect();
        let (parameters, grads) = (handles(&self.parameters), handles(&grads));
        let momentum_buffers = handles(&self.momentum_buffers);
        let momentum_buffers = if momentum_buffers.is_empty() { ptr::null() } else { momentum_buffers.as_ptr() };
        let SgdConfig { momentum, nesterov, weight_decay } = self.config;
        // SAFETY: all handles are of tensors that live during the call, and each list has one for every parameter (or
        // is null, without momentum). The shim refuses undefined ones.
        unsafe {
            ffi::te_fused_sgd(
                parameters.as_ptr(),
                grads.as_ptr(),
                momentum_buffers,
                parameters.len(),
                weight_decay,
                momentum,
                lr,
                0.0,
                nesterov,
                self.is_first_step,
            )
        }
        .check("the fused SGD step")?;
        self.is_first_step = false;
        Ok(())
    }

    /// The velocity of each parameter, in their order; empty without momentum.
    pub fn momentum_buffers(&self) -> &[Tensor] {
        &self.momentum_buffers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// The update rule of torch.optim.SGD, written out for one scalar parameter.
    fn reference(config: &SgdConfig, gradients: &[f64], lr: f64, mut parameter: f64) -> f64 {
        let mut velocity = 0.0;
        for gradient in gradients {
            let gradient = gradient + config.weight_decay * parameter;
            velocity = config.momentum * velocity + gradient;
            let direction = if config.nesterov { gradient + config.momentum * velocity } else { velocity };
            parameter -= lr * if config.momentum == 0.0 { gradient } else { direction };
        }
        parameter
    }

    #[test]
    fn sgd_follows_its_formula() {
        for (momentum, nesterov, weight_decay) in
            [(0.0, false, 0.0), (0.9, false, 0.0), (0.9, true, 5e-4), (0.5, false, 0.1)]
        {
            let config = SgdConfig { momentum, nesterov, weight_decay };
            let parameter = Tensor::full([3, 2], 0.7, (Kind::Double, Device::Cpu)).set_requires_grad(true);
            let mut sgd = Sgd::new(vec![parameter.shallow_clone()], config.clone());
            let gradients: Vec<f64> = (0..20).map(|step| f64::from(step % 7) / 3.0 - 1.0).collect();
            for &gradient in &gradients {
                let mut grad = parameter.grad();
                if grad.defined() {
                    let _ = grad.zero_();
                }
                (&parameter * gradient).sum(Kind::Double).backward();
                sgd.step(0.1).unwrap();
            }
            let expected = reference(&config, &gradients, 0.1, 0.7);
            let got = parameter.detach().mean(Kind::Double).double_value(&[]);
            assert!((got - expected).abs() < 1e-12, "{config:?}: {got} instead of {expected}");
        }
    }

    #[test]
    fn a_parameter_without_gradient_is_refused() {
        let parameter = Tensor::zeros([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let config = SgdConfig { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        let error = Sgd::new(vec![parameter], config).step(0.1).unwrap_err();
        assert!(error.to_string().contains("tensor 0 is undefined"), "{error}");
    }
}
