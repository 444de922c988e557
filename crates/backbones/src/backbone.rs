//! A network with its parameters on a device.

use architectures::{Conv2d, Network, Node, Op, Parameter};
use tch::{Device, Kind, Tensor};
use torch_ext::{ProcessGroup, SyncBatchNorm};

use crate::initialise;

/// PyTorch's defaults for BatchNorm.
const BATCH_NORM_EPSILON: f64 = 1e-5;
const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// A network with its parameters on a device.
#[derive(Debug)]
pub struct Backbone {
    network: Network,
    parameters: Vec<Parameter>,
    /// One for each of `parameters`.
    tensors: Vec<Tensor>,
    /// For each node, the index of its first tensor.
    first_tensor: Vec<usize>,
    /// For each node, the last node that takes its value: after it the value can go.
    last_use: Vec<usize>,
    device: Device,
    sync_batch_norm: Option<SyncBatchNorm>,
}

impl Backbone {
    /// The network on `device`, its weights drawn from libtorch's generator (see `tch::manual_seed`).
    pub fn new(network: Network, device: Device) -> Self {
        let parameters = network.parameters();
        let tensors: Vec<_> =
            parameters.iter().map(|parameter| initialise::tensor(&network, parameter, device)).collect();
        let mut first_tensor = vec![0; network.nodes().len()];
        for (index, parameter) in parameters.iter().enumerate().rev() {
            first_tensor[parameter.node.index()] = index;
        }
        let mut last_use = vec![usize::MAX; network.nodes().len()];
        for (index, node) in network.nodes().iter().enumerate() {
            for input in &node.inputs {
                last_use[input.index()] = index;
            }
        }
        Self { network, parameters, tensors, first_tensor, last_use, device, sync_batch_norm: None }
    }

    /// From here on BatchNorm in training uses the statistics of the batches of all ranks of `group`, which then must run
    /// every pass together.
    pub fn synchronize_batch_norm(&mut self, group: &ProcessGroup) {
        self.sync_batch_norm = Some(SyncBatchNorm::new(group));
    }

    /// The description it was built from.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where its parameters are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The parameters that are trained, by name, in the order of the original's state dict.
    pub fn trained(&self) -> Vec<(String, Tensor)> {
        self.named(|parameter| parameter.role.is_trained())
    }

    /// What is not trained but belongs to the model, by name: BatchNorm's running statistics.
    pub fn buffers(&self) -> Vec<(String, Tensor)> {
        self.named(|parameter| !parameter.role.is_trained())
    }

    /// All parameters and buffers, by name, in the order of the original's state dict.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.named(|_| true)
    }

    fn named(&self, wanted: impl Fn(&Parameter) -> bool) -> Vec<(String, Tensor)> {
        let both = self.parameters.iter().zip(&self.tensors).filter(|(parameter, _)| wanted(parameter));
        both.map(|(parameter, tensor)| (parameter.name.clone(), tensor.shallow_clone())).collect()
    }

    /// The logits, N×classes, of pictures N×3×H×W. In training (`train`) BatchNorm uses the batch's statistics and
    /// updates its running ones; else it uses the running ones.
    ///
    /// # Panics
    /// If `pictures` do not have the shape that the network takes, or are on another device; if synchronized BatchNorm
    /// loses a rank.
    pub fn forward(&self, pictures: &Tensor, train: bool) -> Tensor {
        let mut values: Vec<Option<Tensor>> = Vec::with_capacity(self.network.nodes().len());
        for (index, node) in self.network.nodes().iter().enumerate() {
            let inputs: Vec<&Tensor> = node
                .inputs
                .iter()
                .map(|input| values[input.index()].as_ref().expect("a value lives until its last use"))
                .collect();
            let value = self.compute(index, node, &inputs, pictures, train);
            for input in &node.inputs {
                if self.last_use[input.index()] == index {
                    values[input.index()] = None;
                }
            }
            values.push(Some(value));
        }
        values.pop().flatten().expect("a network has at least one node")
    }

    fn compute(&self, index: usize, node: &Node, inputs: &[&Tensor], pictures: &Tensor, train: bool) -> Tensor {
        let tensor = |offset: usize| &self.tensors[self.first_tensor[index] + offset];
        match &node.op {
            Op::Input { .. } => pictures.shallow_clone(),
            Op::Conv2d(conv) => {
                let Conv2d { stride, padding, groups, bias, .. } = *conv;
                let bias = bias.then(|| tensor(1));
                let (stride, padding) = (stride as i64, padding as i64);
                inputs[0].conv2d(tensor(0), bias, [stride, stride], [padding, padding], [1, 1], groups as i64)
            }
            Op::BatchNorm2d { .. } => {
                if train {
                    let _ = tensor(4).shallow_clone().g_add_scalar_(1);
                }
                let [weight, bias, mean, var] = [0, 1, 2, 3].map(tensor);
                if let Some(sync) = self.sync_batch_norm.as_ref().filter(|_| train) {
                    let (momentum, epsilon) = (BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON);
                    let normalized = sync.forward(inputs[0], weight, bias, (mean, var), momentum, epsilon);
                    return normalized.unwrap_or_else(|error| panic!("{error}"));
                }
                inputs[0].batch_norm(
                    Some(weight),
                    Some(bias),
                    Some(mean),
                    Some(var),
                    train,
                    BATCH_NORM_MOMENTUM,
                    BATCH_NORM_EPSILON,
                    true,
                )
            }
            Op::Relu => inputs[0].relu(),
            &Op::MaxPool2d { kernel, stride, padding } => {
                let [kernel, stride, padding] = [kernel, stride, padding].map(|side| side as i64);
                inputs[0].max_pool2d([kernel, kernel], [stride, stride], [padding, padding], [1, 1], false)
            }
            &Op::AdaptiveAvgPool2d { output } => inputs[0].adaptive_avg_pool2d([output as i64, output as i64]),
            Op::Flatten => inputs[0].flatten(1, -1),
            Op::Linear { .. } => inputs[0].linear(tensor(0), Some(tensor(1))),
            Op::Add => inputs[0] + inputs[1],
            &Op::PadShortcut { out_channels, stride } => pad_shortcut(inputs[0], out_channels, stride),
        }
    }
}

