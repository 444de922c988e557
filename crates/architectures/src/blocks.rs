//! The blocks of a network: what training can forget after the forward pass and compute once more on the way back.

use std::ops::Range;

use crate::memory::of_the_batch;
use crate::network::{Network, NodeId};
use crate::op::Op;

impl Network {
    /// The blocks, as ranges of [`nodes`](Self::nodes) in their order. A block takes one value of what lies before it, that of
    /// the node just before its first, and gives one, that of its last node: so this value is all that need be kept of a
    /// block. What comes after the last block is none: the way back would compute it at once.
    ///
    /// Blocks end where one value alone goes on, as after a residual block, and of several such places in a row where that
    /// value is small: after a pooling rather than before it.
    pub fn blocks(&self) -> Vec<Range<usize>> {
        let ends = self.bottlenecks();
        let cuts: Vec<_> = smallest_of_each_row(&ends).into_iter().map(|end| end.node).collect();
        let group_of = self.group_ends();
        let blocks = cuts.windows(2).map(|cut| cut[0] + 1..cut[1] + 1);
        // One operation alone keeps nothing but what it is given and what it gives.
        blocks.filter(|block| group_of[block.start] != block.end - 1).collect()
    }

    /// The places where one value alone goes on, in order; the logits are none.
    pub(crate) fn bottlenecks(&self) -> Vec<Bottleneck> {
        let sizes = self.sizes();
        let group_of = self.group_ends();
        let of_the_batch = of_the_batch(&self.nodes);
        let mut last_use: Vec<usize> = (0..self.nodes.len()).collect();
        for (id, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|input| last_use[input.0] = id);
        }
        let mut dying = vec![0; self.nodes.len()];
        let mut alive = 0;
        let mut ends: Vec<Bottleneck> = Vec::new();
        for id in 0..self.nodes.len() - 1 {
            // The images are the caller's, and there all the time.
            let is_input = matches!(self.nodes[id].op, Op::Input { .. });
            if !is_input {
                alive += 1;
                dying[last_use[id]] += 1;
            }
            alive -= dying[id];
            let is_alone = if is_input { alive == 0 } else { alive == 1 && last_use[id] > id };
            if is_alone && of_the_batch[id] && group_of[id] == id {
                let before = ends.last().map(|end| end.node);
                let is_next = before.is_some_and(|before| group_of[before + 1] == id);
                ends.push(Bottleneck { node: id, size: sizes[id], is_next });
            }
        }
        ends
    }

    /// For each node, the last node of its group.
    fn group_ends(&self) -> Vec<usize> {
        let mut ends = vec![0; self.nodes.len()];
        for group in self.groups() {
            let last = group.last().map_or(0, |node| node.0);
            group.iter().for_each(|&NodeId(node)| ends[node] = last);
        }
        ends
    }

    /// Values that each node has for one image: of the first size that the network takes, its usual one or near it.
    fn sizes(&self) -> Vec<usize> {
        let shapes = (224..1024).chain(1..224).find_map(|side| self.shapes(side, side).ok());
        shapes.map_or_else(|| vec![0; self.nodes.len()], |shapes| shapes.iter().map(crate::Shape::elements).collect())
    }
}

/// A place where one value alone goes on.
pub(crate) struct Bottleneck {
    /// The node that gives it.
    pub node: usize,
    /// Values in it.
    size: usize,
    /// Whether one operation alone lies between the place before and this one.
    is_next: bool,
}

/// Of each row of places one after the other those that are smaller than what is beside them in the row, the last of equal ones.
fn smallest_of_each_row(ends: &[Bottleneck]) -> Vec<&Bottleneck> {
    let mut smallest = Vec::new();
    let mut falls = true; // towards this place
    for (index, end) in ends.iter().enumerate() {
        if !end.is_next {
            falls = true;
        } else if ends[index - 1].size != end.size {
            falls = ends[index - 1].size > end.size;
        }
        let rises_after = ends.get(index + 1).is_some_and(|next| !next.is_next || next.size > end.size);
        if falls && rises_after {
            smallest.push(end);
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use crate::{ARCHITECTURES, architecture};

    /// The names of the first and the last parameters of each block.
    fn names(name: &str) -> Vec<String> {
        let network = architecture(name).unwrap().network(10);
        let name = |range: std::ops::Range<usize>| {
            let mut names =
                network.nodes()[range].iter().map(|node| node.name.as_str()).filter(|name| !name.is_empty());
            let first = names.next().unwrap_or("");
            format!("{first} … {}", names.next_back().unwrap_or(first))
        };
        network.blocks().into_iter().map(name).collect()
    }

    #[test]
    fn residual_blocks_are_blocks_and_the_last_is_none() {
        let resnet = names("resnet18");
        let expected = ["conv1 … bn1", "layer1.0.conv1 … layer1.0.bn2", "layer1.1.conv1 … layer1.1.bn2"];
        assert_eq!(resnet[..3], expected);
        assert_eq!((resnet.len(), resnet[7].as_str()), (8, "layer4.0.conv1 … layer4.0.downsample.1"));
        let convnext = names("convnext_tiny");
        assert_eq!(convnext[2], "features.1.2.layer_scale … features.2.1", "down to what is smaller");
    }

    #[test]
    fn a_row_of_layers_is_cut_where_images_shrink() {
        let expected = ["features.0 … features.2", "features.5 … features.7", "features.10 … features.14"];
        assert_eq!(names("vgg16"), expected);
    }

    #[test]
    fn a_block_takes_one_value_which_stays_as_it_is_and_gives_one() {
        let mut without = Vec::new();
        for known in ARCHITECTURES {
            let network = known.network(10);
            let (nodes, overwritten, blocks) = (network.nodes(), network.overwritten(), network.blocks());
            if blocks.is_empty() {
                without.push(known.name);
            }
            let mut end = 0;
            for block in blocks {
                assert!(block.start > 0 && block.start >= end && block.end < nodes.len(), "{}: {block:?}", known.name);
                end = block.end;
                for (id, node) in nodes.iter().enumerate() {
                    for (place, input) in node.inputs.iter().enumerate() {
                        let input = input.index();
                        if block.contains(&id) && !block.contains(&input) {
                            assert_eq!(input, block.start - 1, "{}: {block:?} takes another value", known.name);
                            assert_ne!(overwritten[id], Some(place), "{}: {block:?} writes over it", known.name);
                        } else if !block.contains(&id) && block.contains(&input) {
                            assert_eq!(input, block.end - 1, "{}: {block:?} gives another value", known.name);
                        }
                    }
                }
                let inside = |node: &crate::NodeId| block.contains(&node.index());
                let groups = network.groups();
                assert!(
                    groups.iter().all(|group| group.iter().all(inside) || !group.iter().any(inside)),
                    "{}",
                    known.name
                );
            }
        }
        // Everything that their first half computes is taken by the second.
        assert_eq!(without, ["unet", "unet_small"]);
    }
}
