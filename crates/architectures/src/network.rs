//! A network as a list of operations, each on the values of earlier ones.

use crate::draw::Distribution;
use crate::op::{Draws, Op};

/// The number of a node in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// The node's index in [`Network::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// One operation, its name as a module of the original network (empty where it has no parameters), and its inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The module path of its parameters: `layer1.0.conv1`.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The nodes whose values it takes.
    pub inputs: Vec<NodeId>,
    /// How its weight and bias are drawn before training.
    pub draws: Draws,
}

/// What tells the classes apart from an earlier layer's value, in training alone: its loss helps the layers before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Auxiliary {
    /// The node that gives its logits.
    pub node: NodeId,
    /// What its loss is multiplied by before it is added to that of the network.
    pub weight: f64,
}

/// A network: its operations in the order in which they are computed. The last one gives the logits, N×classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub(crate) name: String,
    pub(crate) nodes: Vec<Node>,
    /// The nodes in the order in which the original lists their parameters.
    pub(crate) listing: Vec<NodeId>,
    /// In the order of the original's outputs.
    pub(crate) auxiliary: Vec<Auxiliary>,
}

/// What a tensor of the network's state is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterRole {
    /// The weight of a convolution or a linear layer, or a learned value.
    Weight,
    /// A bias.
    Bias,
    /// The scale of a normalization.
    NormWeight,
    /// The shift of a normalization.
    NormBias,
    /// BatchNorm's running mean: a buffer, not trained.
    RunningMean,
    /// BatchNorm's running variance: a buffer, not trained.
    RunningVar,
    /// How many batches BatchNorm has seen: a buffer, not trained.
    NumBatchesTracked,
    /// For every pair of tokens in a window, the row of the position table: a buffer, not trained.
    RelativePositionIndex {
        /// Side of the window, in tokens.
        window: usize,
    },
    /// The offsets of [`Op::LogOffsets`](crate::Op::LogOffsets): a buffer, not trained.
    LogOffsets {
        /// Side of the window, in tokens.
        window: usize,
    },
}

impl ParameterRole {
    /// Whether the optimizer changes it; the others are buffers.
    pub fn is_trained(self) -> bool {
        matches!(self, Self::Weight | Self::Bias | Self::NormWeight | Self::NormBias)
    }

    /// Whether a file of weights may lack it: nothing depends on it, or it follows from the architecture.
    pub fn is_dispensable(self) -> bool {
        self == Self::NumBatchesTracked || self.is_constant()
    }

    /// Whether it is the same in every network: a table that follows from the architecture.
    pub fn is_constant(self) -> bool {
        matches!(self, Self::RelativePositionIndex { .. } | Self::LogOffsets { .. })
    }

    /// Whether it holds 64-bit integers; the others hold numbers with a fraction.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::NumBatchesTracked | Self::RelativePositionIndex { .. })
    }
}

/// One tensor of the network's state.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its key in a state dict: `layer1.0.conv1.weight`.
    pub name: String,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: ParameterRole,
    /// The node that uses it.
    pub node: NodeId,
    /// How it is drawn before training.
    pub initial: Distribution,
}

/// For each node, those that take its value, in order; one that takes it twice stands there twice.
pub(crate) fn takers(nodes: &[Node]) -> Vec<Vec<NodeId>> {
    let mut takers = vec![Vec::new(); nodes.len()];
    for (id, node) in nodes.iter().enumerate() {
        node.inputs.iter().for_each(|input| takers[input.0].push(NodeId(id)));
    }
    takers
}

impl Network {
    /// The architecture's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operations, in the order in which they are computed.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes in the order in which the original lists their parameters.
    pub fn listing(&self) -> &[NodeId] {
        &self.listing
    }

    /// What gives logits beside the last node, in training: none, unless that was [asked for](crate::Architecture::network_with_auxiliary).
    pub fn auxiliary(&self) -> &[Auxiliary] {
        &self.auxiliary
    }

    /// For each node, whether the last one depends on it; the others are of auxiliary heads.
    pub fn is_of_output(&self) -> Vec<bool> {
        self.before(NodeId(self.nodes.len() - 1))
    }

    /// For each node, whether `last` depends on it, or is it.
    pub(crate) fn before(&self, last: NodeId) -> Vec<bool> {
        let mut counts = vec![false; self.nodes.len()];
        counts[last.0] = true;
        // Inputs lie before whatever takes them: one pass from behind marks them all.
        for id in (0..=last.0).rev() {
            if counts[id] {
                self.nodes[id].inputs.iter().for_each(|input| counts[input.0] = true);
            }
        }
        counts
    }

    /// The same without auxiliary heads, and for each of its nodes which it was.
    pub fn without_auxiliary(&self) -> (Self, Vec<NodeId>) {
        self.of_nodes(&self.is_of_output())
    }

