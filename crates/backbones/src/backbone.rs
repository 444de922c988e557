//! A network with its parameters on a device.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use architectures::{Network, NodeId, Parameter, ParameterRole};
use tch::{Device, Kind, Tensor};
use torch_ext::{ProcessGroup, SyncBatchNorm, add_to_each, in_autocast, weights_in_autocast};

use crate::blocks::{self, Block, BlockPass, OwnLayer};
use crate::forward::{Constants, Mode};
use crate::initialise;
use crate::pass::{Layer, Order, Pass};

/// A network with its parameters on a device.
#[derive(Debug)]
pub struct Backbone {
    pub(crate) order: Arc<Order>,
    parameters: Vec<Parameter>,
    /// One for each of `parameters`.
    tensors: Vec<Tensor>,
    /// For each node, the places of its own `tensors`.
    state: Vec<Range<usize>>,
    /// The places of the tensors that images are multiplied with.
    of_products: Vec<usize>,
    /// What training computes once more on the way back.
    recomputed: Vec<Block>,
    /// For each node, whether its parameters stay as they are.
    frozen: Vec<Cell<bool>>,
    constants: Constants,
    device: Device,
    sync_batch_norm: Option<SyncBatchNorm>,
    /// Whether it uses this rank's statistics alone all the same.
    synchronization_is_paused: Cell<bool>,
}

impl Backbone {
    /// The network on `device`, its weights drawn from libtorch's generator (see `tch::manual_seed`).
    pub fn new(network: Network, device: Device) -> Self {
        let parameters = network.parameters();
        let tensors = parameters.iter().map(|parameter| initialise::tensor(parameter, device)).collect();
        Self::of_tensors(network, tensors, device)
    }

    /// The network with a tensor on `device` for each of its parameters.
    pub(crate) fn of_tensors(network: Network, tensors: Vec<Tensor>, device: Device) -> Self {
        let parameters = network.parameters();
        let mut state = vec![0..0; network.nodes().len()];
        for (index, parameter) in parameters.iter().enumerate() {
            let places = &mut state[parameter.node.index()];
            let start = if places.end == 0 { index } else { places.start };
            *places = start..index + 1;
        }
        let is_of_product = |place: &usize| network.nodes()[parameters[*place].node.index()].op.is_product();
        let of_products = (0..parameters.len()).filter(is_of_product).collect();
        let frozen = vec![Cell::new(false); network.nodes().len()];
        Self {
            of_products,
            order: Arc::new(Order::of(network)),
            parameters,
            tensors,
            state,
            recomputed: Vec::new(),
            frozen,
            constants: Constants::default(),
            device,
            sync_batch_norm: None,
            synchronization_is_paused: Cell::new(false),
        }
    }

    /// The tensors of one node, in the order of a state dict.
    pub(crate) fn state_of(&self, node: NodeId) -> &[Tensor] {
        &self.tensors[self.state[node.index()].clone()]
    }

    /// One for each of the [`parameters`](Self::parameters).
    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// What each tensor of the state is, in the order of the original's state dict.
    pub(crate) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// From here on BatchNorm in training uses the statistics of the batches of all ranks of `group`, which then must run
    /// every pass together.
    pub fn synchronize_batch_norm(&mut self, group: &ProcessGroup) {
        self.sync_batch_norm = Some(SyncBatchNorm::new(group));
    }

    /// `paused`: BatchNorm uses this rank's statistics alone, so that a pass needs no other rank.
    pub fn pause_batch_norm_synchronization(&self, paused: bool) {
        self.synchronization_is_paused.set(paused);
    }

    /// Trains nothing but the head from here on. Frozen layers compute as in evaluation: BatchNorm keeps its statistics.
    pub fn freeze_all_but_head(&self) {
        let heads = self.network().heads();
        self.set_frozen(|node| !heads.contains(&node));
    }

    /// Trains everything again.
    pub fn unfreeze(&self) {
        self.set_frozen(|_| false);
    }

    /// The names of the head's parameters.
    pub fn head(&self) -> Vec<String> {
        let heads = self.network().heads();
        let of_head = self.parameters.iter().filter(|parameter| heads.contains(&parameter.node));
        of_head.map(|parameter| parameter.name.clone()).collect()
    }

