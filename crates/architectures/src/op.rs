//! What a node computes, and which parameters it has.

use crate::draw::Draw;
use crate::network::ParameterRole;
use crate::shape::Shape;

/// A two-dimensional convolution, of the same stride and dilation along both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the kernel, in pixels.
    pub kernel: [usize; 2],
    /// Step between outputs, in pixels.
    pub stride: usize,
    /// Zeros above and below, and left and right of the input, in pixels.
    pub padding: [usize; 2],
    /// Step between the pixels that a kernel sees; 1 for neighbours.
    pub dilation: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Whether a bias is added to each output channel.
    pub bias: bool,
}

impl Conv2d {
    /// A convolution with a square kernel, without bias, that keeps the size (padding `kernel / 2`). [`Builder::conv`](crate::Builder::conv)
    /// fills in the channels of the input.
    pub fn to(out_channels: usize, kernel: usize) -> Self {
        Self {
            in_channels: 0,
            out_channels,
            kernel: [kernel; 2],
            stride: 1,
            padding: [kernel / 2; 2],
            dilation: 1,
            groups: 1,
            bias: false,
        }
    }

    /// A convolution whose kernel has this height and width, without bias, that keeps the size.
    pub fn strip(out_channels: usize, height: usize, width: usize) -> Self {
        Self { kernel: [height, width], padding: [height / 2, width / 2], ..Self::to(out_channels, 1) }
    }

    /// With another step between outputs.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// With another padding.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    /// With a step between the pixels that the kernel sees, and as much more padding.
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation, padding: self.kernel.map(|side| side / 2 * dilation), ..self }
    }

    /// In groups of channels.
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// With a bias.
    pub fn bias(self) -> Self {
        Self { bias: true, ..self }
    }
}

/// A function of each value by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x · min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// `min(max(x + 3, 0), 6) / 6`.
    HardSigmoid,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
    /// `x · Φ(x)`, with the normal distribution's Φ itself, not its tanh approximation.
    Gelu,
}

/// How the weights of queries, keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projections {
    /// As one matrix and one bias, in which the part of the keys does not count.
    Together,
    /// As one matrix and two biases.
    BiasesApart,
    /// As three matrices and two biases.
    Apart,
}

