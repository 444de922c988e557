//! A pass through operations of a network, one after the other.

use architectures::{Network, Node, NodeId, Op};
use tch::Tensor;
use torch_ext::{Fused, Takers, kernels};

use crate::forward::{self, Constants, Mode};

/// What is computed, in which order: follows from the network.
#[derive(Debug)]
pub(crate) struct Order {
    pub network: Network,
    /// What is computed one after the other.
    pub steps: Vec<Step>,
    /// For each node, which of its inputs its value is written over.
    overwritten: Vec<Option<usize>>,
    /// For each node, who takes its value.
    takers: Vec<Takers>,
}

/// Operations that are computed in one where that can be: see [`Network::groups`].
#[derive(Debug)]
pub(crate) struct Step {
    pub nodes: Vec<NodeId>,
    /// The nodes whose values nobody takes after this step.
    pub freed: Vec<NodeId>,
    /// Whether it ends in a sum that the next step, a LayerNorm alone, takes, and nothing learned scales what is summed.
    before_norm: bool,
}

impl Order {
    pub(crate) fn of(network: Network) -> Self {
        let takers = |is_one: bool| if is_one { Takers::OneProduct } else { Takers::Any };
        let takers = network.taken_by_one_product().into_iter().map(takers).collect();
        Self { steps: steps(&network), overwritten: network.overwritten(), takers, network }
    }

    /// As [`of`](Self::of), with nothing computed in one.
    #[cfg(test)]
    pub(crate) fn one_by_one(network: Network) -> Self {
        let mut order = Self::of(network);
        let one = |node: NodeId| Step { nodes: vec![node], freed: Vec::new(), before_norm: false };
        order.steps = order.steps.iter().flat_map(|step| step.nodes.clone()).map(one).collect();
        order
    }

    /// No value yet of any node.
    pub(crate) fn no_values(&self) -> Values {
        Values(self.network.nodes().iter().map(|_| None).collect())
    }
}

fn steps(network: &Network) -> Vec<Step> {
    let groups = network.groups();
    let is_before_norm = |index: usize| {
        let (first, last) = (groups[index][0], groups[index][groups[index].len() - 1]);
        let op = |node: NodeId| &network.nodes()[node.index()].op;
        let Some(&[norm]) = groups.get(index + 1).map(Vec::as_slice) else { return false };
        matches!((op(last), op(norm)), (Op::Add, Op::LayerNorm { .. }))
            && network.nodes()[norm.index()].inputs[..] == [last]
            && matches!(op(first), Op::Add | Op::StochasticDepth { .. })
    };
    let before_norm: Vec<_> = (0..groups.len()).map(is_before_norm).collect();
    let step = |(nodes, before_norm)| Step { nodes, freed: Vec::new(), before_norm };
    let mut steps: Vec<_> = groups.into_iter().zip(before_norm).map(step).collect();
    let mut last_use = vec![None; network.nodes().len()];
    for (index, step) in steps.iter().enumerate() {
        for input in step.nodes.iter().flat_map(|node| &network.nodes()[node.index()].inputs) {
            last_use[input.index()] = Some((*input, index));
        }
    }
    for (node, index) in last_use.into_iter().flatten() {
        steps[index].freed.push(node);
    }
    steps
}

#[cfg(test)]
thread_local! {
    /// Steps that this thread has computed.
    pub(crate) static COMPUTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The values of nodes, while they are needed.
pub(crate) struct Values(Vec<Option<Tensor>>);

impl Values {
    pub(crate) fn set(&mut self, node: usize, value: Tensor) {
        self.0[node] = Some(value);
    }

    pub(crate) fn get(&self, node: usize) -> Tensor {
        self.0[node].as_ref().expect("a value lives until its last use").shallow_clone()
    }

    /// Frees what nobody takes after these steps.
    pub(crate) fn free(&mut self, steps: &[Step]) {
        steps.iter().flat_map(|step| &step.freed).for_each(|node| self.0[node.index()] = None);
    }

    fn has(&self, node: NodeId) -> bool {
        self.0[node.index()].is_some()
    }

    fn of(&self, node: NodeId) -> &Tensor {
        self.0[node.index()].as_ref().expect("a value lives until its last use")
    }
}

/// What an operation is computed with beside its inputs.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    /// Its tensors, in the order of a state dict.
    pub state: &'a [Tensor],
    pub mode: Mode<'a>,
}

/// What the operations of a pass are computed with.
pub(crate) struct Pass<'a, L> {
    pub order: &'a Order,
    pub layer: L,
    pub constants: &'a Constants,
}

