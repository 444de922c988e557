//! Writing a network down, layer by layer.

use crate::draw::Draw;
use crate::network::{Auxiliary, Network, Node, NodeId};
use crate::op::{Activation, Conv2d, Draws, Op, Projections};
use crate::shape::Shape;

/// How a family draws the weights of its layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scheme {
    /// Convolutions.
    pub conv: Draws,
    /// Linear layers.
    pub linear: Draws,
}

impl Scheme {
    /// PyTorch's default for every layer.
    pub const PYTORCH: Self = Self::of(Draw::PytorchDefault, Draw::PytorchDefault);

    /// These draws for weights and biases of all layers.
    pub const fn of(weight: Draw, bias: Draw) -> Self {
        Self { conv: Draws { weight, bias }, linear: Draws { weight, bias } }
    }
}

/// Writes a network down, layer by layer. It keeps count of channels, so that each layer says only what comes out.
///
/// ```
/// use architectures::{Activation, Builder, Conv2d, Scheme};
///
/// let mut net = Builder::new("tiny", Scheme::PYTORCH);
/// let x = net.input(3);
/// let x = net.conv("conv", x, Conv2d::to(8, 3));
/// let x = net.activation(x, Activation::Relu);
/// let x = net.global_avg_pool(x);
/// net.linear("fc", x, 10);
/// let network = net.finish();
/// assert_eq!(network.parameters()[0].name, "conv.weight");
/// assert_eq!(network.parameters()[1].shape, [10, 8]);
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    network: Network,
    scheme: Scheme,
    batch_norm: (f64, f64),
    /// For each node, the channels of its value, or the values of its row.
    widths: Vec<usize>,
}

impl Builder {
    /// An empty network.
    pub fn new(name: &str, scheme: Scheme) -> Self {
        let network = Network { name: name.to_owned(), nodes: Vec::new(), listing: Vec::new(), auxiliary: Vec::new() };
        // PyTorch's defaults for BatchNorm.
        Self { network, scheme, batch_norm: (1e-5, 0.1), widths: Vec::new() }
    }

    /// With another epsilon and momentum for BatchNorm than PyTorch's 1e-5 and 0.1.
    pub fn with_batch_norm(self, epsilon: f64, momentum: f64) -> Self {
        Self { batch_norm: (epsilon, momentum), ..self }
    }

    /// The same from here on.
    pub fn set_batch_norm(&mut self, epsilon: f64, momentum: f64) {
        self.batch_norm = (epsilon, momentum);
    }

    /// The network.
    pub fn finish(self) -> Network {
        self.network
    }

    /// The node that was written down last.
    pub(crate) fn last(&self) -> NodeId {
        NodeId(self.network.nodes.len() - 1)
    }

    /// Channels of an image, a grid or tokens; values of a row.
    pub fn width(&self, x: NodeId) -> usize {
        self.widths[x.0]
    }

    fn push_drawn(&mut self, name: &str, op: Op, inputs: &[NodeId], width: usize, draws: Draws) -> NodeId {
        let id = NodeId(self.network.nodes.len());
        self.network.nodes.push(Node { name: name.to_owned(), op, inputs: inputs.to_vec(), draws });
        self.network.listing.push(id);
        self.widths.push(width);
        id
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[NodeId], width: usize) -> NodeId {
        let zero = Draws { weight: Draw::Constant(0.0), bias: Draw::Constant(0.0) };
        self.push_drawn(name, op, inputs, width, zero)
    }

    /// The images.
    pub fn input(&mut self, channels: usize) -> NodeId {
        self.push("", Op::Input { channels }, &[], channels)
    }

    /// A learned value of `shape`, stored with `ones` axes of length one before it.
    pub fn learned<const N: usize>(&mut self, name: &str, shape: [usize; N], ones: usize, draw: Draw) -> NodeId {
        let stored = std::iter::repeat_n(1, ones).chain(shape).collect();
        let draws = Draws { weight: draw, bias: draw };
        let width = shape.last().copied().unwrap_or(1);
        self.push_drawn(name, Op::Learned { shape: Shape::from(shape), stored }, &[], width, draws)
    }