    fn set_frozen(&self, frozen: impl Fn(NodeId) -> bool) {
        for (parameter, tensor) in self.parameters.iter().zip(&self.tensors) {
            self.frozen[parameter.node.index()].set(frozen(parameter.node));
            if parameter.role.is_trained() {
                let _ = tensor.set_requires_grad(!frozen(parameter.node));
            }
        }
    }

    /// Which nodes are frozen.
    pub(crate) fn frozen_nodes(&self) -> Vec<bool> {
        self.frozen.iter().map(Cell::get).collect()
    }

    /// Makes those nodes frozen whose parameters already are.
    pub(crate) fn set_frozen_nodes(&self, frozen: &[bool]) {
        self.frozen.iter().zip(frozen).for_each(|(own, &frozen)| own.set(frozen));
    }

    /// The description it was built from.
    pub fn network(&self) -> &Network {
        &self.order.network
    }

    /// Where its parameters are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The parameters that are trained, by name, in the order of the original's state dict; none that is frozen.
    pub fn trained(&self) -> Vec<(String, Tensor)> {
        self.named(|parameter| parameter.role.is_trained() && !self.frozen[parameter.node.index()].get())
    }

    /// The parameters that can be trained, by name, those that are frozen too.
    pub fn trainable(&self) -> Vec<(String, Tensor)> {
        self.named(|parameter| parameter.role.is_trained())
    }

    /// What changes in training but not by gradients, by name: BatchNorm's running statistics and counts.
    pub fn buffers(&self) -> Vec<(String, Tensor)> {
        self.named(|parameter| !parameter.role.is_trained() && !parameter.role.is_constant())
    }

    /// All parameters and buffers, by name, in the order of the original's state dict.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.named(|_| true)
    }

    fn named(&self, wanted: impl Fn(&Parameter) -> bool) -> Vec<(String, Tensor)> {
        let both = self.parameters.iter().zip(&self.tensors).filter(|(parameter, _)| wanted(parameter));
        both.map(|(parameter, tensor)| (parameter.name.clone(), tensor.shallow_clone())).collect()
    }

    /// The logits, N×classes, of images N×3×H×W. In training (`train`) BatchNorm uses the batch's statistics and
    /// updates its running ones; else it uses the running ones.
    ///
    /// # Panics
    /// If `images` do not have the shape that the network takes, or are on another device; if BatchNorm in training sees
    /// one value a channel; if synchronized BatchNorm loses a rank.
    pub fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        self.forward_all(images, train).remove(0)
    }

    /// The same, and after the logits those of the network's [auxiliary heads](Network::auxiliary), if it has some.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_all(&self, images: &Tensor, train: bool) -> Vec<Tensor> {
        if train {
            self.count_batch();
        }
        let recomputed = if train && self.sync_batch_norm.is_none() { &self.recomputed[..] } else { &[] };
        // What is computed once more on the way back must find there what it found first.
        let cast = if recomputed.is_empty() { self.cast_for_products() } else { None };
        let tensors = cast.as_ref().unwrap_or(&self.tensors);
        let layer =
            |node: NodeId| Layer { state: &tensors[self.state[node.index()].clone()], mode: self.mode(node, train) };
        let pass = Pass { order: &self.order, layer, constants: &self.constants };
        let (mut values, mut next) = (self.order.no_values(), 0);
        for block in recomputed {
            pass.compute(&self.order.steps[next..block.steps.start], &mut values, images);
            next = block.steps.start;
            let input = values.get(block.nodes.start - 1);
            let layers: Vec<_> = block.nodes.clone().map(|node| self.own_layer(node)).collect();
            if !input.requires_grad() && !layers.iter().any(OwnLayer::wants_gradient) {
                continue; // the way back ends before
            }
            let (order, constants) = (Arc::clone(&self.order), self.constants.clone());
            let value = BlockPass { order, layers, constants, device: self.device }
                .recomputed(block, &input)
                .unwrap_or_else(|error| panic!("{error}"));
            values.set(block.nodes.end - 1, value);
            next = block.steps.end;
            values.free(&self.order.steps[block.steps.clone()]);
        }
        pass.compute(&self.order.steps[next..], &mut values, images);
        let last = self.network().nodes().len() - 1;
        let auxiliary = self.network().auxiliary().iter().map(|head| head.node.index());
        [last].into_iter().chain(auxiliary).map(|node| values.get(node)).collect()
    }

    /// The tensors with the weights of products cast, where autocast would cast them one by one.
    fn cast_for_products(&self) -> Option<Vec<Tensor>> {
        if !in_autocast(self.device) {
            return None;
        }
        let is_cast = |place: &usize| self.tensors[*place].kind() == Kind::Float;
        let places: Vec<_> = self.of_products.iter().copied().filter(is_cast).collect();
        let weights: Vec<_> = places.iter().map(|&place| self.tensors[place].shallow_clone()).collect();
        let cast = weights_in_autocast(&weights).unwrap_or_else(|error| panic!("{error}"));
        let mut tensors: Vec<_> = self.tensors.iter().map(Tensor::shallow_clone).collect();
        places.into_iter().zip(cast).for_each(|(place, cast)| tensors[place] = cast);
        Some(tensors)
    }

    /// From here on training keeps of each of the network's [blocks](architectures::Network::blocks) but what it takes, and computes
    /// the block once more on the way back: less memory for at most one more forward pass. The gradients are the same, bit for bit;
    /// BatchNorm's running statistics take in each batch once. Where it [synchronizes](Self::synchronize_batch_norm), whose ranks would
    /// have to meet once more, nothing is recomputed. Gives whether the network has blocks.
    pub fn recompute_blocks(&mut self) -> bool {
        self.recomputed = blocks::of(&self.order);
        !self.recomputed.is_empty()
    }

    /// Whether blocks are computed once more.
    pub(crate) fn recomputes_blocks(&self) -> bool {
        !self.recomputed.is_empty()
    }

    fn own_layer(&self, node: usize) -> OwnLayer {
        let state = self.tensors[self.state[node].clone()].iter().map(Tensor::shallow_clone).collect();
        OwnLayer { state, is_frozen: self.frozen[node].get() }
    }

    /// BatchNorm counts the batches that have gone into its running statistics.
    fn count_batch(&self) {
        let is_counter = |parameter: &Parameter| matches!(parameter.role, ParameterRole::NumBatchesTracked);
        let all = self.parameters.iter().zip(&self.tensors);
        let counters = all.filter(|(parameter, _)| is_counter(parameter) && !self.frozen[parameter.node.index()].get());
        let counters: Vec<_> = counters.map(|(_, tensor)| tensor.shallow_clone()).collect();
        add_to_each(&counters, 1).unwrap_or_else(|error| panic!("{error}"));
    }

    /// How `node` takes part in a pass.
    fn mode(&self, node: NodeId, train: bool) -> Mode<'_> {
        match &self.sync_batch_norm {
            _ if !train || self.frozen[node.index()].get() => Mode::Evaluate,
            _ if self.synchronization_is_paused.get() => Mode::Train,
            None => Mode::Train,
            Some(sync) => Mode::TrainTogether(sync),
        }
    }
}