impl<'a, L: Fn(NodeId) -> Layer<'a>> Pass<'a, L> {
    /// Computes `steps`, one after the other; `images` are the network's input.
    pub(crate) fn compute(&self, steps: &[Step], values: &mut Values, images: &Tensor) {
        for (index, step) in steps.iter().enumerate() {
            #[cfg(test)]
            COMPUTED.set(COMPUTED.get() + 1);
            let nodes = &step.nodes;
            if nodes.iter().all(|&node| values.has(node)) {
                // With the step before.
            } else if step.before_norm && kernels::of_a_gpu_are_used(images.device()) {
                self.sum_and_norm(step, steps.get(index + 1), values, images);
            } else if let Some(value) = self.fused(nodes, values) {
                values.set(nodes[nodes.len() - 1].index(), value);
            } else {
                self.one_by_one(nodes, values, images);
            }
            values.free(std::slice::from_ref(step));
        }
    }

    fn one_by_one(&self, nodes: &[NodeId], values: &mut Values, images: &Tensor) {
        for &node in nodes {
            values.set(node.index(), self.one(node, values, images));
        }
    }

    /// A sum and the LayerNorm of the `next` step, computed in one where that step is to be computed here and there is a kernel for it.
    /// Stochastic depth of a branch is computed before, either way: of all three in one there is no kernel, and these two save more.
    fn sum_and_norm(&self, step: &Step, next: Option<&Step>, values: &mut Values, images: &Tensor) {
        let nodes = self.order.network.nodes();
        let [before @ .., sum] = &step.nodes[..] else { unreachable!("a step has nodes") };
        self.one_by_one(before, values, images);
        let inputs = &nodes[sum.index()].inputs;
        let both = next.and_then(|next| {
            let norm = next.nodes[0];
            let Op::LayerNorm { epsilon, .. } = nodes[norm.index()].op else { return None };
            let layer = forward::layer_norm((self.layer)(norm).state, epsilon);
            let takers = self.order.takers[norm.index()];
            Some((norm, layer.forward_of_sum(values.of(inputs[0]), values.of(inputs[1]), takers)?))
        });
        match both {
            Some((norm, [value, normalized])) => {
                values.set(sum.index(), value);
                values.set(norm.index(), normalized);
            }
            None => self.one_by_one(&[*sum], values, images),
        }
    }

    /// The value of `node`, given those before it.
    fn one(&self, node: NodeId, values: &Values, images: &Tensor) -> Tensor {
        let Node { op, inputs, .. } = &self.order.network.nodes()[node.index()];
        let inputs: Vec<&Tensor> = inputs.iter().map(|&input| values.of(input)).collect();
        match (op, self.order.overwritten[node.index()]) {
            (Op::Input { .. }, _) => images.shallow_clone(),
            (op, Some(place)) => forward::compute_in_place(op, &inputs, place),
            (op, None) => {
                let Layer { state, mode } = (self.layer)(node);
                forward::compute(op, &inputs, state, mode, self.order.takers[node.index()], self.constants)
            }
        }
    }

    /// The value of a group, computed in one; none where that cannot be.
    fn fused(&self, group: &[NodeId], values: &Values) -> Option<Tensor> {
        match self.order.network.nodes()[group[0].index()].op {
            Op::BatchNorm2d { .. } => self.batch_norm_and_more(group, values),
            _ => self.scaled_sum(group, values),
        }
    }

    /// The value of what scales a branch and of the sum that it goes into.
    fn scaled_sum(&self, group: &[NodeId], values: &Values) -> Option<Tensor> {
        let [first, .., sum] = group else { return None };
        let nodes = self.order.network.nodes();
        let (x, scale) = match self.order.network.scaled(first.index()) {
            Some([x, scale]) => (x, Some(values.of(scale))),
            None => (nodes[first.index()].inputs[0], None),
        };
        let Node { op: Op::Add, inputs, .. } = &nodes[sum.index()] else { return None };
        let branch = group[group.len() - 2];
        let residual = inputs.iter().find(|&&input| input != branch)?;
        let dropped = group.iter().find_map(|&node| match nodes[node.index()].op {
            Op::StochasticDepth { probability } if (self.layer)(node).mode.is_training() => Some(probability),
            _ => None,
        });
        forward::scaled_sum(values.of(*residual), values.of(x), scale, dropped)
    }

    /// The value of BatchNorm and what follows it.
    fn batch_norm_and_more(&self, group: &[NodeId], values: &Values) -> Option<Tensor> {
        let [first, after @ ..] = group else { return None };
        let nodes = self.order.network.nodes();
        let Node { op: Op::BatchNorm2d { epsilon, momentum, .. }, inputs, .. } = &nodes[first.index()] else {
            return None;
        };
        let Layer { state, mode } = (self.layer)(*first);
        let together = match mode {
            Mode::Evaluate => return None,
            Mode::Train => None,
            Mode::TrainTogether(sync) => Some(sync),
        };
        let (mut before, mut fused) = (first, Fused { together, ..Fused::NOTHING });
        for node in after {
            match &nodes[node.index()] {
                Node { op: Op::Add, inputs, .. } => {
                    let residual = inputs.iter().find(|input| *input != before);
                    fused.residual = residual.map(|&node| values.of(node));
                }
                Node { op, .. } => fused.activation = forward::activation_of(op)?,
            }
            before = node;
        }
        forward::batch_norm_fused(values.of(inputs[0]), fused, state, *momentum, *epsilon)
    }
}