/// ResNet's option A: every `stride`-th pixel, and as many zero channels before as after.
fn pad_shortcut(x: &Tensor, out_channels: usize, stride: usize) -> Tensor {
    let missing = out_channels as i64 - x.size()[1];
    let before = missing / 2;
    let strided = x.slice(2, None, None, stride as i64).slice(3, None, None, stride as i64);
    strided.constant_pad_nd([0, 0, 0, 0, before, missing - before])
}

/// Counters are integers, everything else is single precision.
pub(crate) fn kind_of(parameter: &Parameter) -> Kind {
    match parameter.role {
        architectures::ParameterRole::NumBatchesTracked => Kind::Int64,
        _ => Kind::Float,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use architectures::ARCHITECTURES;

    #[test]
    fn every_architecture_computes_its_logits() {
        tch::manual_seed(1);
        for known in ARCHITECTURES {
            let backbone = Backbone::new(known.network(5), Device::Cpu);
            let side = known.image_size.min(64) as i64;
            let pictures = Tensor::randn([2, 3, side, side], (Kind::Float, Device::Cpu));
            let logits = backbone.forward(&pictures, true);
            assert_eq!(logits.size(), [2, 5], "{}", known.name);
            logits.sum(Kind::Float).backward();
            for (name, parameter) in backbone.trained() {
                assert!(parameter.grad().defined(), "{} has no gradient in {}", name, known.name);
            }
        }
    }

    #[test]
    fn option_a_keeps_every_second_pixel_between_zero_channels() {
        let x = Tensor::arange(2 * 4 * 4, (Kind::Float, Device::Cpu)).view([1, 2, 4, 4]);
        let y = pad_shortcut(&x, 4, 2);
        assert_eq!(y.size(), [1, 4, 2, 2]);
        let values = Vec::<f32>::try_from(y.flatten(0, -1)).unwrap();
        let expected = [0., 0., 0., 0., 0., 2., 8., 10., 16., 18., 24., 26., 0., 0., 0., 0.];
        assert_eq!(values, expected);
    }

    #[test]
    fn batch_norm_counts_batches_and_follows_them() {
        tch::manual_seed(1);
        let network = architectures::architecture("cifar_resnet20").unwrap().network(10);
        let backbone = Backbone::new(network, Device::Cpu);
        let pictures = Tensor::randn([4, 3, 16, 16], (Kind::Float, Device::Cpu)) + 3.0;
        for _ in 0..3 {
            let _ = backbone.forward(&pictures, true);
        }
        let _ = backbone.forward(&pictures, false);
        let state = backbone.state();
        let get = |key: &str| state.iter().find(|(name, _)| name == key).unwrap().1.shallow_clone();
        assert_eq!(get("bn1.num_batches_tracked").int64_value(&[]), 3);
        assert!(get("bn1.running_mean").abs().sum(Kind::Float).double_value(&[]) > 0.1);
    }
}