    /// A learned factor for each feature of tokens, stored as a row.
    pub fn learned_row(&mut self, name: &str, features: usize, draw: Draw) -> NodeId {
        let draws = Draws { weight: draw, bias: draw };
        let op = Op::Learned { shape: Shape::from([1, features]), stored: vec![features] };
        self.push_drawn(name, op, &[], features, draws)
    }

    /// A learned factor for each channel of an image, stored as a row.
    pub fn learned_channels(&mut self, name: &str, channels: usize, draw: Draw) -> NodeId {
        let draws = Draws { weight: draw, bias: draw };
        let op = Op::Learned { shape: Shape::from([channels, 1, 1]), stored: vec![channels] };
        self.push_drawn(name, op, &[], channels, draws)
    }

    /// Swin's position bias: tables below the module `name`.
    pub fn relative_position_bias(
        &mut self,
        name: &str,
        window: usize,
        heads: usize,
        is_matrix: bool,
        draw: Draw,
    ) -> NodeId {
        let draws = Draws { weight: draw, bias: draw };
        self.push_drawn(name, Op::RelativePositionBias { window, heads, is_matrix }, &[], heads, draws)
    }

    /// The offsets between tokens of a window, a constant below the module `name`.
    pub fn log_offsets(&mut self, name: &str, window: usize) -> NodeId {
        let draws = Draws { weight: Draw::Constant(0.0), bias: Draw::Constant(0.0) };
        self.push_drawn(name, Op::LogOffsets { window }, &[], 2, draws)
    }

    /// Swin V2's position bias of a `table` that is computed from offsets; its index is below the module `name`.
    pub fn position_bias_from(&mut self, name: &str, table: NodeId, window: usize) -> NodeId {
        let heads = self.width(table);
        self.push(name, Op::PositionBiasFrom { window, heads }, &[table], heads)
    }

    /// Queries, keys and values, the keys without a bias.
    pub fn queries_keys_values(&mut self, name: &str, x: NodeId, stored: Projections) -> NodeId {
        let features = self.width(x);
        self.push_drawn(name, Op::QueriesKeysValues { features, stored }, &[x], 3 * features, self.scheme.linear)
    }

    /// Queries and keys that are turned by where their tokens lie, but for the first `others`.
    pub fn rotary_positions(&mut self, qkv: NodeId, heads: usize, others: usize, reference: usize) -> NodeId {
        self.push("", Op::RotaryPositions { heads, others, reference }, &[qkv], self.width(qkv))
    }

    /// A convolution, drawn as the scheme says.
    pub fn conv(&mut self, name: &str, x: NodeId, conv: Conv2d) -> NodeId {
        self.conv_drawn(name, x, conv, self.scheme.conv)
    }

    /// A convolution that is drawn in its own way.
    pub fn conv_drawn(&mut self, name: &str, x: NodeId, conv: Conv2d, draws: Draws) -> NodeId {
        let (in_channels, out_channels) = (self.width(x), conv.out_channels);
        self.push_drawn(name, Op::Conv2d(Conv2d { in_channels, ..conv }), &[x], out_channels, draws)
    }

    /// BatchNorm.
    pub fn batch_norm(&mut self, name: &str, x: NodeId) -> NodeId {
        let (features, (epsilon, momentum)) = (self.width(x), self.batch_norm);
        self.push(name, Op::BatchNorm2d { features, epsilon, momentum }, &[x], features)
    }

    /// torchvision's `Conv2dNormActivation`: a convolution `NAME.0`, BatchNorm `NAME.1`, an activation.
    pub fn conv_norm(&mut self, name: &str, x: NodeId, conv: Conv2d, activation: Option<Activation>) -> NodeId {
        let x = self.conv(&format!("{name}.0"), x, conv);
        let x = self.batch_norm(&format!("{name}.1"), x);
        activation.map_or(x, |activation| self.activation(x, activation))
    }

    /// LayerNorm over the last axis.
    pub fn layer_norm(&mut self, name: &str, x: NodeId, epsilon: f64) -> NodeId {
        let features = self.width(x);
        self.push(name, Op::LayerNorm { features, epsilon }, &[x], features)
    }

