//! Which operations can be computed in one: BatchNorm, the sum after it and the activation after that; what scales a branch, and the
//! sum that it goes into. And who takes values in which way, for what can be rounded where it is made.

use crate::network::{Network, Node, NodeId, takers};
use crate::op::{Activation, Op, Projections};

impl Network {
    /// The operations in an order in which they can be computed, in groups of one; but BatchNorm, the sum that alone takes
    /// its value, and the activation that alone takes the value of either are one group, in this order: a ReLU or a ReLU6; of
    /// BatchNorm alone, a SiLU or a hard swish, too. So are a layer's scale, the stochastic depth after it, either or both, and the sum
    /// that alone takes their value. A group's value is that of its last node; nobody else takes the values of the others.
    pub fn groups(&self) -> Vec<Vec<NodeId>> {
        let takers = takers(&self.nodes);
        let mut groups: Vec<Vec<NodeId>> = (0..self.nodes.len()).map(|id| vec![NodeId(id)]).collect();
        let is_batch_norm = |&start: &usize| matches!(self.nodes[start].op, Op::BatchNorm2d { .. });
        let scales = |&start: &usize| match self.nodes[start].op {
            Op::StochasticDepth { .. } => {
                let before = self.nodes[start].inputs[0].0;
                self.scaled(before).is_none() || takers[before].len() > 1
            }
            _ => self.scaled(start).is_some(),
        };
        // A sum is BatchNorm's first; of two BatchNorms before it the later one comes first here, and takes it.
        let last_first = || (0..self.nodes.len()).rev();
        for start in last_first().filter(is_batch_norm).chain(last_first().filter(scales)) {
            let first = &self.nodes[start].op;
            let mut end = start;
            while let &[NodeId(next)] = &takers[end][..]
                && groups[next].len() == 1
                && follows(&self.nodes[next].op, &self.nodes[end].op, first)
            {
                let group = std::mem::take(&mut groups[end]);
                groups[next].splice(0..0, group);
                end = next;
            }
        }
        groups.retain(|group| !group.is_empty());
        groups
    }

    /// What is scaled, and the learned scale, where `node` is nothing else.
    pub fn scaled(&self, node: usize) -> Option<[NodeId; 2]> {
        let (Op::Mul, &[one, other]) = (&self.nodes[node].op, &self.nodes[node].inputs[..]) else { return None };
        let is_learned = |id: NodeId| matches!(self.nodes[id.0].op, Op::Learned { .. });
        match (is_learned(one), is_learned(other)) {
            (false, true) => Some([one, other]),
            (true, false) => Some([other, one]),
            _ => None,
        }
    }

    /// For each node, whether its value, moved about or not, is taken by one convolution or matrix product, and by nothing else. Of
    /// several each would bring a gradient, and where these meet the type of the value counts.
    pub fn taken_by_one_product(&self) -> Vec<bool> {
        let takers = takers(&self.nodes);
        // Products that take it; none where something else does.
        let mut products = vec![None; self.nodes.len()];
        for id in (0..self.nodes.len()).rev() {
            let mut taken = takers[id].clone();
            taken.dedup(); // who takes it twice stands there twice
            let of_taker = |&NodeId(taker): &NodeId| -> Option<usize> {
                let Node { op, inputs, .. } = &self.nodes[taker];
                let places = (0..inputs.len()).filter(|&place| inputs[place] == NodeId(id));
                let of_place = |place| match op.use_of(place) {
                    Use::Multiplied(times) => Some(times),
                    Use::Measured => Some(0),
                    Use::Moved => products[taker],
                    Use::Computed => None,
                };
                places.map(of_place).sum()
            };
            products[id] = taken.iter().map(of_taker).sum();
        }
        products.into_iter().map(|products: Option<usize>| products == Some(1)).collect()
    }
}

/// What an operation does with one of its inputs.
enum Use {
    /// Multiplies it with weights, in so many convolutions or matrix products.
    Multiplied(usize),
    /// Puts it elsewhere, as it is.
    Moved,
    /// Looks at how large it is.
    Measured,
    /// Something else.
    Computed,
}

impl Op {
    /// Whether it is a convolution or a matrix product of what it is given with its own weights.
    pub fn is_product(&self) -> bool {
        matches!(self.use_of(0), Use::Multiplied(_))
    }

    /// What becomes of the input at `place`.
    fn use_of(&self, place: usize) -> Use {
        match (self, place) {
            (Self::QueriesKeysValues { stored: Projections::Apart, .. }, _) => Use::Multiplied(3),
            (Self::Conv2d(_) | Self::Linear { .. } | Self::QueriesKeysValues { .. }, _) => Use::Multiplied(1),
            (Self::WindowAttention { .. }, 2) => Use::Measured,
            (Self::JoinWindows { .. } | Self::JoinGrid { .. } | Self::ResizeLike, 1) => Use::Measured,
            (
                Self::Flatten
                | Self::Slice { .. }
                | Self::Permute { .. }
                | Self::PixelsToTokens
                | Self::MergeNeighbours
                | Self::PartitionWindows { .. }
                | Self::PartitionGrid { .. },
                _,
            ) => Use::Moved,
            _ => Use::Computed,
        }
    }
}

