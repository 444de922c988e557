//! Which operations write their value over one of their inputs: less memory to take, to fill and to give back in each step.
//! What is kept for the backward pass stays the same.

use crate::network::{Network, Node, NodeId, takers};
use crate::op::{Activation, Op};

impl Network {
    /// For each node, which of its inputs (its place in [`Node::inputs`]) the node's value may be written over, because
    /// nobody needs that input any more: no other operation takes it, and the one that made it does not keep it for its
    /// backward pass. The numbers are the same either way.
    pub fn overwritten(&self) -> Vec<Option<usize>> {
        overwritten(self.nodes())
    }
}

pub(crate) fn overwritten(nodes: &[Node]) -> Vec<Option<usize>> {
    let takers = takers(nodes);
    let may_go = |&input: &NodeId| {
        takers[input.0].len() == 1 && matches!(nodes[input.0].op, Op::Conv2d(_) | Op::BatchNorm2d { .. } | Op::Add)
    };
    let overwritten_of = |node: &Node| match node.op {
        Op::Activation(Activation::Relu | Activation::Relu6) | Op::Add => node.inputs.iter().position(may_go),
        _ => None,
    };
    nodes.iter().map(overwritten_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, Conv2d, Scheme, architecture};

    #[test]
    fn a_residual_block_writes_over_what_nobody_keeps() {
        let mut net = Builder::new("block", Scheme::PYTORCH);
        let image = net.input(3);
        let x = net.relu(image); // the caller's
        let y = net.conv("conv1", x, Conv2d::to(3, 3));
        let y = net.relu(y);
        let y = net.conv("conv2", y, Conv2d::to(3, 3));
        let y = net.batch_norm("bn2", y);
        let sum = net.add(x, y); // x is kept by ReLU and taken twice
        net.relu(sum);
        assert_eq!(net.finish().overwritten(), [None, None, None, Some(0), None, None, Some(1), Some(0)]);
    }

    #[test]
    fn every_relu_and_sum_of_a_resnet_is_in_place() {
        let network = architecture("resnet50").unwrap().network(1000);
        let overwritten = network.overwritten();
        for (node, place) in network.nodes().iter().zip(&overwritten) {
            let expected = matches!(node.op, Op::Activation(Activation::Relu) | Op::Add);
            assert_eq!(place.is_some(), expected, "{:?}", node.op);
        }
    }
}