    /// torchvision's `LayerNorm2d`: LayerNorm over the channels of an image.
    pub fn layer_norm_2d(&mut self, name: &str, x: NodeId, epsilon: f64) -> NodeId {
        let x = self.channels_last(x);
        let x = self.layer_norm(name, x, epsilon);
        self.channels_first(x)
    }

    /// Global response normalization of a grid, which changes nothing at first.
    pub fn response_norm(&mut self, name: &str, x: NodeId, epsilon: f64) -> NodeId {
        let features = self.width(x);
        self.push(name, Op::ResponseNorm { features, epsilon }, &[x], features)
    }

    /// A linear layer with bias, drawn as the scheme says.
    pub fn linear(&mut self, name: &str, x: NodeId, out_features: usize) -> NodeId {
        self.linear_drawn(name, x, out_features, true, self.scheme.linear)
    }

    /// A linear layer, with bias or not, that is drawn in its own way.
    pub fn linear_drawn(&mut self, name: &str, x: NodeId, out_features: usize, bias: bool, draws: Draws) -> NodeId {
        let op = Op::Linear { in_features: self.width(x), out_features, bias };
        self.push_drawn(name, op, &[x], out_features, draws)
    }

    /// A function of each value.
    pub fn activation(&mut self, x: NodeId, activation: Activation) -> NodeId {
        self.push("", Op::Activation(activation), &[x], self.width(x))
    }

    /// ReLU.
    pub fn relu(&mut self, x: NodeId) -> NodeId {
        self.activation(x, Activation::Relu)
    }

    /// Zeros around an image, as TensorFlow has them before a window of this side and step.
    pub fn pad_same(&mut self, x: NodeId, kernel: usize, stride: usize) -> NodeId {
        self.push("", Op::PadSame { kernel, stride }, &[x], self.width(x))
    }

    /// Max pooling.
    pub fn max_pool(&mut self, x: NodeId, kernel: usize, stride: usize, padding: usize) -> NodeId {
        self.push("", Op::MaxPool2d { kernel, stride, padding, ceil: false }, &[x], self.width(x))
    }

    /// Max pooling without padding whose last window may reach over the edge.
    pub fn max_pool_ceil(&mut self, x: NodeId, kernel: usize, stride: usize) -> NodeId {
        self.push("", Op::MaxPool2d { kernel, stride, padding: 0, ceil: true }, &[x], self.width(x))
    }

    /// Average pooling in steps of the window.
    pub fn avg_pool(&mut self, x: NodeId, kernel: usize) -> NodeId {
        self.push("", Op::AvgPool2d { kernel, stride: kernel, padding: 0 }, &[x], self.width(x))
    }

    /// The mean of square windows, with a step of so many pixels between them.
    pub fn avg_pool_strided(&mut self, x: NodeId, kernel: usize, stride: usize) -> NodeId {
        self.push("", Op::AvgPool2d { kernel, stride, padding: 0 }, &[x], self.width(x))
    }

    /// The mean around every second pixel, zeros around the image included.
    pub fn halve(&mut self, x: NodeId, kernel: usize) -> NodeId {
        self.push("", Op::AvgPool2d { kernel, stride: 2, padding: kernel / 2 }, &[x], self.width(x))
    }

    /// The mean around each pixel, zeros around the image included.
    pub fn blur(&mut self, x: NodeId, kernel: usize) -> NodeId {
        self.push("", Op::AvgPool2d { kernel, stride: 1, padding: kernel / 2 }, &[x], self.width(x))
    }

    /// Average pooling to `output`×`output`.
    pub fn adaptive_avg_pool(&mut self, x: NodeId, output: usize) -> NodeId {
        self.push("", Op::AdaptiveAvgPool2d { output }, &[x], self.width(x))
    }

    /// The mean of each channel, as a row.
    pub fn global_avg_pool(&mut self, x: NodeId) -> NodeId {
        let x = self.adaptive_avg_pool(x, 1);
        self.flatten(x)
    }

