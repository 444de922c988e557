//! For inference: BatchNorm after a convolution is part of the convolution.

use crate::network::{Network, NodeId, takers};
use crate::op::{Conv2d, Op};

/// A network for evaluation, without the BatchNorms that follow a convolution, and where its parameters come from.
#[derive(Clone, Debug)]
pub struct Folded {
    /// The smaller network; its convolutions have a bias where one took in a BatchNorm.
    pub network: Network,
    /// For each node of the smaller network, the node of the original, and the BatchNorm that it took in.
    pub origins: Vec<(NodeId, Option<NodeId>)>,
}

impl Network {
    /// Folds each BatchNorm into the convolution before it, where nothing else takes the convolution's value.
    ///
    /// With scale `s = weight / √(running_var + ε)` the convolution's weight becomes `s·W`, and its bias
    /// `s·(b − running_mean) + bias`.
    pub fn fold_batch_norms(&self) -> Folded {
        debug_assert!(self.auxiliary.is_empty(), "a network for evaluation");
        let takers = takers(&self.nodes);
        let convolution_before = |id: usize| match (&self.nodes[id].op, self.nodes[id].inputs.as_slice()) {
            (Op::BatchNorm2d { .. }, &[input]) if takers[input.0].len() == 1 => {
                matches!(self.nodes[input.0].op, Op::Conv2d(_)).then_some(input)
            }
            _ => None,
        };
        let mut nodes = Vec::new();
        let mut origins: Vec<(NodeId, Option<NodeId>)> = Vec::new();
        let mut place = vec![NodeId(0); self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            if let Some(convolution) = convolution_before(id) {
                let folded = place[convolution.0];
                origins[folded.0].1 = Some(NodeId(id));
                if let crate::Node { op: Op::Conv2d(Conv2d { bias, .. }), .. } = &mut nodes[folded.0] {
                    *bias = true;
                }
                place[id] = folded;
                continue;
            }
            place[id] = NodeId(nodes.len());
            let mut node = node.clone();
            node.inputs.iter_mut().for_each(|input| *input = place[input.0]);
            nodes.push(node);
            origins.push((NodeId(id), None));
        }
        let kept = |id: &&NodeId| convolution_before(id.0).is_none();
        let listing = self.listing.iter().filter(kept).map(|id| place[id.0]).collect();
        Folded { network: Network { name: self.name.clone(), nodes, listing, auxiliary: Vec::new() }, origins }
    }
}

#[cfg(test)]
mod tests {
    use crate::{ARCHITECTURES, Op};

    #[test]
    fn folding_keeps_shapes_and_operations_and_loses_batch_norms() {
        for known in ARCHITECTURES {
            let network = known.network(10);
            let folded = network.fold_batch_norms();
            let side = known.image_size;
            assert_eq!(network.cost(side, side).unwrap().macs, folded.network.cost(side, side).unwrap().macs);
            assert_eq!(network.shapes(side, side).unwrap().last(), folded.network.shapes(side, side).unwrap().last());
            let left = folded.network.nodes().iter().filter(|node| matches!(node.op, Op::BatchNorm2d { .. })).count();
            // DenseNet normalizes what it concatenates, MaxViT and MobileNetV4 what others take, too.
            let is_joined = |name: &str| match known.name {
                densenet if densenet.starts_with("densenet") => {
                    name.contains("norm1") || name.contains("transition") || name.contains("norm5")
                }
                "maxvit_t" => name.ends_with("pre_norm"),
                "mobilenetv4_hybrid_medium" => name.ends_with(".norm") && !name.contains(".attn."),
                _ => false,
            };
            let norms = network.nodes().iter().filter(|node| matches!(node.op, Op::BatchNorm2d { .. }));
            let expected = norms.filter(|node| is_joined(&node.name)).count();
            assert_eq!(left, expected, "{}", known.name);
            assert_eq!(folded.origins.len(), folded.network.nodes().len());
        }
    }
}
