//! A network as a list of operations, each on the values of earlier ones.

use std::fmt;

/// The number of a node in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(usize);

impl NodeId {
    /// The node's index in [`Network::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A two-dimensional convolution; square in kernel, stride and padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Side of the kernel, in pixels.
    pub kernel: usize,
    /// Step between outputs, in pixels.
    pub stride: usize,
    /// Zeros around the input, in pixels a side.
    pub padding: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Whether a bias is added to each output channel.
    pub bias: bool,
}

/// What a node computes. Pictures are N×C×H×W.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The network's input: N×`channels`×H×W.
    Input {
        /// Channels of the pictures.
        channels: usize,
    },
    /// A convolution.
    Conv2d(Conv2d),
    /// Normalization over the batch, one mean and variance a channel; epsilon 1e-5 and momentum 0.1, as PyTorch.
    BatchNorm2d {
        /// Channels.
        features: usize,
    },
    /// `max(x, 0)`.
    Relu,
    /// The largest value under a square window.
    MaxPool2d {
        /// Side of the window, in pixels.
        kernel: usize,
        /// Step between windows, in pixels.
        stride: usize,
        /// Padding in pixels a side.
        padding: usize,
    },
    /// The mean over as many equal regions as make an `output`×`output` picture.
    AdaptiveAvgPool2d {
        /// Side of the output, in pixels.
        output: usize,
    },
    /// N×C×H×W to N×(C·H·W).
    Flatten,
    /// `x·Wᵀ + b`.
    Linear {
        /// Values in.
        in_features: usize,
        /// Values out.
        out_features: usize,
    },
    /// The sum of two values of the same shape.
    Add,
    /// ResNet's option A: every `stride`-th pixel, and zero channels on both sides up to `out_channels`. No parameters.
    PadShortcut {
        /// Channels of the output.
        out_channels: usize,
        /// Step in pixels.
        stride: usize,
    },
}

/// One operation, its name as a module of the original network (empty where it has no parameters), and its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The module path of its parameters: `layer1.0.conv1`.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// The nodes whose values it takes.
    pub inputs: Vec<NodeId>,
}

/// How a network's weights are drawn before training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialisation {
    /// Convolutions Kaiming-normal by fan-out, linear layers PyTorch's default: torchvision's ResNets.
    KaimingFanOut,
    /// Convolutions and linear layers Kaiming-normal by fan-in: the CIFAR ResNets.
    KaimingFanIn,
    /// PyTorch's default for every layer: uniform in ±1/√fan-in.
    PytorchDefault,
}

/// A network: its operations in the order in which they are computed. The last one gives the logits, N×classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    name: String,
    nodes: Vec<Node>,
    initialisation: Initialisation,
}

/// What a tensor of the network's state is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterRole {
    /// The weight of a convolution or a linear layer.
    Weight,
    /// A bias.
    Bias,
    /// BatchNorm's scale.
    NormWeight,
    /// BatchNorm's shift.
    NormBias,
    /// BatchNorm's running mean: a buffer, not trained.
    RunningMean,
    /// BatchNorm's running variance: a buffer, not trained.
    RunningVar,
    /// How many batches BatchNorm has seen: a buffer, not trained.
    NumBatchesTracked,
}

impl ParameterRole {
    /// Whether the optimizer changes it; the others are buffers.
    pub fn is_trained(self) -> bool {
        matches!(self, Self::Weight | Self::Bias | Self::NormWeight | Self::NormBias)
    }
}

/// One tensor of the network's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its key in a state dict: `layer1.0.conv1.weight`.
    pub name: String,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: ParameterRole,
    /// The node that uses it.
    pub node: NodeId,
}

/// The shape of one sample's value, without the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Channels, height and width.
    Picture(usize, usize, usize),
    /// A row of values.
    Features(usize),
}

impl Shape {
    /// Values per sample.
    pub fn elements(self) -> usize {
        match self {
            Self::Picture(channels, height, width) => channels * height * width,
            Self::Features(features) => features,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Picture(channels, height, width) => write!(f, "{channels}×{height}×{width}"),
            Self::Features(features) => write!(f, "{features}"),
        }
    }
}