#[cfg(test)]
impl Backbone {
    /// For five classes and images of this side, its weights drawn without libtorch's generator, which tests share, and as large as
    /// training would have them.
    pub(crate) fn drawn_by_sines(name: &str, side: i64) -> Self {
        let network = architectures::architecture(name).unwrap().network(5).with_image_side(side as usize);
        let backbone = Self::new(network, Device::Cpu);
        for (_, mut parameter) in backbone.trainable() {
            let inputs = parameter.size().iter().skip(1).product::<i64>().max(1) as f64;
            let count = Tensor::arange(parameter.numel() as i64, (Kind::Float, Device::Cpu));
            let drawn = (count * 12.9898).sin() * (1.5 / inputs).sqrt();
            tch::no_grad(|| parameter.copy_(&drawn.view(&parameter.size()[..])));
        }
        backbone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// The smallest network of each family, and images as small as it takes them.
    const SMALLEST: &[(&str, i64)] = &[
        ("resnet18", 64),
        ("cifar_resnet20", 32),
        ("mobilenet_v2", 64),
        ("mobilenet_v3_small", 64),
        ("mobilenetv4_conv_small", 64),
        ("mobilenetv4_hybrid_medium", 64),
        ("efficientnet_b0", 64),
        ("vgg11_bn", 32),
        ("squeezenet1_1", 64),
        ("shufflenet_v2_x0_5", 64),
        ("densenet121", 64),
        ("convnext_tiny", 64),
        ("convnextv2_atto", 64),
        ("vit_b_32", 224),
        ("eva02_tiny_patch14_336", 56),
        ("swin_t", 64),
        ("swin_v2_t", 64),
        ("maxvit_t", 224),
        ("lenet", 32),
    ];

    #[test]
    fn every_family_computes_its_logits_and_gradients() {
        tch::manual_seed(1);
        for &(name, side) in SMALLEST {
            let network = architectures::architecture(name).unwrap().network(5).with_image_side(side as usize);
            let backbone = Backbone::new(network, Device::Cpu);
            let images = Tensor::randn([2, 3, side, side], (Kind::Float, Device::Cpu));
            let logits = backbone.forward(&images, true);
            assert_eq!(logits.size(), [2, 5], "{name}");
            logits.sum(Kind::Float).backward();
            for (key, parameter) in backbone.trained() {
                assert!(parameter.grad().defined(), "{key} has no gradient in {name}");
            }
        }
    }

    #[test]
    fn operations_computed_in_one_give_the_same_bits() {
        for (name, side) in [("resnet18", 64), ("cifar_resnet20", 32), ("densenet121", 64), ("shufflenet_v2_x0_5", 64)]
        {
            let pass = |grouped: bool| {
                let mut backbone = Backbone::drawn_by_sines(name, side);
                let alone = backbone.network().nodes().len();
                assert!(backbone.order.steps.len() < alone, "{name} has nothing to compute in one");
                if !grouped {
                    backbone.order = Arc::new(Order::one_by_one(backbone.network().clone()));
                }
                let images =
                    Tensor::arange(4 * 3 * side * side, (Kind::Float, Device::Cpu)).sin().view([4, 3, side, side]);
                let logits = backbone.forward(&images, true);
                logits.square().sum(Kind::Float).backward();
                let gradients = backbone.trained().into_iter().map(|(_, tensor)| tensor.grad());
                let buffers = backbone.buffers().into_iter().map(|(_, tensor)| tensor);
                gradients.chain(buffers).chain([logits.detach()]).collect::<Vec<_>>()
            };
            let (grouped, alone) = (pass(true), pass(false));
            assert!(grouped.iter().zip(&alone).all(|(grouped, alone)| grouped.equal(alone)), "{name}");
            assert!(grouped.iter().all(|tensor| tensor.isfinite().all().int64_value(&[]) == 1), "{name}");
        }
    }

    #[test]
    fn what_is_frozen_stays_as_it_is() {
        tch::manual_seed(1);
        let network = architectures::architecture("cifar_resnet20").unwrap().network(10);
        let backbone = Backbone::new(network, Device::Cpu);
        backbone.freeze_all_but_head();
        let names: Vec<_> = backbone.trained().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["linear.weight", "linear.bias"]);
        assert_eq!(names, backbone.head());
        let before: Vec<_> = backbone.state().iter().map(|(_, tensor)| tensor.copy()).collect();
        let images = Tensor::randn([4, 3, 16, 16], (Kind::Float, Device::Cpu));
        backbone.forward(&images, true).sum(Kind::Float).backward();
        assert!(backbone.trained().iter().all(|(_, tensor)| tensor.grad().defined()));
        assert!(before.iter().zip(backbone.state()).all(|(left, (_, right))| left.equal(&right)), "statistics moved");
        backbone.unfreeze();
        assert_eq!(backbone.trained().len(), backbone.trainable().len());
        backbone.forward(&images, true).sum(Kind::Float).backward();
        assert!(backbone.trained().iter().all(|(_, tensor)| tensor.grad().defined()));
    }

    #[test]
    fn batch_norm_counts_batches_and_follows_them() {
        tch::manual_seed(1);
        let network = architectures::architecture("cifar_resnet20").unwrap().network(10);
        let backbone = Backbone::new(network, Device::Cpu);
        let images = Tensor::randn([4, 3, 16, 16], (Kind::Float, Device::Cpu)) + 3.0;
        for _ in 0..3 {
            let _ = backbone.forward(&images, true);
        }
        let _ = backbone.forward(&images, false);
        let state = backbone.state();
        let get = |key: &str| state.iter().find(|(name, _)| name == key).unwrap().1.shallow_clone();
        assert_eq!(get("bn1.num_batches_tracked").int64_value(&[]), 3);
        assert!(get("bn1.running_mean").abs().sum(Kind::Float).double_value(&[]) > 0.1);
    }
}