#[cfg(test)]
mod tests {
    use super::Order;
    use crate::Backbone;
    use std::sync::Arc;
    use tch::{Device, Kind, Tensor};
    use torch_ext::{Autocast, Precision, kernels, rng, to_channels_last};

    /// Networks with each of a GPU's kernels, and images as small as they take them.
    const NETWORKS: &[(&str, i64)] = &[
        ("cifar_resnet20", 32),
        ("mobilenet_v3_small", 64),
        (SLOW_IN_BF16, 32),
        ("eva02_tiny_patch14_336", 56),
        ("swin_t", 32),
        ("vit_small_patch14_dinov2", 56),
    ];
    /// Large windows of one channel each take a CPU minutes in bf16.
    const SLOW_IN_BF16: &str = "convnextv2_atto";

    /// The logits and all gradients of a pass under autocast.
    fn pass(backbone: &Backbone, side: i64, precision: Precision) -> Vec<Tensor> {
        let images = Tensor::arange(4 * 3 * side * side, (Kind::Float, Device::Cpu)).sin().view([4, 3, side, side]);
        let images = to_channels_last(&images).unwrap();
        let logits = rng::with_own_generator(5, || {
            let _autocast = Autocast::enter(Device::Cpu, precision).unwrap();
            backbone.forward(&images, true)
        });
        logits.to_kind(Kind::Double).square().mean(Kind::Double).backward();
        let gradients = backbone.trained().into_iter().map(|(_, tensor)| tensor.grad());
        [logits.detach()].into_iter().chain(gradients).map(|tensor| tensor.to_kind(Kind::Double)).collect()
    }

    fn distance(a: &[Tensor], b: &[Tensor]) -> f64 {
        let of = |tensors: &mut dyn Iterator<Item = Tensor>| -> f64 {
            tensors.map(|tensor| tensor.square().sum(Kind::Double).double_value(&[])).sum::<f64>()
        };
        let apart = of(&mut a.iter().zip(b).map(|(a, b)| a - b));
        (apart / of(&mut b.iter().map(Tensor::shallow_clone))).sqrt()
    }

    #[test]
    fn a_scaled_branch_computed_in_one_with_its_sum_is_what_it_is_one_by_one() {
        for (name, side) in [("convnext_tiny", 32), ("vit_small_patch14_dinov2", 56), ("swin_t", 32)] {
            for precision in [Precision::Single, Precision::BFloat16] {
                let one_by_one = || {
                    let mut backbone = Backbone::drawn_by_sines(name, side);
                    backbone.order = Arc::new(Order::one_by_one(backbone.network().clone()));
                    backbone
                };
                let alone = pass(&one_by_one(), side, precision);
                let grouped = pass(&Backbone::drawn_by_sines(name, side), side, precision);
                let apart = distance(&grouped, &alone);
                let bound = if precision == Precision::Single { 1e-5 } else { 2e-2 };
                assert!(apart < bound, "{name}, {precision:?}: {apart:.1e}");
                // A scale and what is drawn are multiplied first, which rounds otherwise: it was done.
                assert!(name != "convnext_tiny" || apart > 0.0, "{precision:?}");
            }
        }
    }

    #[test]
    fn whole_networks_compute_with_a_gpus_kernels_what_they_do_without() {
        for &(name, side) in NETWORKS {
            let backbone = || Backbone::drawn_by_sines(name, side);
            let plain = pass(&backbone(), side, Precision::Single);
            let in_kernels = kernels::with_those_of_a_gpu(|| pass(&backbone(), side, Precision::Single));
            let single = distance(&in_kernels, &plain);
            // Not the same bits, or no kernel was asked.
            assert!(single > 0.0 && single < 1e-5, "{name}: {single:.1e}");
            if name == SLOW_IN_BF16 {
                continue;
            }
            let narrow = pass(&backbone(), side, Precision::BFloat16);
            let narrow_in_kernels = kernels::with_those_of_a_gpu(|| pass(&backbone(), side, Precision::BFloat16));
            let [without, with] = [&narrow, &narrow_in_kernels].map(|pass| distance(pass, &plain));
            assert!(with < 1.3 * without && with != without, "{name}, bf16: {without:.1e} without, {with:.1e} with");
        }
    }
}
