//! Which operations can be computed in one: BatchNorm, the sum after it and the activation after that.

use crate::network::{Network, NodeId, takers};
use crate::op::{Activation, Op};

impl Network {
    /// The operations in an order in which they can be computed, in groups of one; but BatchNorm, the sum that alone takes
    /// its value, and the activation that alone takes the value of either are one group, in this order: a ReLU or a ReLU6; of
    /// BatchNorm alone, a SiLU or a hard swish, too. A group's value is that of its last node; nobody else takes the values
    /// of the others.
    pub fn groups(&self) -> Vec<Vec<NodeId>> {
        let takers = takers(&self.nodes);
        let mut groups: Vec<Vec<NodeId>> = (0..self.nodes.len()).map(|id| vec![NodeId(id)]).collect();
        // Of two BatchNorms before a sum the later one comes first here, and takes it.
        for start in (0..self.nodes.len()).rev() {
            if !matches!(self.nodes[start].op, Op::BatchNorm2d { .. }) {
                continue;
            }
            let mut end = start;
            while let &[NodeId(next)] = &takers[end][..]
                && groups[next].len() == 1
                && follows(&self.nodes[next].op, &self.nodes[end].op)
            {
                let group = std::mem::take(&mut groups[end]);
                groups[next].splice(0..0, group);
                end = next;
            }
        }
        groups.retain(|group| !group.is_empty());
        groups
    }
}

/// Whether `next` can be computed in one with `before`, and all of the group before that.
fn follows(next: &Op, before: &Op) -> bool {
    match next {
        Op::Add => matches!(before, Op::BatchNorm2d { .. }),
        Op::Activation(Activation::Relu | Activation::Relu6) => matches!(before, Op::BatchNorm2d { .. } | Op::Add),
        // Their gradient depends on what they are given, and of a sum nobody keeps that.
        Op::Activation(Activation::Silu | Activation::HardSwish) => matches!(before, Op::BatchNorm2d { .. }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::{ARCHITECTURES, Builder, Conv2d, Network, Scheme, architecture};

    fn words(network: &Network) -> Vec<String> {
        let word = |group: Vec<crate::NodeId>| {
            let words: Vec<_> = group.iter().map(|id| network.nodes()[id.index()].op.word()).collect();
            words.join(" + ")
        };
        network.groups().into_iter().map(word).collect()
    }

    #[test]
    fn a_block_with_a_projection_is_four_steps() {
        let mut net = Builder::new("block", Scheme::PYTORCH);
        let image = net.input(3);
        let y = net.conv("conv1", image, Conv2d::to(3, 3));
        let y = net.batch_norm("bn1", y);
        let y = net.relu(y);
        let y = net.conv("conv2", y, Conv2d::to(3, 3));
        let y = net.batch_norm("bn2", y);
        let shortcut = net.conv("downsample", image, Conv2d::to(3, 1));
        let shortcut = net.batch_norm("bn3", shortcut);
        let sum = net.add(y, shortcut);
        net.relu(sum);
        let expected = ["input", "conv", "batch norm + relu", "conv", "batch norm", "conv", "batch norm + add + relu"];
        assert_eq!(words(&net.finish()), expected);
    }

    #[test]
    fn a_value_that_is_taken_twice_ends_its_group() {
        let mut net = Builder::new("twice", Scheme::PYTORCH);
        let image = net.input(3);
        let normalized = net.batch_norm("bn", image);
        let rectified = net.relu(normalized);
        net.add(normalized, rectified);
        assert_eq!(words(&net.finish()), ["input", "batch norm", "relu", "add"]);
    }

    #[test]
    fn groups_hold_each_node_once_and_after_what_it_takes() {
        for known in ARCHITECTURES {
            let network = known.network(10);
            let order: Vec<_> = network.groups().into_iter().flatten().collect();
            let mut place = vec![None; network.nodes().len()];
            for (index, id) in order.iter().enumerate() {
                assert_eq!(place[id.index()].replace(index), None, "{}", known.name);
            }
            for (node, own) in network.nodes().iter().zip(&place) {
                assert!(node.inputs.iter().all(|input| place[input.index()] < *own), "{}", known.name);
            }
            assert!(place.iter().all(Option::is_some), "{}", known.name);
        }
    }

    #[test]
    fn every_silu_behind_a_convolution_is_in_a_group() {
        for (name, alone) in [("efficientnet_b0", "silu"), ("mobilenet_v3_large", "hard swish")] {
            let words = words(&architecture(name).unwrap().network(1000));
            let grouped = words.iter().filter(|word| **word == format!("batch norm + {alone}")).count();
            assert!(grouped > 10, "{name}: {words:?}");
        }
    }

    #[test]
    fn every_relu_of_a_resnet_is_in_a_group() {
        let network = architecture("resnet50").unwrap().network(1000);
        let words = words(&network);
        assert!(words.iter().all(|word| word != "relu" && word != "add"), "{words:?}");
    }
}
