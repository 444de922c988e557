//! Stochastic depth for any residual network.

use crate::draw::Draw;
use crate::network::{Auxiliary, Network, Node, NodeId};
use crate::op::{Draws, Op};

impl Network {
    /// The same network whose residual branches are left out in training, image by image, with a probability that grows with the
    /// depth, in even steps up to `probability` (0–1) at the last: stochastic depth (Huang et al., 2016), timm's `drop_path_rate`. Both
    /// branches of an encoder layer have the same. Where the network has stochastic depth by itself it keeps its steps.
    ///
    /// `None` where there are no residual branches.
    #[must_use]
    pub fn with_drop_path(mut self, probability: f64) -> Option<Self> {
        let own =
            |node: &Node| if let Op::StochasticDepth { probability } = node.op { Some(probability) } else { None };
        let most = self.nodes.iter().filter_map(own).fold(0.0, f64::max);
        if most > 0.0 {
            for node in &mut self.nodes {
                if let Op::StochasticDepth { probability: own } = &mut node.op {
                    *own *= probability / most;
                }
            }
            return Some(self);
        }
        let branches = self.residual_branches();
        let last = branches.last()?.layer;
        let mut at = vec![None; self.nodes.len()];
        for branch in &branches {
            let share = if last == 0 { 1.0 } else { branch.layer as f64 / last as f64 };
            at[branch.sum] = Some((branch.place, probability * share));
        }
        Some(self.with_branches_dropped(&at))
    }

    /// Puts stochastic depth before those sums that `at` says, on the input at this place, with this probability.
    fn with_branches_dropped(self, at: &[Option<(usize, f64)>]) -> Self {
        let zero = Draws { weight: Draw::Constant(0.0), bias: Draw::Constant(0.0) };
        let mut now = Vec::with_capacity(self.nodes.len()); // of each node, its new number
        let mut nodes = Vec::new();
        for (mut node, dropped) in self.nodes.into_iter().zip(at) {
            for input in &mut node.inputs {
                *input = now[input.0];
            }
            if let &Some((place, probability)) = dropped
                && probability > 0.0
            {
                let inputs = vec![node.inputs[place]];
                node.inputs[place] = NodeId(nodes.len());
                nodes.push(Node { name: String::new(), op: Op::StochasticDepth { probability }, inputs, draws: zero });
            }
            now.push(NodeId(nodes.len()));
            nodes.push(node);
        }
        let listing = self.listing.into_iter().map(|node| now[node.0]).collect();
        let head = |head: Auxiliary| Auxiliary { node: now[head.node.0], ..head };
        let auxiliary = self.auxiliary.into_iter().map(head).collect();
        Self { name: self.name, nodes, listing, auxiliary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture;

    fn network(name: &str) -> Network {
        architecture(name).unwrap().network(10)
    }

    fn probabilities(network: &Network) -> Vec<f64> {
        let of = |node: &Node| if let Op::StochasticDepth { probability } = node.op { Some(probability) } else { None };
        network.nodes().iter().filter_map(of).collect()
    }

    #[test]
    fn branches_are_dropped_the_more_the_deeper() {
        let dropped = network("resnet50").with_drop_path(0.15).unwrap();
        let got = probabilities(&dropped);
        assert_eq!(got.len(), 15, "the first of sixteen blocks never");
        assert!((got[0] - 0.01).abs() < 1e-12 && (got[14] - 0.15).abs() < 1e-12, "{got:?}");
        // The branch, and not a shortcut's projection.
        for node in dropped.nodes().iter().filter(|node| matches!(node.op, Op::StochasticDepth { .. })) {
            assert!(
                dropped.nodes()[node.inputs[0].0].name.ends_with("bn3"),
                "{}",
                dropped.nodes()[node.inputs[0].0].name
            );
        }
        assert_eq!(dropped.parameters().len(), network("resnet50").parameters().len());
        for (dropped, plain) in dropped.parameters().iter().zip(network("resnet50").parameters()) {
            assert_eq!((&dropped.name, &dropped.shape), (&plain.name, &plain.shape));
        }
        let shapes = |network: &Network| network.shapes(224, 224).unwrap().last().cloned();
        assert_eq!(shapes(&dropped), shapes(&network("resnet50")));
    }

    #[test]
    fn both_branches_of_an_encoder_layer_have_the_same() {
        for name in ["vit_b_16", "eva02_base_patch14_448"] {
            let got = probabilities(&network(name).with_drop_path(0.11).unwrap());
            assert_eq!(got.len(), 22);
            for (layer, pair) in got.chunks(2).enumerate() {
                let expected = 0.01 * (layer + 1) as f64;
                assert!(pair.iter().all(|got| (got - expected).abs() < 1e-12), "{name}: {got:?}");
            }
        }
    }

    #[test]
    fn stochastic_depth_of_its_own_is_scaled() {
        let own = probabilities(&network("convnext_tiny"));
        let got = probabilities(&network("convnext_tiny").with_drop_path(0.2).unwrap());
        assert!((own[own.len() - 1] - 0.1).abs() < 1e-12, "{own:?}");
        assert!(own.iter().zip(&got).all(|(own, got)| (2.0 * own - got).abs() < 1e-12));
        assert_eq!(probabilities(&network("convnext_tiny").with_drop_path(0.0).unwrap()).len(), own.len());
    }

    #[test]
    fn networks_without_residual_branches_have_none_to_drop() {
        for name in ["vgg16", "alexnet", "lenet", "densenet121", "squeezenet1_0", "inception_v3", "shufflenet_v2_x1_0"]
        {
            assert!(network(name).with_drop_path(0.1).is_none(), "{name}");
        }
        for name in [
            "resnet18",
            "cifar_resnet20",
            "mobilenet_v2",
            "regnet_y_400mf",
            "mnasnet1_0",
            "vit_tiny_patch16_224",
            "convnextv2_atto",
        ] {
            assert!(!probabilities(&network(name).with_drop_path(0.1).unwrap()).is_empty(), "{name}");
        }
    }
}
