//! How weights are drawn before training.

use architectures::{Distribution, Parameter, ParameterRole, log_offsets, relative_position_index};
use tch::{Device, Kind, Tensor};

/// A fresh tensor for `parameter`; a trained one requires its gradient.
pub(crate) fn tensor(parameter: &Parameter, device: Device) -> Tensor {
    let shape: Vec<i64> = parameter.shape.iter().map(|&side| side as i64).collect();
    let options = (kind_of(parameter), device);
    if let ParameterRole::RelativePositionIndex { window } = parameter.role {
        return Tensor::from_slice(&relative_position_index(window)).view(&shape[..]).to_device(device);
    }
    if let ParameterRole::LogOffsets { window } = parameter.role {
        return Tensor::from_slice(&log_offsets(window)).view(&shape[..]).to_device(device);
    }
    let tensor = match parameter.initial {
        Distribution::Constant(value) => Tensor::full(&shape[..], value, options),
        Distribution::Normal { std } => Tensor::randn(&shape[..], options) * std,
        Distribution::Uniform { bound } => Tensor::empty(&shape[..], options).uniform_(-bound, bound),
    };
    if parameter.role.is_trained() { tensor.set_requires_grad(true) } else { tensor }
}

/// Counters and indices are integers, everything else is single precision.
pub(crate) fn kind_of(parameter: &Parameter) -> Kind {
    if parameter.role.is_integer() { Kind::Int64 } else { Kind::Float }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_drawn_as_described() {
        tch::manual_seed(1);
        for name in ["resnet18", "squeezenet1_1", "efficientnet_b0", "vit_b_32"] {
            let network = architectures::architecture(name).unwrap().network(100);
            for parameter in network.parameters().iter().filter(|parameter| parameter.role.is_trained()).take(24) {
                let tensor = tensor(parameter, Device::Cpu);
                let count = tensor.numel() as f64;
                let expected = match parameter.initial {
                    Distribution::Constant(_) => 0.0,
                    Distribution::Normal { std } => std,
                    Distribution::Uniform { bound } => bound / 3.0_f64.sqrt(),
                };
                let std = tensor.std(false).double_value(&[]);
                // Five standard errors of a standard deviation.
                let tolerance = expected * 5.0 / (2.0 * count).sqrt();
                assert!((std - expected).abs() <= tolerance, "{name} {}: {std}, not {expected}", parameter.name);
            }
        }
    }
}
