//! Blocks that training forgets after the forward pass and computes once more on the way back.

use std::ops::Range;
use std::sync::Arc;

use architectures::{NodeId, Op};
use tch::{Device, Tensor, no_grad};
use torch_ext::{Time, recomputed, rng};

use crate::forward::{Constants, Mode};
use crate::pass::{Layer, Order, Pass};

/// A block of [`architectures::Network::blocks`].
#[derive(Debug)]
pub(crate) struct Block {
    /// Its nodes.
    pub nodes: Range<usize>,
    /// Its steps.
    pub steps: Range<usize>,
    /// Whether something in it is drawn.
    draws: bool,
}

/// The blocks of a network, in the order in which they are computed.
pub(crate) fn of(order: &Order) -> Vec<Block> {
    let block = |nodes: Range<usize>| {
        let is_inside = |step: &usize| nodes.contains(&order.steps[*step].nodes[0].index());
        let steps: Vec<_> = (0..order.steps.len()).filter(is_inside).collect();
        let ops = order.network.nodes()[nodes.clone()].iter().map(|node| &node.op);
        let draws = ops.into_iter().any(|op| matches!(op, Op::Dropout { .. } | Op::StochasticDepth { .. }));
        Block { steps: steps[0]..steps[steps.len() - 1] + 1, draws, nodes }
    };
    order.network.blocks().into_iter().map(block).collect()
}

/// A node's part of a pass.
pub(crate) struct OwnLayer {
    pub state: Vec<Tensor>,
    /// Whether it computes as in evaluation.
    pub is_frozen: bool,
}

impl OwnLayer {
    pub(crate) fn wants_gradient(&self) -> bool {
        self.state.iter().any(Tensor::requires_grad)
    }
}

/// What a block is computed with, in the forward pass and once more on the way back.
pub(crate) struct BlockPass {
    pub order: Arc<Order>,
    /// For each node of the block.
    pub layers: Vec<OwnLayer>,
    pub constants: Constants,
    pub device: Device,
}

impl BlockPass {
    /// The value of `block` for `input`, in training.
    pub(crate) fn recomputed(self, block: &Block, input: &Tensor) -> torch_ext::Result<Tensor> {
        let (nodes, steps, draws) = (block.nodes.clone(), block.steps.clone(), block.draws);
        let mut generator = None;
        let compute = move |input: &Tensor, time: Time| match (time, &generator) {
            (Time::First, _) => {
                generator =
                    if draws { Some(rng::in_use(self.device).map_err(|error| error.to_string())?) } else { None };
                panics::catch(|| self.compute(&nodes, &steps, input, time))
            }
            (Time::Again, None) => panics::catch(|| self.compute(&nodes, &steps, input, time)),
            (Time::Again, Some(state)) => {
                let again = || panics::catch(|| self.compute(&nodes, &steps, input, time));
                rng::replay(self.device, state, again).map_err(|error| error.to_string())?
            }
        };
        recomputed(input, Box::new(compute))
    }

    fn compute(&self, nodes: &Range<usize>, steps: &Range<usize>, input: &Tensor, time: Time) -> Tensor {
        let states: Vec<_> =
            nodes.clone().zip(&self.layers).map(|(node, layer)| self.state(node, layer, time)).collect();
        let layer = |node: NodeId| {
            let place = node.index() - nodes.start;
            let mode = if self.layers[place].is_frozen { Mode::Evaluate } else { Mode::Train };
            Layer { state: &states[place], mode }
        };
        let mut values = self.order.no_values();
        values.set(nodes.start - 1, input.shallow_clone());
        Pass { order: &self.order, layer, constants: &self.constants }.compute(
            &self.order.steps[steps.clone()],
            &mut values,
            input,
        );
        values.get(nodes.end - 1)
    }