/// A picture size that a network cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{network} cannot take pictures of {height}×{width} pixels: {reason} at {node}")]
pub struct ShapeError {
    network: String,
    height: usize,
    width: usize,
    node: String,
    reason: String,
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

    /// How the weights are drawn before training.
    pub fn initialisation(&self) -> Initialisation {
        self.initialisation
    }

    /// Whether a sample's output depends on the others of its batch in training.
    pub fn has_batch_norm(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.op, Op::BatchNorm2d { .. }))
    }

    /// Parameters and buffers in the order of the original's state dict.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let mut push = |suffix: &str, shape: Vec<usize>, role| {
                let name = format!("{}.{suffix}", node.name);
                parameters.push(Parameter { name, shape, role, node: NodeId(index) });
            };
            match &node.op {
                Op::Conv2d(conv) => {
                    let shape = vec![conv.out_channels, conv.in_channels / conv.groups, conv.kernel, conv.kernel];
                    push("weight", shape, ParameterRole::Weight);
                    if conv.bias {
                        push("bias", vec![conv.out_channels], ParameterRole::Bias);
                    }
                }
                &Op::BatchNorm2d { features } => {
                    push("weight", vec![features], ParameterRole::NormWeight);
                    push("bias", vec![features], ParameterRole::NormBias);
                    push("running_mean", vec![features], ParameterRole::RunningMean);
                    push("running_var", vec![features], ParameterRole::RunningVar);
                    push("num_batches_tracked", vec![], ParameterRole::NumBatchesTracked);
                }
                &Op::Linear { in_features, out_features } => {
                    push("weight", vec![out_features, in_features], ParameterRole::Weight);
                    push("bias", vec![out_features], ParameterRole::Bias);
                }
                _ => {}
            }
        }
        parameters
    }

    /// The shape of every node's value for pictures of `height`×`width` pixels.
    ///
    /// # Errors
    /// A picture too small for the network, or a network whose layers do not fit together.
    pub fn shapes(&self, height: usize, width: usize) -> Result<Vec<Shape>, ShapeError> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<_> = node.inputs.iter().map(|&NodeId(input)| shapes[input]).collect();
            let shape = output_shape(&node.op, &inputs, height, width).map_err(|reason| ShapeError {
                network: self.name.clone(),
                height,
                width,
                node: if node.name.is_empty() { format!("{:?}", node.op) } else { node.name.clone() },
                reason,
            })?;
            shapes.push(shape);
        }
        Ok(shapes)
    }
}

fn output_shape(op: &Op, inputs: &[Shape], height: usize, width: usize) -> Result<Shape, String> {
    let slide = |side: usize, kernel: usize, stride: usize, padding: usize| {
        let room = (side + 2 * padding).checked_sub(kernel);
        room.map(|room| room / stride + 1).ok_or_else(|| format!("a window of {kernel} does not fit into {side}"))
    };
    Ok(match (op, inputs) {
        (&Op::Input { channels }, []) if height > 0 && width > 0 => Shape::Picture(channels, height, width),
        (Op::Conv2d(conv), &[Shape::Picture(channels, h, w)]) if channels == conv.in_channels => Shape::Picture(
            conv.out_channels,
            slide(h, conv.kernel, conv.stride, conv.padding)?,
            slide(w, conv.kernel, conv.stride, conv.padding)?,
        ),
        (&Op::BatchNorm2d { features }, &[shape @ Shape::Picture(channels, ..)]) if channels == features => shape,
        (Op::Relu, &[shape]) => shape,
        (&Op::MaxPool2d { kernel, stride, padding }, &[Shape::Picture(channels, h, w)]) => {
            Shape::Picture(channels, slide(h, kernel, stride, padding)?, slide(w, kernel, stride, padding)?)
        }
        (&Op::AdaptiveAvgPool2d { output }, &[Shape::Picture(channels, ..)]) => {
            Shape::Picture(channels, output, output)
        }
        (Op::Flatten, &[shape]) => Shape::Features(shape.elements()),
        (&Op::Linear { in_features, out_features }, &[Shape::Features(features)]) if features == in_features => {
            Shape::Features(out_features)
        }
        (Op::Add, &[left, right]) if left == right => left,
        (&Op::PadShortcut { out_channels, stride }, &[Shape::Picture(channels, h, w)]) if out_channels >= channels => {
            Shape::Picture(out_channels, h.div_ceil(stride), w.div_ceil(stride))
        }
        _ => {
            let inputs: Vec<_> = inputs.iter().map(ToString::to_string).collect();
            return Err(format!("inputs of shape {} do not fit", inputs.join(" and ")));
        }
    })
}