    /// One row per sample, of a pooled image or of one token.
    pub fn flatten(&mut self, x: NodeId) -> NodeId {
        let side = match self.network.nodes[x.0].op {
            Op::AdaptiveAvgPool2d { output } => output,
            _ => 1,
        };
        self.flatten_of(x, side)
    }

    /// One row per sample, of an image of so many pixels a side.
    pub fn flatten_of(&mut self, x: NodeId, side: usize) -> NodeId {
        self.push("", Op::Flatten, &[x], self.width(x) * side * side)
    }

    /// The sum of two values.
    pub fn add(&mut self, x: NodeId, y: NodeId) -> NodeId {
        self.push("", Op::Add, &[x, y], self.width(x))
    }

    /// The product of two values.
    pub fn mul(&mut self, x: NodeId, y: NodeId) -> NodeId {
        self.push("", Op::Mul, &[x, y], self.width(x))
    }

    /// torchvision's `SqueezeExcitation`: each channel scaled by a gate that sees the means of all channels.
    pub fn squeeze_excitation(
        &mut self,
        name: &str,
        x: NodeId,
        squeeze_channels: usize,
        inner: Activation,
        gate: Activation,
    ) -> NodeId {
        let channels = self.width(x);
        let s = self.adaptive_avg_pool(x, 1);
        let s = self.conv(&format!("{name}.fc1"), s, Conv2d::to(squeeze_channels, 1).bias());
        let s = self.activation(s, inner);
        let s = self.conv(&format!("{name}.fc2"), s, Conv2d::to(channels, 1).bias());
        let s = self.activation(s, gate);
        self.mul(x, s)
    }

    /// An image scaled to the height and width of another.
    pub fn resize_like(&mut self, x: NodeId, like: NodeId) -> NodeId {
        self.push("", Op::ResizeLike, &[x, like], self.width(x))
    }

    /// Images with the channels of all.
    pub fn concat_channels(&mut self, parts: &[NodeId]) -> NodeId {
        let width = parts.iter().map(|&part| self.width(part)).sum();
        self.push("", Op::Concat, parts, width)
    }

    /// Tokens one after the other.
    pub fn concat_tokens(&mut self, parts: &[NodeId]) -> NodeId {
        self.push("", Op::Concat, parts, self.width(parts[0]))
    }

    /// Some channels of an image.
    pub fn slice_channels(&mut self, x: NodeId, start: usize, end: usize) -> NodeId {
        self.push("", Op::Slice { start, end }, &[x], end - start)
    }

    /// One token of all.
    pub fn token(&mut self, x: NodeId, index: usize) -> NodeId {
        let x = self.push("", Op::Slice { start: index, end: index + 1 }, &[x], self.width(x));
        self.flatten(x)
    }

    /// An exchange between groups of channels.
    pub fn channel_shuffle(&mut self, x: NodeId, groups: usize) -> NodeId {
        self.push("", Op::ChannelShuffle { groups }, &[x], self.width(x))
    }

