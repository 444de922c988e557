//! How weights are drawn before training: the rules of the original networks, by fan-in and fan-out.

/// A rule. Fan-in is the number of values that one output is fed by, fan-out the number that one input feeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Draw {
    /// One value.
    Constant(f64),
    /// Normal around zero, with this standard deviation.
    Normal(f64),
    /// Kaiming-normal by fan-out: standard deviation √(2/fan-out).
    KaimingFanOut,
    /// Kaiming-normal by fan-in: standard deviation √(2/fan-in).
    KaimingFanIn,
    /// Kaiming-uniform by fan-in: ±√(6/fan-in).
    KaimingUniform,
    /// Uniform with the variance of 1/fan-out: ±√(3/fan-out).
    LecunUniformFanOut,
    /// LeCun-normal: standard deviation √(1/fan-in).
    LecunNormal,
    /// Xavier-uniform: ±√(6/(fan-in + fan-out)).
    XavierUniform,
    /// PyTorch's default for convolutions and linear layers, and for their biases by the weight's fan-in: ±1/√fan-in.
    PytorchDefault,
    /// ±1/√(rows of the weight): the head of the EfficientNets.
    UniformByOutputs,
}

/// Where a tensor's first values come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// One value.
    Constant(f64),
    /// Normal around zero. The originals cut some of these off at ±2, which is fifty standard deviations away.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Uniform in ±`bound`.
    Uniform {
        /// The largest value.
        bound: f64,
    },
}

impl Draw {
    /// The distribution for a weight of this shape, or for the bias beside it.
    pub(crate) fn distribution(self, weight: &[usize]) -> Distribution {
        let kernel: usize = weight.iter().skip(2).product();
        let [outputs, inputs] = [0, 1].map(|axis| weight.get(axis).copied().unwrap_or(1) as f64);
        let (fan_in, fan_out) = (inputs * kernel as f64, outputs * kernel as f64);
        match self {
            Self::Constant(value) => Distribution::Constant(value),
            Self::Normal(std) => Distribution::Normal { std },
            Self::KaimingFanOut => Distribution::Normal { std: (2.0 / fan_out).sqrt() },
            Self::KaimingFanIn => Distribution::Normal { std: (2.0 / fan_in).sqrt() },
            Self::KaimingUniform => Distribution::Uniform { bound: (6.0 / fan_in).sqrt() },
            Self::LecunUniformFanOut => Distribution::Uniform { bound: (3.0 / fan_out).sqrt() },
            Self::LecunNormal => Distribution::Normal { std: (1.0 / fan_in).sqrt() },
            Self::XavierUniform => Distribution::Uniform { bound: (6.0 / (fan_in + fan_out)).sqrt() },
            Self::PytorchDefault => Distribution::Uniform { bound: 1.0 / fan_in.sqrt() },
            Self::UniformByOutputs => Distribution::Uniform { bound: 1.0 / outputs.sqrt() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fans_are_those_of_the_weight() {
        let cases = [
            (Draw::KaimingFanOut, vec![64, 3, 7, 7], Distribution::Normal { std: (2.0_f64 / (64.0 * 49.0)).sqrt() }),
            (Draw::KaimingFanIn, vec![64, 3, 7, 7], Distribution::Normal { std: (2.0_f64 / 147.0).sqrt() }),
            (Draw::XavierUniform, vec![3072, 768], Distribution::Uniform { bound: (6.0_f64 / 3840.0).sqrt() }),
            (Draw::LecunUniformFanOut, vec![12, 64], Distribution::Uniform { bound: 0.5 }),
            (Draw::PytorchDefault, vec![10, 64], Distribution::Uniform { bound: 0.125 }),
            (Draw::UniformByOutputs, vec![100, 7], Distribution::Uniform { bound: 0.1 }),
        ];
        for (draw, shape, expected) in cases {
            assert_eq!(draw.distribution(&shape), expected, "{draw:?}");
        }
    }
}