/// What a node computes. Shapes are those of one sample; every value has the batch N before them.
///
/// Images are C×H×W, grids (images with channels last) H×W×C, tokens L×C, rows F.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The network's input: `channels`×H×W.
    Input {
        /// Channels of the images.
        channels: usize,
    },
    /// A value that is learned, the same for every sample: a class token, a position embedding, a layer's scale.
    Learned {
        /// Its shape as a value.
        shape: Shape,
        /// Its shape in a state dict: the same, or with ones before it.
        stored: Vec<usize>,
    },
    /// The bias that Swin adds to attention inside a window, by the offset between two tokens:
    /// `heads`×`window`²×`window`², looked up in a learned table.
    RelativePositionBias {
        /// Side of the window, in tokens.
        window: usize,
        /// Attention heads.
        heads: usize,
        /// Whether the index is stored as a matrix, `window`²×`window`².
        is_matrix: bool,
    },
    /// The offsets between two tokens of a window, ((2·`window` − 1)²)×2: row by row, of each axis the sign times
    /// log₂(8·|offset| / (`window` − 1) + 1) / 3, as Swin V2 has them. A constant.
    LogOffsets {
        /// Side of the window, in tokens.
        window: usize,
    },
    /// What Swin V2 adds to attention inside a window: `heads`×`window`²×`window`², 16 times the sigmoid of the rows of a table
    /// ((2·`window` − 1)²)×`heads` that is computed from [`LogOffsets`](Self::LogOffsets).
    PositionBiasFrom {
        /// Side of the window, in tokens.
        window: usize,
        /// Attention heads.
        heads: usize,
    },
    /// Queries, keys and values of tokens, side by side: a linear layer whose bias counts for queries and values alone.
    QueriesKeysValues {
        /// Values in, and as many of each out.
        features: usize,
        /// How the weights are stored.
        stored: Projections,
    },
    /// Queries and keys of tokens L×3C, turned by where the tokens lie (rotary position embedding; Su et al., 2021, arXiv:2104.09864, and for
    /// images Fang et al., 2023, arXiv:2303.11331); the values stay. See [`rotations`](crate::rotations).
    RotaryPositions {
        /// Attention heads.
        heads: usize,
        /// Tokens before those of the patches, which are not turned. The patches make up a square.
        others: usize,
        /// The side of that square, in patches, for which one patch is a step of one.
        reference: usize,
    },
    /// A convolution of an image.
    Conv2d(Conv2d),
    /// Normalization of an image over the batch, one mean and variance a channel.
    BatchNorm2d {
        /// Channels.
        features: usize,
        /// Added to the variance.
        epsilon: f64,
        /// How much of a batch's statistics goes into the running ones.
        momentum: f64,
    },
    /// Normalization over the last axis.
    LayerNorm {
        /// Values along the last axis.
        features: usize,
        /// Added to the variance.
        epsilon: f64,
    },
    /// Global response normalization of a grid H×W×C (Woo et al., 2023, arXiv:2301.00808): `x + weight·x·n + bias`, where a channel's `n` is
    /// the root of the sum of its squares over the grid, divided by the mean of these roots over all channels.
    ResponseNorm {
        /// Channels.
        features: usize,
        /// Added to the mean.
        epsilon: f64,
    },
    /// A function of each value by itself.
    Activation(Activation),
    /// Zeros around an image, as TensorFlow has them (SAME): as many as a window needs to fit ⌈side/stride⌉ times, half of them before and half
    /// behind, the odd one behind.
    PadSame {
        /// Side of the window that follows, in pixels.
        kernel: usize,
        /// Its step, in pixels.
        stride: usize,
    },
    /// The largest value under a square window.
    MaxPool2d {
        /// Side of the window, in pixels.
        kernel: usize,
        /// Step between windows, in pixels.
        stride: usize,
        /// Padding in pixels a side.
        padding: usize,
        /// Whether a last window may reach over the edge.
        ceil: bool,
    },
    /// The mean of a square window, zeros around the image included.
    AvgPool2d {
        /// Side of the window, in pixels.
        kernel: usize,
        /// Step between windows, in pixels.
        stride: usize,
        /// Padding in pixels a side.
        padding: usize,
    },
    /// The mean over as many equal regions as make an `output`×`output` image.
    AdaptiveAvgPool2d {
        /// Side of the output, in pixels.
        output: usize,
    },
    /// Any shape to a row.
    Flatten,
    /// `x·Wᵀ + b` along the last axis.
    Linear {
        /// Values in.
        in_features: usize,
        /// Values out.
        out_features: usize,
        /// Whether there is a `b`.
        bias: bool,
    },
    /// Tokens L×2C to L×C: the SiLU of a token's first half times its second half (SwiGLU; Shazeer, 2020, arXiv:2002.05202).
    SwiGlu,
    /// The mean of tokens L×C as a row C.
    TokenMean {
        /// Tokens before those that count.
        others: usize,
    },
    /// The sum of two values; one may have ones in its shape.
    Add,
    /// The product of two values; one may have ones in its shape.
    Mul,
    /// An image scaled to the height and width of a second one, bilinear, corners of pixels aligned (PyTorch's `interpolate` with
    /// `align_corners=False`).
    ResizeLike,
    /// Values one after the other along the first axis: channels of images, or tokens.
    Concat,
    /// Part of the first axis: some channels of an image, or some tokens.
    Slice {
        /// First index.
        start: usize,
        /// The index after the last.
        end: usize,
    },
    /// ShuffleNet's exchange between groups of channels: channel `i` of group `g` goes to place `i·groups + g`.
    ChannelShuffle {
        /// Number of groups.
        groups: usize,
    },
    /// Another order of the three axes: axis `i` of the output is axis `order[i]` of the input.
    Permute {
        /// The axes of the input.
        order: [usize; 3],
    },
    /// An image C×H×W to its pixels as tokens, (H·W)×C.
    PixelsToTokens,
    /// A grid H×W×C to (H/2)×(W/2)×4C, four neighbours in one (padded where a side is odd).
    MergeNeighbours,
    /// Scaled dot-product attention of tokens L×3C (queries, keys and values side by side) to L×C.
    Attention {
        /// Attention heads.
        heads: usize,
    },
    /// Scaled dot-product attention of the pixels of an image C×H×W (queries) with those of two others, (C/`heads`)×H′×W′ (keys and values, the
    /// same for all heads), to C×H×W (multi-query attention; Shazeer, 2019, arXiv:1911.02150).
    MultiQueryAttention {
        /// Attention heads.
        heads: usize,
    },
    /// A grid H×W×C, padded and shifted, cut into windows: (number)×`window`²×C.
    PartitionWindows {
        /// Side of the window, in tokens.
        window: usize,
        /// How far the grid is rolled up and left before the cut.
        shift: usize,
    },
    /// Attention inside each window, of windows ×3C to windows ×C. Takes the windows, the position bias and a grid of
    /// the size that was cut; tokens that only a shift made neighbours do not see each other. With a fourth input, `heads`×1×1, it is
    /// by cosines of queries and keys, times the exponential of that, at most 100.
    WindowAttention {
        /// Attention heads.
        heads: usize,
        /// Side of the window, in tokens.
        window: usize,
        /// The shift of the cut.
        shift: usize,
        /// Scores that are no cosines are divided by the root of this.
        divisor: usize,
    },
    /// Undoes `PartitionWindows`. Takes the windows and a grid of the size that was cut.
    JoinWindows {
        /// Side of the window, in tokens.
        window: usize,
        /// The shift of the cut.
        shift: usize,
    },
    /// A grid H×W×C, cut into `side`×`side` equal cells, to the places of a cell and the cells: (H·W/`side`²)×`side`²×C.
    PartitionGrid {
        /// Cells along each axis.
        side: usize,
    },
    /// Undoes `PartitionGrid`. Takes the places and a grid of the size that was cut.
    JoinGrid {
        /// Cells along each axis.
        side: usize,
    },
    /// In training, sets each value to zero with a probability and scales the others up.
    Dropout {
        /// Of zero, 0–1.
        probability: f64,
    },
    /// In training, drops the whole value of a sample with a probability and scales the others up.
    StochasticDepth {
        /// Of dropping, 0–1.
        probability: f64,
    },
    /// ResNet's option A: every `stride`-th pixel, and zero channels on both sides up to `out_channels`. No parameters.
    PadShortcut {
        /// Channels of the output.
        out_channels: usize,
        /// Step in pixels.
        stride: usize,
    },
}