    /// C×H×W to H×W×C.
    pub fn channels_last(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::Permute { order: [1, 2, 0] }, &[x], self.width(x))
    }

    /// H×W×C to C×H×W.
    pub fn channels_first(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::Permute { order: [2, 0, 1] }, &[x], self.width(x))
    }

    /// C×H×W to (H·W)×C.
    pub fn pixels_to_tokens(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::PixelsToTokens, &[x], self.width(x))
    }

    /// Four neighbours of a grid in one.
    pub fn merge_neighbours(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::MergeNeighbours, &[x], 4 * self.width(x))
    }

    /// The SiLU of a token's first half times its second half.
    pub fn swiglu(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::SwiGlu, &[x], self.width(x) / 2)
    }

    /// The mean of all tokens but the first `others`, as a row.
    pub fn token_mean(&mut self, x: NodeId, others: usize) -> NodeId {
        self.push("", Op::TokenMean { others }, &[x], self.width(x))
    }

    /// Attention between all tokens.
    pub fn attention(&mut self, qkv: NodeId, heads: usize) -> NodeId {
        self.push("", Op::Attention { heads }, &[qkv], self.width(qkv) / 3)
    }

    /// Attention of the pixels of an image with the keys and values of others, which all heads share.
    pub fn multi_query_attention(&mut self, [queries, keys, values]: [NodeId; 3], heads: usize) -> NodeId {
        self.push("", Op::MultiQueryAttention { heads }, &[queries, keys, values], self.width(queries))
    }

    /// A grid cut into windows.
    pub fn partition_windows(&mut self, x: NodeId, window: usize, shift: usize) -> NodeId {
        self.push("", Op::PartitionWindows { window, shift }, &[x], self.width(x))
    }

    /// Attention inside each window that was cut from a grid like `grid`.
    ///
    /// Scores are divided by the root of `divisor`: the channels of a head, say.
    pub fn window_attention(
        &mut self,
        [qkv, bias, grid]: [NodeId; 3],
        window: usize,
        shift: usize,
        divisor: usize,
    ) -> NodeId {
        let heads = self.width(bias);
        self.push("", Op::WindowAttention { heads, window, shift, divisor }, &[qkv, bias, grid], self.width(qkv) / 3)
    }

    /// The same by cosines of queries and keys, times the exponential of `scale`, one for each head.
    pub fn cosine_window_attention(
        &mut self,
        [qkv, bias, grid, scale]: [NodeId; 4],
        window: usize,
        shift: usize,
    ) -> NodeId {
        let heads = self.width(bias);
        let op = Op::WindowAttention { heads, window, shift, divisor: 1 };
        self.push("", op, &[qkv, bias, grid, scale], self.width(qkv) / 3)
    }

    /// Windows that were cut from a grid like `grid`, joined again.
    pub fn join_windows(&mut self, x: NodeId, grid: NodeId, window: usize, shift: usize) -> NodeId {
        self.push("", Op::JoinWindows { window, shift }, &[x, grid], self.width(x))
    }

    /// A grid, to the places of its cells.
    pub fn partition_grid(&mut self, x: NodeId, side: usize) -> NodeId {
        self.push("", Op::PartitionGrid { side }, &[x], self.width(x))
    }

    /// Places of cells of a grid like `grid`, that grid again.
    pub fn join_grid(&mut self, x: NodeId, grid: NodeId, side: usize) -> NodeId {
        self.push("", Op::JoinGrid { side }, &[x, grid], self.width(x))
    }

    /// Dropout.
    pub fn dropout(&mut self, x: NodeId, probability: f64) -> NodeId {
        self.push("", Op::Dropout { probability }, &[x], self.width(x))
    }

    /// Stochastic depth, but for a probability of zero.
    pub fn stochastic_depth(&mut self, x: NodeId, probability: f64) -> NodeId {
        if probability == 0.0 {
            return x;
        }
        self.push("", Op::StochasticDepth { probability }, &[x], self.width(x))
    }

    /// ResNet's shortcut without parameters (option A).
    pub fn pad_shortcut(&mut self, x: NodeId, out_channels: usize, stride: usize) -> NodeId {
        self.push("", Op::PadShortcut { out_channels, stride }, &[x], out_channels)
    }

    /// What `node` gives are logits, too, in training, whose loss counts so much.
    pub fn auxiliary(&mut self, node: NodeId, weight: f64) {
        self.network.auxiliary.push(Auxiliary { node, weight });
    }

    /// Lists the parameters of the nodes after `first`, up to `last`, behind those of all others.
    pub fn list_last(&mut self, first: NodeId, last: NodeId) {
        let is_one = |id: &NodeId| (first.0 + 1..=last.0).contains(&id.0);
        let (behind, before): (Vec<_>, Vec<_>) = self.network.listing.iter().copied().partition(is_one);
        self.network.listing = [before, behind].concat();
    }

    /// Lists the parameters of `first` before those of `then`, which is computed earlier: some originals declare their
    /// layers in another order than they use them.
    pub fn list_before(&mut self, first: NodeId, then: NodeId) {
        let listing = &mut self.network.listing;
        listing.retain(|&id| id != first);
        let place = listing.iter().position(|&id| id == then).expect("both nodes are in the network");
        listing.insert(place, first);
    }
}