/// Whether `next` can be computed in one with `before`, and all of the group before that, which begins with `first`.
fn follows(next: &Op, before: &Op, first: &Op) -> bool {
    if !matches!(first, Op::BatchNorm2d { .. }) {
        return match next {
            Op::Add => !matches!(before, Op::Add),
            Op::StochasticDepth { .. } => matches!(before, Op::Mul),
            _ => false,
        };
    }
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
    use crate::{ARCHITECTURES, Architecture, Builder, Conv2d, Network, Op, Scheme, architecture};

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
    fn what_scales_a_branch_is_in_one_with_its_sum() {
        let count = |name: &str, wanted: &str| {
            let network = architecture(name).unwrap().network(1000);
            words(&network).iter().filter(|words| *words == wanted).count()
        };
        assert_eq!(count("convnext_tiny", "multiply + stochastic depth + add"), 17);
        assert_eq!(count("convnext_tiny", "multiply + add"), 1, "the first block is never left out");
        assert_eq!(count("vit_small_patch14_dinov2", "multiply + add"), 24);
        assert_eq!(count("swin_t", "stochastic depth + add"), 22);
        let dropped = architecture("resnet18").unwrap().network(1000).with_drop_path(0.1).unwrap();
        let words = words(&dropped);
        let of = |wanted: &str| words.iter().filter(|words| *words == wanted).count();
        // Where the shortcut has a BatchNorm, that one takes the sum.
        assert_eq!((of("stochastic depth + add"), of("batch norm + add + relu"), of("relu")), (4, 4, 4), "{words:?}");
    }

    #[test]
    fn groups_hold_each_node_once_and_after_what_it_takes() {
        let dropped = |known: &Architecture| known.network(10).with_drop_path(0.1);
        for (known, network) in ARCHITECTURES
            .iter()
            .flat_map(|known| [Some(known.network(10)), dropped(known)].map(|network| (known, network)))
            .filter_map(|(known, network)| Some((known, network?)))
        {
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

    /// Of the LayerNorms of a network, those for products alone, and the others' names.
    fn layer_norms(name: &str) -> (usize, Vec<String>) {
        let network = architecture(name).unwrap().network(1000);
        let by_products = network.taken_by_one_product();
        let norms = network.nodes().iter().zip(by_products).filter(|(node, _)| matches!(node.op, Op::LayerNorm { .. }));
        let (products, others): (Vec<_>, Vec<_>) = norms.partition(|(_, by_products)| *by_products);
        (products.len(), others.into_iter().map(|(node, _)| node.name.clone()).collect())
    }

    #[test]
    fn norms_before_linear_layers_are_for_products_and_norms_in_the_stream_are_not() {
        let stream = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(layer_norms("vit_b_16"), (25, Vec::new()));
        assert_eq!(layer_norms("convnext_tiny"), (18 + 3 + 1, stream(&["features.0.1"])));
        // Its last one is averaged before the head.
        assert_eq!(layer_norms("swin_t"), (2 * 12 + 3, stream(&["features.0.2", "norm"])));
        // In the second version every norm is added to what came before, and the one of a merge goes on as it is.
        assert_eq!(layer_norms("swin_v2_t").0, 0);
        // Two matrices with their SiLU, and queries, keys and values by one matrix each in the large one.
        assert_eq!(layer_norms("eva02_tiny_patch14_336").1, Vec::<String>::new());
        assert!(layer_norms("eva02_base_patch14_448").1.iter().any(|name| name.ends_with("norm1")));
    }

    #[test]
    fn a_value_is_for_one_product_if_nothing_else_takes_it() {
        let mut net = Builder::new("taken", Scheme::PYTORCH);
        let image = net.input(3);
        let moved = net.channels_last(image);
        let added = net.linear("one", moved, 4);
        let twice = net.linear("two", added, 4);
        let sum = net.add(added, twice);
        let [left, right] = ["left", "right"].map(|name| net.linear(name, sum, 4));
        net.add(left, right);
        let expected = [true, true, false, false, false, false, false, false];
        assert_eq!(net.finish().taken_by_one_product(), expected);
    }

    #[test]
    fn every_relu_of_a_resnet_is_in_a_group() {
        let network = architecture("resnet50").unwrap().network(1000);
        let words = words(&network);
        assert!(words.iter().all(|word| word != "relu" && word != "add"), "{words:?}");
    }
}