    /// The tensors of a node. A batch goes into running statistics once: the second time they are copies.
    fn state(&self, node: usize, layer: &OwnLayer, time: Time) -> Vec<Tensor> {
        let is_batch_norm = matches!(self.order.network.nodes()[node].op, Op::BatchNorm2d { .. });
        let is_copied = time == Time::Again && is_batch_norm && !layer.is_frozen;
        let one = |tensor: &Tensor| match is_copied && !tensor.requires_grad() {
            true => no_grad(|| tensor.copy()),
            false => tensor.shallow_clone(),
        };
        layer.state.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backbone;
    use crate::pass::COMPUTED;
    use tch::Kind;
    use torch_ext::{Autocast, Precision, kernels};

    /// A network of each family that has blocks, and images as small as it takes them.
    const NETWORKS: &[(&str, i64)] = &[
        ("resnet50", 64),
        ("cifar_resnet20", 32),
        ("mobilenet_v2", 64),
        ("mobilenet_v3_small", 64),
        ("mobilenetv4_conv_small", 64),
        ("mobilenetv4_hybrid_medium", 64),
        ("efficientnet_b0", 64),
        ("efficientnet_v2_s", 64),
        ("vgg11_bn", 32),
        ("vgg11", 32),
        ("alexnet", 96),
        ("squeezenet1_1", 64),
        ("shufflenet_v2_x0_5", 64),
        ("densenet121", 64),
        ("regnet_y_400mf", 64),
        ("googlenet", 64),
        ("mnasnet0_5", 64),
        ("convnext_tiny", 64),
        ("convnextv2_atto", 64),
        ("vit_b_32", 224),
        ("eva02_tiny_patch14_336", 56),
        ("swin_t", 64),
        ("swin_v2_t", 64),
        ("maxvit_t", 224),
        ("fcn_resnet50", 64),
        ("lenet", 32),
    ];

    /// Two passes there and back, with what is drawn being another the second time: what they leave, and steps computed.
    fn passes(backbone: &Backbone, side: i64) -> (Vec<Tensor>, usize) {
        COMPUTED.set(0);
        let images = Tensor::arange(2 * 3 * side * side, (Kind::Float, Device::Cpu)).sin().view([2, 3, side, side]);
        // A generator of this thread: tests share libtorch's.
        let logits = rng::with_own_generator(5, || {
            let pass = || backbone.forward(&images, true);
            let losses = [pass(), pass()].map(|logits| logits.square().mean(Kind::Float));
            losses.iter().for_each(Tensor::backward);
            losses.map(|loss| loss.detach())
        });
        let gradients = backbone.trained().into_iter().map(|(_, tensor)| tensor.grad());
        let buffers = backbone.buffers().into_iter().map(|(_, tensor)| tensor);
        (gradients.chain(buffers).chain(logits).collect(), COMPUTED.get())
    }

    #[test]
    fn gradients_and_statistics_are_the_same_bits_for_one_forward_pass_more_at_most() {
        for &(name, side) in NETWORKS {
            let (plain, mut other) = (Backbone::drawn_by_sines(name, side), Backbone::drawn_by_sines(name, side));
            assert!(other.recompute_blocks(), "{name}");
            let (expected, computed) = passes(&plain, side);
            let (got, computed_again) = passes(&other, side);
            assert_eq!(expected.len(), got.len());
            for (index, (expected, got)) in expected.iter().zip(&got).enumerate() {
                assert!(expected.equal(got), "{name}: tensor {index} of {}", plain.trained().len());
            }
            assert!(
                computed_again > computed && computed_again < 2 * computed,
                "{name}: {computed_again} of {computed}"
            );
        }
    }

    #[test]
    fn in_bf16_and_with_a_gpus_kernels_they_are_the_same_bits_too() {
        // Of what is recomputed autocast casts the weights one by one, else they are cast at once. Between blocks a sum and its LayerNorm
        // are computed one by one, within them in one.
        let pass = |name: &str, side: i64, recomputed: bool| {
            let mut backbone = Backbone::drawn_by_sines(name, side);
            assert!(!recomputed || backbone.recompute_blocks());
            kernels::with_those_of_a_gpu(|| {
                let _autocast = Autocast::enter(Device::Cpu, Precision::BFloat16).unwrap();
                passes(&backbone, side).0
            })
        };
        for (name, side) in [("swin_t", 32), ("resnet18", 64)] {
            for (index, (plain, recomputed)) in pass(name, side, false).iter().zip(pass(name, side, true)).enumerate() {
                assert!(plain.equal(&recomputed), "{name}: tensor {index}");
            }
        }
    }

    #[test]
    fn frozen_blocks_are_computed_once() {
        let mut backbone = Backbone::drawn_by_sines("resnet18", 64);
        backbone.recompute_blocks();
        backbone.freeze_all_but_head();
        let before: Vec<_> = backbone.buffers().into_iter().map(|(_, tensor)| tensor.copy()).collect();
        let (left, computed) = passes(&backbone, 64);
        assert_eq!(computed, 2 * backbone.order.steps.len());
        assert!(left[0].defined() && before.iter().zip(&left[2..]).all(|(before, now)| before.equal(now)));
        // A twin does as its original.
        let twin = backbone.twin().arrive();
        assert!(twin.recomputes_blocks());
    }
}
