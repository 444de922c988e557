//! Learned positions, of which there are as many as patches of an image.

use crate::memory::of_the_batch;
use crate::network::{Network, NodeId};
use crate::op::Op;
use crate::shape::Shape;

/// The learned positions of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions<'a> {
    /// Their name in the state.
    pub name: &'a str,
    /// How many there are.
    pub count: usize,
    /// Those of them that are of no patch: the class token's, the first ones.
    pub others: usize,
}

impl Network {
    /// The learned positions, if there are any: a value for each token, added to it.
    pub fn positions(&self) -> Option<Positions<'_>> {
        let (positions, _) = self.position_nodes()?;
        let Op::Learned { shape, .. } = &self.nodes[positions.0].op else { return None };
        let count = *shape.sides().first()?;
        let others = count - count.isqrt().pow(2);
        Some(Positions { name: &self.nodes[positions.0].name, count, others })
    }

    /// The same network for images of this side, in pixels: with as many learned positions as it then has tokens. One that has none, or
    /// whose patches do not make up such an image, is the same.
    #[must_use]
    pub fn with_image_side(self, side: usize) -> Self {
        let Some((_, tokens)) = self.position_nodes() else { return self };
        let patch =
            self.nodes.iter().find_map(|node| if let Op::Conv2d(conv) = &node.op { Some(conv.stride) } else { None });
        if patch.is_none_or(|patch| !side.is_multiple_of(patch)) {
            return self;
        }
        let known = self.shapes_until(tokens.0 + 1, side, side);
        let count = known.ok().and_then(|shapes| shapes.last()?.sides().first().copied());
        match count {
            Some(count) => self.with_positions(count),
            None => self,
        }
    }

    /// The same network with so many learned positions, if it has any.
    #[must_use]
    pub fn with_positions(mut self, count: usize) -> Self {
        let Some((positions, _)) = self.position_nodes() else { return self };
        if let Op::Learned { shape, stored } = &mut self.nodes[positions.0].op {
            let &[_, features] = shape.sides() else { return self };
            *shape = Shape::from([count, features]);
            let rows = stored.len() - 2;
            stored[rows] = count;
        }
        self
    }

    /// The node of the learned positions, and that of the tokens that they are added to.
    fn position_nodes(&self) -> Option<(NodeId, NodeId)> {
        let of_the_batch = of_the_batch(&self.nodes);
        let sums = self.nodes.iter().filter(|node| node.op == Op::Add);
        sums.flat_map(|sum| [(sum.inputs[0], sum.inputs[1]), (sum.inputs[1], sum.inputs[0])]).find(
            |&(positions, tokens)| {
                let is_table =
                    matches!(&self.nodes[positions.0].op, Op::Learned { shape, .. } if shape.sides().len() == 2);
                is_table && of_the_batch[tokens.0]
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture;

    #[test]
    fn there_are_as_many_positions_as_tokens() {
        let vit = |side| architecture("vit_b_16").unwrap().network(10).with_image_side(side);
        let positions = |network: &Network| network.positions().map(|positions| (positions.count, positions.others));
        assert_eq!(positions(&vit(224)), Some((197, 1)));
        assert_eq!(positions(&vit(384)), Some((577, 1)));
        assert_eq!(vit(384).shapes(384, 384).unwrap().last().unwrap().sides(), [10]);
        assert!(vit(224).shapes(384, 384).is_err() && vit(250) == vit(224), "patches of 16 pixels do not make up 250");
        assert_eq!(positions(&vit(224).with_positions(50)), Some((50, 1)));
        let dino = architecture("vit_small_patch14_reg4_dinov2").unwrap().network(10);
        assert_eq!(positions(&dino), Some((37 * 37, 0)));
        assert_eq!(positions(&dino.with_image_side(224)), Some((16 * 16, 0)));
        let eva = architecture("eva02_tiny_patch14_336").unwrap().network(10).with_image_side(448);
        assert_eq!((positions(&eva), eva.shapes(448, 448).is_ok()), (Some((32 * 32 + 1, 1)), true));
        for name in ["resnet18", "swin_t", "convnext_tiny", "maxvit_t"] {
            let network = architecture(name).unwrap().network(10);
            assert!(network.positions().is_none() && network.clone().with_image_side(448) == network, "{name}");
        }
    }
}
