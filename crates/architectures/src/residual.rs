//! The residual branches of a network, and the layers that they make.

use crate::memory::of_the_batch;
use crate::network::{Network, NodeId};
use crate::op::Op;

/// A branch that is added to a shortcut.
pub(crate) struct Branch {
    /// The node of the sum.
    pub sum: usize,
    /// Which of its inputs is the branch.
    pub place: usize,
    /// How many layers lie before.
    pub layer: usize,
}

impl Network {
    /// For each parameter, in the order of [`parameters`](Self::parameters), how deep its layer lies: 0 before the first residual block or
    /// encoder layer, 1 in it, and so on; what comes after the last is one deeper. As timm counts for layer-wise decay of a ViT.
    pub fn depths(&self) -> Vec<usize> {
        let branches = self.residual_branches();
        let depth = |node: usize| match branches.iter().find(|branch| node <= branch.sum) {
            Some(branch) => branch.layer + 1,
            None => branches.last().map_or(0, |last| last.layer + 2),
        };
        let heads = self.heads();
        let first = branches.first().map_or(0, |first| self.begin_of(first));
        let of = |node: NodeId| match node.0 {
            before if before < first && !heads.contains(&node) => 0,
            node => depth(node),
        };
        self.parameters().iter().map(|parameter| of(parameter.node)).collect()
    }

    /// The first node of the block that a branch is in.
    fn begin_of(&self, branch: &Branch) -> usize {
        let before = self.bottlenecks().into_iter().map(|place| place.node).take_while(|&node| node < branch.sum);
        before.last().map_or(0, |node| node + 1)
    }

    /// The branches that are added to what they were computed from, in order.
    pub(crate) fn residual_branches(&self) -> Vec<Branch> {
        let of_the_batch = of_the_batch(&self.nodes);
        // Operations on the longest way to a node.
        let mut depths = vec![0_usize; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            depths[id] = node.inputs.iter().map(|input| depths[input.0] + 1).max().unwrap_or(0);
        }
        let mut branches: Vec<Branch> = Vec::new();
        let mut before_had_attention = false;
        for (sum, node) in self.nodes.iter().enumerate() {
            let (Op::Add, &[one, other]) = (&node.op, &node.inputs[..]) else { continue };
            if !of_the_batch[one.0] || !of_the_batch[other.0] || depths[one.0] == depths[other.0] {
                continue;
            }
            // The shorter way is the shortcut.
            let place = usize::from(depths[other.0] > depths[one.0]);
            let branch = node.inputs[place].0;
            let begin = branches.last().map_or(0, |before| before.sum);
            let has_attention = self.nodes[begin..=branch].iter().any(|node| matches!(node.op, Op::Attention { .. }));
            let is_same_layer = before_had_attention && !has_attention;
            let layer = branches.last().map_or(0, |before| before.layer + usize::from(!is_same_layer));
            branches.push(Branch { sum, place, layer });
            before_had_attention = has_attention;
        }
        branches
    }
}

#[cfg(test)]
mod tests {
    use crate::{Network, architecture};

    fn network(name: &str) -> Network {
        architecture(name).unwrap().network(10)
    }

    #[test]
    fn depths_are_those_of_timms_layer_decay() {
        let of = |name: &str, parameter: &str| {
            let network = network(name);
            let place = network.parameters().iter().position(|one| one.name == parameter).unwrap();
            network.depths()[place]
        };
        let vit = |parameter| of("vit_b_16", parameter);
        assert_eq!(["class_token", "conv_proj.weight", "encoder.pos_embedding"].map(vit), [0, 0, 0]);
        let layer =
            |index: usize, inside: &str| of("vit_b_16", &format!("encoder.layers.encoder_layer_{index}.{inside}"));
        assert_eq!(
            (layer(0, "ln_1.weight"), layer(0, "mlp.3.bias"), layer(11, "self_attention.out_proj.weight")),
            (1, 1, 12)
        );
        assert_eq!(["encoder.ln.weight", "heads.head.weight"].map(vit), [13, 13]);
        let eva = |parameter| of("eva02_tiny_patch14_336", parameter);
        assert_eq!(
            ["pos_embed", "blocks.0.attn.q_bias", "blocks.11.mlp.fc2.weight", "fc_norm.weight"].map(eva),
            [0, 1, 12, 13]
        );
        let resnet = |parameter| of("resnet50", parameter);
        assert_eq!(
            ["conv1.weight", "layer1.0.conv1.weight", "layer4.2.bn3.weight", "fc.weight"].map(resnet),
            [0, 1, 16, 17]
        );
        assert_eq!(network("vgg11").depths().into_iter().max(), Some(0));
    }
}
