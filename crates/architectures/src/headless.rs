//! What a network makes of an image before it tells classes apart: its features.

use crate::network::{Network, Node, NodeId};
use crate::op::Op;

impl Network {
    /// The network up to its [head](Self::head), and for each of its nodes that has parameters which it was: it gives a row of numbers for each
    /// image, what the head takes, of an image its mean over all pixels. Other heads, which only training looks at, are left out.
    pub fn without_head(&self) -> (Self, Vec<NodeId>) {
        let head = &self.nodes[self.head().0];
        let (mut network, origins) = self.of_nodes(&self.before(head.inputs[0]));
        if matches!(head.op, Op::Conv2d(_)) {
            for op in [Op::AdaptiveAvgPool2d { output: 1 }, Op::Flatten] {
                let inputs = vec![NodeId(network.nodes.len() - 1)];
                network.nodes.push(Node { name: String::new(), op, inputs, draws: head.draws });
            }
        }
        (network, origins)
    }
}

#[cfg(test)]
mod tests {
    use crate::{ARCHITECTURES, Op, Tells};

    #[test]
    fn features_are_what_the_head_takes() {
        for known in ARCHITECTURES.iter().filter(|known| known.tells != Tells::Masks) {
            let (network, size) = (known.network(10), known.image_size);
            let (headless, _) = network.without_head();
            let shapes = headless.shapes(size, size).unwrap_or_else(|error| panic!("{}: {error}", known.name));
            let taken = match &network.nodes()[network.head().index()].op {
                Op::Linear { in_features, .. } => *in_features,
                Op::Conv2d(conv) => conv.in_channels,
                other => panic!("{}: a head that is {other:?}", known.name),
            };
            assert_eq!(shapes.last().unwrap().sides(), [taken], "{}", known.name);
            // Everything before the head is there, by the same names and in the same order.
            let heads = network.heads();
            let before = network.parameters().into_iter().filter(|parameter| !heads.contains(&parameter.node));
            let kept: Vec<_> = headless.parameters().into_iter().map(|parameter| parameter.name).collect();
            assert!(kept.iter().all(|name| network.parameters().iter().any(|own| own.name == *name)));
            if heads.len() == 1 {
                assert_eq!(kept, before.map(|parameter| parameter.name).collect::<Vec<_>>(), "{}", known.name);
            }
        }
    }
}
