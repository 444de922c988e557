//! How weights are drawn before training.

use architectures::{Initialisation, Network, Parameter, ParameterRole};
use tch::{Device, Kind, Tensor};

use crate::backbone::kind_of;

/// A fresh tensor for `parameter`; a trained one requires its gradient.
pub(crate) fn tensor(network: &Network, parameter: &Parameter, device: Device) -> Tensor {
    let shape: Vec<i64> = parameter.shape.iter().map(|&side| side as i64).collect();
    let options = (kind_of(parameter), device);
    let tensor = match parameter.role {
        ParameterRole::Weight => {
            let [fan_out, fan_in] = fans(&parameter.shape);
            let is_linear = parameter.shape.len() == 2;
            match network.initialisation() {
                Initialisation::KaimingFanOut if !is_linear => normal(&shape, fan_out, device),
                Initialisation::KaimingFanIn => normal(&shape, fan_in, device),
                _ => uniform(&shape, fan_in, device),
            }
        }
        ParameterRole::Bias => {
            // PyTorch draws a bias by the fan-in of the weight beside it.
            let weight = network.parameters().into_iter().find(|other| other.node == parameter.node);
            let fan_in = weight.map_or(1, |weight| fans(&weight.shape)[1]);
            uniform(&shape, fan_in, device)
        }
        ParameterRole::NormWeight | ParameterRole::RunningVar => Tensor::ones(&shape[..], options),
        ParameterRole::NormBias | ParameterRole::RunningMean | ParameterRole::NumBatchesTracked => {
            Tensor::zeros(&shape[..], options)
        }
    };
    if parameter.role.is_trained() { tensor.set_requires_grad(true) } else { tensor }
}

/// Values that one output is fed by (fan-in) and that one input feeds (fan-out), of a weight out×in×kernel×kernel.
fn fans(shape: &[usize]) -> [usize; 2] {
    let kernel: usize = shape[2..].iter().product();
    [shape[0] * kernel, shape[1] * kernel]
}

/// Kaiming-normal for ReLU: standard deviation √(2/fan).
fn normal(shape: &[i64], fan: usize, device: Device) -> Tensor {
    Tensor::randn(shape, (Kind::Float, device)) * (2.0 / fan as f64).sqrt()
}

/// PyTorch's default for convolutions and linear layers (Kaiming-uniform with a = √5): ±1/√fan-in.
fn uniform(shape: &[i64], fan_in: usize, device: Device) -> Tensor {
    let bound = 1.0 / (fan_in as f64).sqrt();
    Tensor::empty(shape, (Kind::Float, device)).uniform_(-bound, bound)
}