/// Writes a network down, layer by layer.
///
/// ```
/// use architectures::{Builder, Initialisation};
///
/// let mut net = Builder::new("tiny", Initialisation::PytorchDefault);
/// let x = net.input(3);
/// let x = net.conv("conv", x, 3, 8, 3, 1);
/// let x = net.relu(x);
/// let x = net.adaptive_avg_pool(x, 1);
/// let x = net.flatten(x);
/// net.linear("fc", x, 8, 10);
/// assert_eq!(net.finish().parameters()[0].name, "conv.weight");
/// ```
#[derive(Clone, Debug)]
pub struct Builder(Network);

impl Builder {
    /// An empty network.
    pub fn new(name: &str, initialisation: Initialisation) -> Self {
        Self(Network { name: name.to_owned(), nodes: Vec::new(), initialisation })
    }

    /// The network.
    pub fn finish(self) -> Network {
        self.0
    }

    fn push(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> NodeId {
        self.0.nodes.push(Node { name: name.to_owned(), op, inputs: inputs.to_vec() });
        NodeId(self.0.nodes.len() - 1)
    }

    /// The pictures.
    pub fn input(&mut self, channels: usize) -> NodeId {
        self.push("", Op::Input { channels }, &[])
    }

    /// A convolution without bias that keeps the size at stride 1 (padding `kernel / 2`).
    pub fn conv(
        &mut self,
        name: &str,
        x: NodeId,
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        stride: usize,
    ) -> NodeId {
        let padding = kernel / 2;
        self.conv2d(name, x, Conv2d { in_channels, out_channels, kernel, stride, padding, groups: 1, bias: false })
    }

    /// Any convolution.
    pub fn conv2d(&mut self, name: &str, x: NodeId, conv: Conv2d) -> NodeId {
        self.push(name, Op::Conv2d(conv), &[x])
    }

    /// BatchNorm over `features` channels.
    pub fn batch_norm(&mut self, name: &str, x: NodeId, features: usize) -> NodeId {
        self.push(name, Op::BatchNorm2d { features }, &[x])
    }

    /// ReLU.
    pub fn relu(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::Relu, &[x])
    }

    /// Max pooling.
    pub fn max_pool(&mut self, x: NodeId, kernel: usize, stride: usize, padding: usize) -> NodeId {
        self.push("", Op::MaxPool2d { kernel, stride, padding }, &[x])
    }

    /// Average pooling to `output`×`output`.
    pub fn adaptive_avg_pool(&mut self, x: NodeId, output: usize) -> NodeId {
        self.push("", Op::AdaptiveAvgPool2d { output }, &[x])
    }

    /// One row per sample.
    pub fn flatten(&mut self, x: NodeId) -> NodeId {
        self.push("", Op::Flatten, &[x])
    }

    /// A linear layer with bias.
    pub fn linear(&mut self, name: &str, x: NodeId, in_features: usize, out_features: usize) -> NodeId {
        self.push(name, Op::Linear { in_features, out_features }, &[x])
    }

    /// The sum of two values.
    pub fn add(&mut self, x: NodeId, y: NodeId) -> NodeId {
        self.push("", Op::Add, &[x, y])
    }

    /// ResNet's shortcut without parameters (option A).
    pub fn pad_shortcut(&mut self, x: NodeId, out_channels: usize, stride: usize) -> NodeId {
        self.push("", Op::PadShortcut { out_channels, stride }, &[x])
    }
}
