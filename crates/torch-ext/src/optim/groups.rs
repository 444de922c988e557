//! Groups of parameters that are treated alike.

use tch::Tensor;

use super::Algorithm;

/// Parameters with the same rule, weight decay and share of the learning rate.
#[derive(Debug)]
pub struct ParameterGroup {
    /// By name.
    pub parameters: Vec<(String, Tensor)>,
    /// L2 penalty, or of AdamW and LAMB the decay.
    pub weight_decay: f64,
    /// Its learning rate is this multiple of the step's.
    pub lr_scale: f64,
    /// Another rule than the optimizer's.
    pub algorithm: Option<Algorithm>,
}

impl ParameterGroup {
    /// One group of all.
    pub fn all(parameters: Vec<(String, Tensor)>, weight_decay: f64) -> Vec<Self> {
        vec![Self { parameters, weight_decay, lr_scale: 1.0, algorithm: None }]
    }

    /// Two groups: weight decay on matrices and filters, none on vectors (the biases, and the scales of norms).
    pub fn without_decay_on_vectors(parameters: Vec<(String, Tensor)>, weight_decay: f64) -> Vec<Self> {
        let (vectors, others) = parameters.into_iter().partition(|(_, tensor)| tensor.dim() <= 1);
        [(others, weight_decay), (vectors, 0.0)]
            .into_iter()
            .map(|(parameters, weight_decay)| Self { parameters, weight_decay, lr_scale: 1.0, algorithm: None })
            .collect()
    }
}