/// The zeros before and behind a side of `side` pixels that [`Op::PadSame`] adds.
pub fn same_padding(side: usize, kernel: usize, stride: usize) -> [usize; 2] {
    let missing = ((side.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(side);
    [missing / 2, missing - missing / 2]
}

/// A tensor of an operation's state: suffix of its key, shape, role.
pub(crate) type State = (&'static str, Vec<usize>, ParameterRole);

impl Op {
    /// The parameters and buffers of the operation, in the order of a state dict.
    pub(crate) fn state(&self) -> Vec<State> {
        use ParameterRole as Role;
        match self {
            Self::Learned { stored, .. } => vec![("", stored.clone(), Role::Weight)],
            &Self::RelativePositionBias { window, heads, is_matrix } => {
                let index = if is_matrix { vec![window.pow(2); 2] } else { vec![window.pow(4)] };
                vec![
                    ("relative_position_bias_table", vec![(2 * window - 1).pow(2), heads], Role::Weight),
                    ("relative_position_index", index, Role::RelativePositionIndex { window }),
                ]
            }
            &Self::LogOffsets { window } => {
                let side = 2 * window - 1;
                vec![("relative_coords_table", vec![1, side, side, 2], Role::LogOffsets { window })]
            }
            &Self::PositionBiasFrom { window, .. } => {
                vec![("relative_position_index", vec![window.pow(4)], Role::RelativePositionIndex { window })]
            }
            &Self::QueriesKeysValues { features, stored } => {
                let matrix = |name, parts| (name, vec![parts * features, features], Role::Weight);
                let bias = |name| (name, vec![features], Role::Bias);
                match stored {
                    Projections::Together => with_bias(matrix("weight", 3), Some(3 * features)),
                    Projections::BiasesApart => vec![bias("q_bias"), bias("v_bias"), matrix("qkv.weight", 3)],
                    Projections::Apart => vec![
                        matrix("q_proj.weight", 1),
                        bias("q_proj.bias"),
                        matrix("k_proj.weight", 1),
                        matrix("v_proj.weight", 1),
                        bias("v_proj.bias"),
                    ],
                }
            }
            Self::Conv2d(conv) => {
                let Conv2d { in_channels, out_channels, kernel, groups, bias, .. } = *conv;
                let weight = ("weight", vec![out_channels, in_channels / groups, kernel[0], kernel[1]], Role::Weight);
                with_bias(weight, bias.then_some(out_channels))
            }
            &Self::Linear { in_features, out_features, bias } => {
                let weight = ("weight", vec![out_features, in_features], Role::Weight);
                with_bias(weight, bias.then_some(out_features))
            }
            &Self::BatchNorm2d { features, .. } => vec![
                ("weight", vec![features], Role::NormWeight),
                ("bias", vec![features], Role::NormBias),
                ("running_mean", vec![features], Role::RunningMean),
                ("running_var", vec![features], Role::RunningVar),
                ("num_batches_tracked", vec![], Role::NumBatchesTracked),
            ],
            &Self::LayerNorm { features, .. } => {
                vec![("weight", vec![features], Role::NormWeight), ("bias", vec![features], Role::NormBias)]
            }
            // Both are zero at first.
            &Self::ResponseNorm { features, .. } => with_bias(("weight", vec![features], Role::Weight), Some(features)),
            _ => Vec::new(),
        }
    }

    /// A short word for a table.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Input { .. } => "input",
            Self::Learned { .. } => "learned",
            Self::RelativePositionBias { .. } | Self::LogOffsets { .. } | Self::PositionBiasFrom { .. } => {
                "position bias"
            }
            Self::Conv2d(conv) if conv.groups > 1 => "grouped conv",
            Self::Conv2d(_) => "conv",
            Self::BatchNorm2d { .. } => "batch norm",
            Self::LayerNorm { .. } => "layer norm",
            Self::ResponseNorm { .. } => "response norm",
            Self::Activation(Activation::Relu) => "relu",
            Self::Activation(Activation::Relu6) => "relu6",
            Self::Activation(Activation::HardSwish) => "hard swish",
            Self::Activation(Activation::HardSigmoid) => "hard sigmoid",
            Self::Activation(Activation::Sigmoid) => "sigmoid",
            Self::Activation(Activation::Silu) => "silu",
            Self::Activation(Activation::Tanh) => "tanh",
            Self::Activation(Activation::Gelu) => "gelu",
            Self::PadSame { .. } => "pad",
            Self::MaxPool2d { .. } => "max pool",
            Self::AvgPool2d { .. } | Self::AdaptiveAvgPool2d { .. } => "average pool",
            Self::Flatten => "flatten",
            Self::Linear { .. } | Self::QueriesKeysValues { .. } => "linear",
            Self::RotaryPositions { .. } => "rotary positions",
            Self::SwiGlu => "swiglu",
            Self::TokenMean { .. } => "token mean",
            Self::Add => "add",
            Self::Mul => "multiply",
            Self::ResizeLike => "resize",
            Self::Concat => "concat",
            Self::Slice { .. } => "slice",
            Self::ChannelShuffle { .. } => "shuffle",
            Self::Permute { .. } => "permute",
            Self::PixelsToTokens => "tokens",
            Self::MergeNeighbours => "merge patches",
            Self::Attention { .. } | Self::MultiQueryAttention { .. } => "attention",
            Self::PartitionWindows { .. } => "cut windows",
            Self::WindowAttention { .. } => "window attention",
            Self::JoinWindows { .. } => "join windows",
            Self::PartitionGrid { .. } => "cut grid",
            Self::JoinGrid { .. } => "join grid",
            Self::Dropout { .. } => "dropout",
            Self::StochasticDepth { .. } => "stochastic depth",
            Self::PadShortcut { .. } => "pad shortcut",
        }
    }
}

fn with_bias(weight: State, bias: Option<usize>) -> Vec<State> {
    let bias = bias.map(|features| ("bias", vec![features], ParameterRole::Bias));
    std::iter::once(weight).chain(bias).collect()
}

/// How the weight and the bias of a node are drawn before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draws {
    /// The weight.
    pub weight: Draw,
    /// The bias.
    pub bias: Draw,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_fit_as_in_tensorflow() {
        // (side, kernel, stride) -> zeros before and behind: tf.nn.conv2d with padding="SAME".
        let cases = [
            ((224, 3, 2), [0, 1]),
            ((7, 3, 2), [1, 1]),
            ((56, 5, 2), [1, 2]),
            ((15, 5, 2), [2, 2]),
            ((8, 1, 2), [0, 0]),
        ];
        for ((side, kernel, stride), expected) in cases {
            assert_eq!(same_padding(side, kernel, stride), expected, "{side} {kernel} {stride}");
            assert_eq!((side + expected.iter().sum::<usize>() - kernel) / stride + 1, side.div_ceil(stride));
        }
    }
}