    /// The nodes that are `kept`, which take no other, and for each of them which it was.
    pub(crate) fn of_nodes(&self, kept: &[bool]) -> (Self, Vec<NodeId>) {
        let mut place = vec![NodeId(0); self.nodes.len()];
        let (mut nodes, mut origins) = (Vec::new(), Vec::new());
        for (id, node) in self.nodes.iter().enumerate().filter(|(id, _)| kept[*id]) {
            place[id] = NodeId(nodes.len());
            let mut node = node.clone();
            node.inputs.iter_mut().for_each(|input| *input = place[input.0]);
            nodes.push(node);
            origins.push(NodeId(id));
        }
        let listing = self.listing.iter().filter(|id| kept[id.0]).map(|id| place[id.0]).collect();
        (Self { name: self.name.clone(), nodes, listing, auxiliary: Vec::new() }, origins)
    }

    /// Whether a sample's output depends on the others of its batch in training.
    pub fn has_batch_norm(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.op, Op::BatchNorm2d { .. }))
    }

    /// The layer that tells the classes apart: the last one with parameters. Everything before it is the backbone.
    pub fn head(&self) -> NodeId {
        let last = self.nodes.iter().rposition(|node| !node.op.state().is_empty());
        NodeId(last.unwrap_or(0))
    }

    /// All layers that tell the classes apart: those with parameters that no other such layer follows. Most networks have one.
    pub fn heads(&self) -> Vec<NodeId> {
        let mut is_followed = vec![false; self.nodes.len()];
        let mut heads = Vec::new();
        for id in (0..self.nodes.len()).rev() {
            let has_state = !self.nodes[id].op.state().is_empty();
            if has_state && !is_followed[id] {
                heads.push(NodeId(id));
            }
            for input in &self.nodes[id].inputs {
                is_followed[input.0] |= has_state || is_followed[id];
            }
        }
        heads
    }

    /// The names of the weights between one layer and the next that mix channels: of linear layers, and of convolutions that take more
    /// than one channel for each that they give. None of a head's, no embeddings, no position bias.
    pub fn hidden_matrices(&self) -> Vec<String> {
        let heads = self.heads();
        let mixes = |node: NodeId| match &self.nodes[node.0].op {
            Op::Conv2d(conv) => conv.in_channels > conv.groups,
            Op::Linear { .. } | Op::QueriesKeysValues { .. } => true,
            _ => false,
        };
        let is_one = |parameter: &Parameter| {
            parameter.role == ParameterRole::Weight && !heads.contains(&parameter.node) && mixes(parameter.node)
        };
        self.parameters().into_iter().filter(is_one).map(|parameter| parameter.name).collect()
    }

    /// How many classes the head tells apart.
    pub fn classes(&self) -> usize {
        match &self.nodes[self.head().0].op {
            Op::Linear { out_features, .. } => *out_features,
            Op::Conv2d(conv) => conv.out_channels,
            _ => 0,
        }
    }

    /// The same network for images of so many channels: its input, and the convolutions that take it.
    #[must_use]
    pub fn with_channels(mut self, channels: usize) -> Self {
        for id in 0..self.nodes.len() {
            let takes_input = self.nodes[id].inputs.iter().any(|&input| self.is_image(input));
            match &mut self.nodes[id].op {
                Op::Input { channels: own } => *own = channels,
                Op::Conv2d(conv) if takes_input => conv.in_channels = channels,
                _ => {}
            }
        }
        self
    }

    /// Whether a node's value is that of the images, perhaps with zeros around.
    fn is_image(&self, node: NodeId) -> bool {
        match &self.nodes[node.0] {
            Node { op: Op::Input { .. }, .. } => true,
            Node { op: Op::PadSame { .. }, inputs, .. } => inputs.iter().all(|&input| self.is_image(input)),
            _ => false,
        }
    }

    /// The channels of the images that it takes.
    pub fn channels(&self) -> usize {
        self.nodes
            .iter()
            .find_map(|node| if let Op::Input { channels } = node.op { Some(channels) } else { None })
            .unwrap_or(0)
    }

    /// The names of the weights that see the images' channels along their second axis.
    pub fn input_weights(&self) -> Vec<String> {
        let takes_image = |node: &&Node| node.inputs.iter().any(|&input| self.is_image(input));
        let takes = self.nodes.iter().filter(takes_image).filter(|node| matches!(node.op, Op::Conv2d(_)));
        takes.map(|node| format!("{}.weight", node.name)).collect()
    }

    /// Parameters and buffers in the order of the original's state dict.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        for &id in &self.listing {
            let node = &self.nodes[id.0];
            let state = node.op.state();
            let weight = state.iter().find(|(_, _, role)| *role == ParameterRole::Weight);
            let weight = weight.map(|(_, shape, _)| shape.clone()).unwrap_or_default();
            for (suffix, shape, role) in state {
                let initial = match role {
                    ParameterRole::Weight => node.draws.weight.distribution(&weight),
                    ParameterRole::Bias => node.draws.bias.distribution(&weight),
                    ParameterRole::NormWeight | ParameterRole::RunningVar => Distribution::Constant(1.0),
                    _ => Distribution::Constant(0.0),
                };
                parameters.push(Parameter { name: key(&node.name, suffix), shape, role, node: id, initial });
            }
        }
        parameters
    }
}

/// `conv1` and `weight` to `conv1.weight`; a name that ends in `_` takes no dot (PyTorch's `in_proj_weight`).
fn key(name: &str, suffix: &str) -> String {
    let dot = if name.ends_with('_') || suffix.is_empty() { "" } else { "." };
    format!("{name}{dot}{suffix}")
}
