//! Each operation of a network in ONNX's operators. Values have the batch first.

use std::collections::HashMap;

use architectures::{
    Activation, Conv2d, Network, Node, NodeId, Op, Projections, Shape, WindowCut, relative_position_index, rotations,
    same_padding,
};
use weights::{Dtype, Tensor};

use crate::Error;
use crate::graph::Attribute::{Float, Int, Ints, Text};
use crate::graph::Graph;
use crate::proto::GraphProto;

/// A network on its way into a graph.
#[derive(Debug)]
pub(crate) struct Translation<'a> {
    network: &'a Network,
    side: usize,
    shapes: Vec<Shape>,
    weights: HashMap<&'a str, &'a Tensor>,
    /// For each node, the keys of its tensors.
    keys: HashMap<usize, Vec<String>>,
    graph: Graph,
    /// For each node, the name of its value.
    values: Vec<String>,
}

impl<'a> Translation<'a> {
    pub(crate) fn new(network: &'a Network, weights: &'a [(String, Tensor)], side: usize) -> Result<Self, Error> {
        let weights: HashMap<_, _> = weights.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut keys: HashMap<usize, Vec<String>> = HashMap::new();
        for parameter in network.parameters() {
            let is_there = weights.get(parameter.name.as_str()).is_some_and(|found| found.shape() == parameter.shape);
            if !is_there {
                return Err(Error::Weight { name: parameter.name, shape: parameter.shape });
            }
            keys.entry(parameter.node.index()).or_default().push(parameter.name);
        }
        let shapes = network.shapes(side, side)?;
        Ok(Self { network, side, shapes, weights, keys, graph: Graph::default(), values: Vec::new() })
    }

    pub(crate) fn graph(mut self) -> Result<GraphProto, Error> {
        let nodes = self.network.nodes();
        for (index, node) in nodes.iter().enumerate() {
            let value = self.node(index, node)?;
            self.values.push(value);
        }
        let last = self.values[nodes.len() - 1].clone();
        self.graph.node_called("logits", "Identity", &[&last], &[]);
        let [input, output] = [0, nodes.len() - 1].map(|node| self.shapes[node].sides().to_vec());
        Ok(self.graph.finish(self.network.name(), ("images", &input), ("logits", &output)))
    }

    fn shape(&self, node: NodeId) -> Vec<usize> {
        self.shapes[node.index()].sides().to_vec()
    }

    /// One of a node's tensors as a constant.
    fn weight(&mut self, node: usize, index: usize) -> String {
        let key = self.keys[&node][index].clone();
        let tensor = self.weights[key.as_str()];
        self.graph.floats(&key, tensor.shape(), single_precision(tensor))
    }

    /// The value of a node.
    fn node(&mut self, index: usize, node: &Node) -> Result<String, Error> {
        let inputs: Vec<String> = node.inputs.iter().map(|input| self.values[input.index()].clone()).collect();
        let x = inputs.first().map_or("", String::as_str);
        let shape = self.shapes[index].sides().to_vec();
        let in_shape = node.inputs.first().map(|&input| self.shape(input)).unwrap_or_default();
        Ok(match node.op {
            Op::Input { .. } => "images".to_owned(),
            Op::Learned { .. } => {
                let key = self.keys[&index][0].clone();
                let values = single_precision(self.weights[key.as_str()]);
                let sides: Vec<_> = std::iter::once(1).chain(shape).collect();
                self.graph.floats(&key, &sides, values)
            }
            Op::RelativePositionBias { window, heads, .. } => self.position_bias(index, window, heads),
            Op::LogOffsets { window } => {
                let key = self.keys[&index][0].clone();
                let values = single_precision(self.weights[key.as_str()]);
                self.graph.floats(&key, &[1, (2 * window - 1).pow(2), 2], values)
            }
            Op::PositionBiasFrom { window, .. } => {
                let rows = self.graph.integers(&relative_position_index(window));
                let bias = self.graph.node("Gather", &[x, &rows], &[("axis", Int(1))]);
                let bias = self.graph.reshape(&bias, &[window * window, window * window, shape[0]]);
                let bias = self.graph.transpose(&bias, &[0, 3, 1, 2]);
                let bias = self.graph.node("Sigmoid", &[&bias], &[]);
                let most = self.graph.number(16.0);
                self.graph.node("Mul", &[&bias, &most], &[])
            }
            Op::QueriesKeysValues { features, stored } => self.queries_keys_values(index, x, features, stored),
            Op::RotaryPositions { heads, others, reference } => {
                self.turned(x, [shape[0], shape[1] / 3], heads, others, reference)
            }
            Op::Conv2d(Conv2d { kernel, stride, padding, dilation, groups, bias, .. }) => {
                let weights: Vec<_> = (0..=usize::from(bias)).map(|place| self.weight(index, place)).collect();
                let inputs: Vec<_> = std::iter::once(x).chain(weights.iter().map(String::as_str)).collect();
                let attributes = [
                    ("kernel_shape", Ints(kernel.to_vec())),
                    ("strides", Ints(vec![stride; 2])),
                    ("pads", Ints([padding, padding].concat())),
                    ("dilations", Ints(vec![dilation; 2])),
                    ("group", Int(groups)),
                ];
                self.graph.node("Conv", &inputs, &attributes)
            }
            Op::BatchNorm2d { epsilon, .. } => {
                let [scale, shift, mean, var] = [0, 1, 2, 3].map(|place| self.weight(index, place));
                let inputs = [x, &scale, &shift, &mean, &var];
                self.graph.node("BatchNormalization", &inputs, &[("epsilon", Float(epsilon))])
            }
            Op::LayerNorm { epsilon, .. } => {
                let [scale, shift] = [0, 1].map(|place| self.weight(index, place));
                let last = shape.len(); // the batch is the axis before
                let attributes = [("axis", Int(last)), ("epsilon", Float(epsilon))];
                self.graph.node("LayerNormalization", &[x, &scale, &shift], &attributes)
            }
            Op::ResponseNorm { epsilon, .. } => self.response_norm(index, x, epsilon),
            Op::Activation(activation) => self.activation(activation, x),
            Op::PadSame { kernel, stride } => {
                let [[above, below], [left, right]] =
                    [in_shape[1], in_shape[2]].map(|side| same_padding(side, kernel, stride));
                self.graph.pad(x, &[0, 0, above, left], &[0, 0, below, right])
            }
            Op::MaxPool2d { kernel, stride, padding, ceil } => {
                let attributes = [
                    ("kernel_shape", Ints(vec![kernel; 2])),
                    ("strides", Ints(vec![stride; 2])),
                    ("pads", Ints(vec![padding; 4])),
                    ("ceil_mode", Int(usize::from(ceil))),
                ];
                self.graph.node("MaxPool", &[x], &attributes)
            }
            Op::AvgPool2d { kernel, stride, padding } => {
                let attributes = [
                    ("kernel_shape", Ints(vec![kernel; 2])),
                    ("strides", Ints(vec![stride; 2])),
                    ("pads", Ints(vec![padding; 4])),
                    ("count_include_pad", Int(1)),
                ];
                self.graph.node("AveragePool", &[x], &attributes)
            }
            Op::AdaptiveAvgPool2d { output: 1 } => self.graph.node("GlobalAveragePool", &[x], &[]),
            Op::AdaptiveAvgPool2d { output } => {
                let [height, width] = [in_shape[1], in_shape[2]];
                if height % output != 0 || width % output != 0 {
                    let reason =
                        format!("{height}×{width} pixels cannot be averaged into {output}×{output} equal parts");
                    return Err(Error::Operator { network: self.network.name().to_owned(), side: self.side, reason });
                }
                self.average(x, [height / output, width / output])
            }
            Op::Flatten => self.graph.node("Flatten", &[x], &[("axis", Int(1))]),
            Op::Linear { bias, .. } => self.linear(index, x, bias, shape.len()),
            Op::SwiGlu => {
                let [gate, value] = [0, shape[1]].map(|start| self.graph.slice(x, 2, start, start + shape[1], 1));
                let gate = self.activation(Activation::Silu, &gate);
                self.graph.node("Mul", &[&gate, &value], &[])
            }
            Op::TokenMean { others } => {
                let counted = self.graph.slice(x, 1, others, in_shape[0], 1);
                self.graph.node("ReduceMean", &[&counted], &[("axes", Ints(vec![1])), ("keepdims", Int(0))])
            }
            Op::Add => self.graph.node("Add", &[x, &inputs[1]], &[]),
            Op::Mul => self.graph.node("Mul", &[x, &inputs[1]], &[]),
            Op::ResizeLike => self.resize(x, [shape[1], shape[2]]),
            Op::Concat => self.concat(node, &inputs),
            Op::Slice { start, end } => self.graph.slice(x, 1, start, end, 1),
            Op::ChannelShuffle { groups } => {
                let [channels, height, width] = [shape[0], shape[1], shape[2]];
                let x = self.graph.reshape(x, &[groups, channels / groups, height, width]);
                let x = self.graph.transpose(&x, &[0, 2, 1, 3, 4]);
                self.graph.reshape(&x, &shape)
            }
            Op::Permute { order: [a, b, c] } => self.graph.transpose(x, &[0, a + 1, b + 1, c + 1]),
            Op::PixelsToTokens => {
                let x = self.graph.reshape(x, &[shape[1], shape[0]]);
                self.graph.transpose(&x, &[0, 2, 1])
            }
            Op::MergeNeighbours => self.merge_neighbours(x, &in_shape),
            Op::Attention { heads } => {
                let [tokens, features] = [shape[0], shape[1]];
                self.attention(x, &[tokens], heads, features, Scaling::Root(features / heads), &[])
            }
            Op::MultiQueryAttention { heads } => {
                let keys = self.shape(node.inputs[1]);
                self.multi_query_attention([x, &inputs[1], &inputs[2]], heads, &shape, keys[1] * keys[2])
            }
            Op::PartitionWindows { window, shift } => {
                self.partition(x, &WindowCut::of(in_shape[0], in_shape[1], window, shift), in_shape[2])
            }
            Op::WindowAttention { heads, window, shift, divisor } => {
                let grid = self.shape(node.inputs[2]);
                let cut = WindowCut::of(grid[0], grid[1], window, shift);
                let mask = cut.is_shifted().then(|| self.mask(&cut));
                let added: Vec<_> = std::iter::once(inputs[1].as_str()).chain(mask.as_deref()).collect();
                let scaling = inputs.get(3).map_or(Scaling::Root(divisor), |scale| Scaling::Cosines(scale));
                self.attention(x, &[shape[0], shape[1]], heads, shape[2], scaling, &added)
            }
            Op::JoinWindows { window, shift } => {
                self.join(x, &WindowCut::of(shape[0], shape[1], window, shift), shape[2])
            }
            Op::PartitionGrid { side } => {
                let [height, width, channels] = [in_shape[0] / side, in_shape[1] / side, in_shape[2]];
                let x = self.graph.reshape(x, &[side, height, side, width, channels]);
                let x = self.graph.transpose(&x, &[0, 2, 4, 1, 3, 5]);
                self.graph.reshape(&x, &[height * width, side * side, channels])
            }
            Op::JoinGrid { side } => {
                let x = self.graph.reshape(x, &[shape[0] / side, shape[1] / side, side, side, shape[2]]);
                let x = self.graph.transpose(&x, &[0, 3, 1, 4, 2, 5]);
                self.graph.reshape(&x, &shape)
            }
            Op::Dropout { .. } | Op::StochasticDepth { .. } => x.to_owned(),
            Op::PadShortcut { out_channels, stride } => {
                let x = self.graph.slice(x, 2, 0, in_shape[1], stride);
                let x = self.graph.slice(&x, 3, 0, in_shape[2], stride);
                let missing = out_channels - in_shape[0];
                self.graph.pad(&x, &[0, missing / 2, 0, 0], &[0, missing - missing / 2, 0, 0])
            }
        })
    }

    fn activation(&mut self, activation: Activation, x: &str) -> String {
        match activation {
            Activation::Relu => self.graph.node("Relu", &[x], &[]),
            Activation::Relu6 => {
                let [low, high] = [0.0, 6.0].map(|bound| self.graph.number(bound));
                self.graph.node("Clip", &[x, &low, &high], &[])
            }
            Activation::HardSwish => self.graph.node("HardSwish", &[x], &[]),
            Activation::HardSigmoid => self.graph.node("HardSigmoid", &[x], &[("alpha", Float(1.0 / 6.0))]),
            Activation::Sigmoid => self.graph.node("Sigmoid", &[x], &[]),
            Activation::Tanh => self.graph.node("Tanh", &[x], &[]),
            Activation::Silu => {
                let gate = self.graph.node("Sigmoid", &[x], &[]);
                self.graph.node("Mul", &[x, &gate], &[])
            }
            // x · Φ(x) = x/2 · (1 + erf(x/√2))
            Activation::Gelu => {
                let [root, one, half] = [0.5_f64.sqrt(), 1.0, 0.5].map(|number| self.graph.number(number));
                let scaled = self.graph.node("Mul", &[x, &root], &[]);
                let erf = self.graph.node("Erf", &[&scaled], &[]);
                let sum = self.graph.node("Add", &[&erf, &one], &[]);
                let product = self.graph.node("Mul", &[x, &sum], &[]);
                self.graph.node("Mul", &[&product, &half], &[])
            }
        }
    }

    /// Of a grid N×H×W×C.
    fn response_norm(&mut self, index: usize, x: &str, epsilon: f64) -> String {
        let [weight, bias] = [0, 1].map(|place| self.weight(index, place));
        let epsilon = self.graph.number(epsilon);
        let lengths = self.graph.node("ReduceL2", &[x], &[("axes", Ints(vec![1, 2]))]);
        let mean = self.graph.node("ReduceMean", &[&lengths], &[("axes", Ints(vec![3]))]);
        let mean = self.graph.node("Add", &[&mean, &epsilon], &[]);
        let shares = self.graph.node("Div", &[&lengths, &mean], &[]);
        let product = self.graph.node("Mul", &[x, &shares], &[]);
        let product = self.graph.node("Mul", &[&product, &weight], &[]);
        let added = self.graph.node("Add", &[&product, &bias], &[]);
        self.graph.node("Add", &[x, &added], &[])
    }

    fn average(&mut self, x: &str, kernel: [usize; 2]) -> String {
        let attributes = [("kernel_shape", Ints(kernel.to_vec())), ("strides", Ints(kernel.to_vec()))];
        self.graph.node("AveragePool", &[x], &attributes)
    }

    /// `axes` are those of a sample's value.
    fn linear(&mut self, index: usize, x: &str, bias: bool, axes: usize) -> String {
        let weight = self.weight(index, 0);
        let bias = bias.then(|| self.weight(index, 1));
        if axes == 1 {
            let inputs: Vec<_> = [x, &weight].into_iter().chain(bias.as_deref()).collect();
            return self.graph.node("Gemm", &inputs, &[("transB", Int(1))]);
        }
        let weight = self.graph.transpose(&weight, &[1, 0]);
        let product = self.graph.node("MatMul", &[x, &weight], &[]);
        match bias {
            Some(bias) => self.graph.node("Add", &[&product, &bias], &[]),
            None => product,
        }
    }

    /// Learned values are repeated for every sample of the batch.
    /// An image scaled to this height and width, bilinear; batch and channels are those that it has.
    fn resize(&mut self, x: &str, sides: [usize; 2]) -> String {
        let shape = self.graph.node("Shape", &[x], &[]);
        let kept = self.graph.slice(&shape, 0, 0, 2, 1);
        let sides = self.graph.integers(&sides.map(|side| side as i64));
        let sizes = self.graph.concat(&[&kept, &sides], 0);
        let attributes = [("mode", Text("linear")), ("coordinate_transformation_mode", Text("pytorch_half_pixel"))];
        self.graph.node("Resize", &[x, "", "", &sizes], &attributes)
    }

    fn concat(&mut self, node: &Node, inputs: &[String]) -> String {
        let is_learned = |input: NodeId| matches!(self.network.nodes()[input.index()].op, Op::Learned { .. });
        let example = node.inputs.iter().position(|&input| !is_learned(input)).map(|place| inputs[place].clone());
        let learned: Vec<_> = node.inputs.iter().map(|&input| is_learned(input)).collect();
        let mut parts = Vec::new();
        for ((part, &input), learned) in inputs.iter().zip(&node.inputs).zip(learned) {
            parts.push(match &example {
                Some(example) if learned => {
                    let sides: Vec<_> = self.shape(input).iter().map(|&side| side as i64).collect();
                    let size = self.graph.node("Shape", &[example], &[]);
                    let batch = self.graph.slice(&size, 0, 0, 1, 1);
                    let sides = self.graph.integers(&sides);
                    let size = self.graph.concat(&[&batch, &sides], 0);
                    self.graph.node("Expand", &[part, &size], &[])
                }
                _ => part.clone(),
            });
        }
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        self.graph.concat(&parts, 1)
    }

    /// N×H×W×C to N×H/2×W/2×4C.
    fn merge_neighbours(&mut self, x: &str, shape: &[usize]) -> String {
        let [height, width] = [shape[0] + shape[0] % 2, shape[1] + shape[1] % 2];
        let mut x = x.to_owned();
        if [height, width] != shape[..2] {
            x = self.graph.pad(&x, &[0; 4], &[0, height - shape[0], width - shape[1], 0]);
        }
        let parts = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(down, right)| {
            let rows = self.graph.slice(&x, 1, down, height, 2);
            self.graph.slice(&rows, 2, right, width, 2)
        });
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        self.graph.concat(&parts, 3)
    }

    /// A linear layer of tokens whose bias has no keys.
    fn queries_keys_values(&mut self, index: usize, x: &str, features: usize, stored: Projections) -> String {
        // Where the matrices are, and the biases of queries and values, and from which place on the latter's own begins.
        let (matrices, queries, (values, begin)): (&[usize], _, _) = match stored {
            Projections::Together => (&[0], 1, (1, 2 * features)),
            Projections::BiasesApart => (&[2], 0, (1, 0)),
            Projections::Apart => (&[0, 2, 3], 1, (4, 0)),
        };
        let matrices: Vec<_> = matrices.iter().map(|&place| self.weight(index, place)).collect();
        let matrices: Vec<_> = matrices.iter().map(String::as_str).collect();
        let weight = if let &[one] = &matrices[..] { one.to_owned() } else { self.graph.concat(&matrices, 0) };
        let weight = self.graph.transpose(&weight, &[1, 0]);
        let product = self.graph.node("MatMul", &[x, &weight], &[]);
        let key = self.keys[&index][queries].clone();
        let of = |place: usize| self.weights[self.keys[&index][place].as_str()].to_f32();
        let bias = [&of(queries)[..features], &vec![0.0; features], &of(values)[begin..]].concat();
        let bias = self.graph.floats(&key, &[3 * features], bytes(&bias));
        self.graph.node("Add", &[&product, &bias], &[])
    }

    /// Queries and keys of N×L×3C turned by where their tokens lie.
    fn turned(
        &mut self,
        qkv: &str,
        [tokens, features]: [usize; 2],
        heads: usize,
        others: usize,
        reference: usize,
    ) -> String {
        let pairs = features / heads / 2;
        let angles = rotations(tokens, others, 2 * pairs, reference);
        let [cosines, sines] = [("cosines", f32::cos as fn(f32) -> f32), ("sines", f32::sin)].map(|(what, of)| {
            let values: Vec<_> = angles.iter().map(|&angle| of(angle)).collect();
            self.graph.floats(&format!("{what}_{}", self.values.len()), &[1, tokens, 1, pairs, 1], bytes(&values))
        });
        let turned = self.graph.slice(qkv, 2, 0, 2 * features, 1);
        let turned = self.graph.reshape(&turned, &[tokens, 2 * heads, pairs, 2]);
        let [one, other] = [0, 1].map(|place| self.graph.slice(&turned, 4, place, place + 1, 1));
        let negative = self.graph.node("Neg", &[&other], &[]);
        let across = self.graph.concat(&[&negative, &one], 4);
        let along = self.graph.node("Mul", &[&turned, &cosines], &[]);
        let across = self.graph.node("Mul", &[&across, &sines], &[]);
        let turned = self.graph.node("Add", &[&along, &across], &[]);
        let turned = self.graph.reshape(&turned, &[tokens, 2 * features]);
        let values = self.graph.slice(qkv, 2, 2 * features, 3 * features, 1);
        self.graph.concat(&[&turned, &values], 2)
    }

    /// Attention of N×`outer`…×3C to N×`outer`…×C, where the last of `outer` counts tokens; `added` to the scores.
    fn attention(
        &mut self,
        qkv: &str,
        outer: &[usize],
        heads: usize,
        features: usize,
        scaling: Scaling<'_>,
        added: &[&str],
    ) -> String {
        let head = features / heads;
        let last = outer.len() + 1; // the axis of 3C
        let mut split: Vec<_> = outer.to_vec();
        split.extend([heads, head]);
        // Axes of N×outer…×heads×head with the tokens last but one, and the same with the tokens last.
        let before: Vec<_> = (0..outer.len()).collect();
        let to_heads: Vec<_> = before.iter().copied().chain([last, last - 1, last + 1]).collect();
        let to_heads_transposed: Vec<_> = before.iter().copied().chain([last, last + 1, last - 1]).collect();
        let [q, k, v] = [0, 1, 2].map(|part| {
            let x = self.graph.slice(qkv, last, part * features, (part + 1) * features, 1);
            let x = self.graph.reshape(&x, &split);
            self.graph.transpose(&x, if part == 1 { &to_heads_transposed } else { &to_heads })
        });
        let mut scores = match scaling {
            Scaling::Cosines(scale) => {
                let q = self.graph.node("LpNormalization", &[&q], &[("axis", Int(last + 1)), ("p", Int(2))]);
                let k = self.graph.node("LpNormalization", &[&k], &[("axis", Int(last)), ("p", Int(2))]);
                let cosines = self.graph.node("MatMul", &[&q, &k], &[]);
                let most = self.graph.number(100_f64.ln());
                let scale = self.graph.node("Min", &[scale, &most], &[]);
                let scale = self.graph.node("Exp", &[&scale], &[]);
                self.graph.node("Mul", &[&cosines, &scale], &[])
            }
            Scaling::Root(divisor) => {
                let scale = self.graph.number((divisor as f64).powf(-0.5));
                let q = self.graph.node("Mul", &[&q, &scale], &[]);
                self.graph.node("MatMul", &[&q, &k], &[])
            }
        };
        for term in added {
            scores = self.graph.node("Add", &[&scores, term], &[]);
        }
        let shares = self.graph.node("Softmax", &[&scores], &[("axis", Int(last + 1))]);
        let mixed = self.graph.node("MatMul", &[&shares, &v], &[]);
        let mixed = self.graph.transpose(&mixed, &to_heads); // the exchange of two axes undoes itself
        let mut joined = outer.to_vec();
        joined.push(features);
        self.graph.reshape(&mixed, &joined)
    }

    /// Attention of an image of this `shape` with two of so many `seen` pixels, which are the same for all heads.
    fn multi_query_attention(
        &mut self,
        [queries, keys, values]: [&str; 3],
        heads: usize,
        shape: &[usize],
        seen: usize,
    ) -> String {
        let (head, pixels) = (shape[0] / heads, shape[1] * shape[2]);
        let q = self.graph.reshape(queries, &[heads, head, pixels]);
        let q = self.graph.transpose(&q, &[0, 1, 3, 2]);
        let scale = self.graph.number((head as f64).powf(-0.5));
        let q = self.graph.node("Mul", &[&q, &scale], &[]);
        let [k, v] = [keys, values].map(|image| self.graph.reshape(image, &[1, head, seen]));
        let v = self.graph.transpose(&v, &[0, 1, 3, 2]);
        let scores = self.graph.node("MatMul", &[&q, &k], &[]);
        let shares = self.graph.node("Softmax", &[&scores], &[("axis", Int(3))]);
        let mixed = self.graph.node("MatMul", &[&shares, &v], &[]);
        let mixed = self.graph.transpose(&mixed, &[0, 1, 3, 2]);
        self.graph.reshape(&mixed, shape)
    }

    /// 1×heads×window²×window², looked up in the table.
    fn position_bias(&mut self, index: usize, window: usize, heads: usize) -> String {
        let key = self.keys[&index][0].clone();
        let table = self.weights[key.as_str()].to_f32();
        let rows = relative_position_index(window);
        let values: Vec<_> = (0..heads).flat_map(|head| rows.iter().map(move |&row| (row as usize, head))).collect();
        let values: Vec<_> = values.into_iter().map(|(row, head)| table[row * heads + head]).collect();
        let tokens = window * window;
        self.graph.floats(&key, &[1, heads, tokens, tokens], bytes(&values))
    }

    /// windows×1×L×L: zero between tokens that see each other, -100 between the others.
    fn mask(&mut self, cut: &WindowCut) -> String {
        let tokens = cut.window * cut.window;
        let mut values = Vec::new();
        for window in cut.regions().chunks(tokens) {
            for from in window {
                values.extend(window.iter().map(|to| if from == to { 0.0 } else { -100.0 }));
            }
        }
        let name = format!("mask_{}", self.values.len());
        self.graph.floats(&name, &[cut.windows[0] * cut.windows[1], 1, tokens, tokens], bytes(&values))
    }

    /// N×H×W×C to N×windows×window²×C.
    fn partition(&mut self, x: &str, cut: &WindowCut, channels: usize) -> String {
        let mut x = x.to_owned();
        let [below, right] = cut.padding();
        if below + right > 0 {
            x = self.graph.pad(&x, &[0; 4], &[0, below, right, 0]);
        }
        let ([rows, columns], window) = (cut.windows, cut.window);
        for (axis, shift) in [(1, cut.shift[0]), (2, cut.shift[1])] {
            x = self.roll(&x, axis, cut.windows[axis - 1] * window, shift);
        }
        let x = self.graph.reshape(&x, &[rows, window, columns, window, channels]);
        let x = self.graph.transpose(&x, &[0, 1, 3, 2, 4, 5]);
        self.graph.reshape(&x, &[rows * columns, window * window, channels])
    }

    /// N×windows×window²×C to N×H×W×C.
    fn join(&mut self, x: &str, cut: &WindowCut, channels: usize) -> String {
        let ([rows, columns], window) = (cut.windows, cut.window);
        let x = self.graph.reshape(x, &[rows, columns, window, window, channels]);
        let x = self.graph.transpose(&x, &[0, 1, 3, 2, 4, 5]);
        let mut x = self.graph.reshape(&x, &[rows * window, columns * window, channels]);
        for (axis, shift) in [(1, cut.shift[0]), (2, cut.shift[1])] {
            let side = cut.windows[axis - 1] * window;
            x = self.roll(&x, axis, side, if shift > 0 { side - shift } else { 0 });
            if cut.grid[axis - 1] < side {
                x = self.graph.slice(&x, axis, 0, cut.grid[axis - 1], 1);
            }
        }
        x
    }

    /// The values along an axis of length `side`, from place `start` on, then those before it.
    fn roll(&mut self, x: &str, axis: usize, side: usize, start: usize) -> String {
        if start == 0 {
            return x.to_owned();
        }
        let (after, before) = (self.graph.slice(x, axis, start, side, 1), self.graph.slice(x, axis, 0, start, 1));
        self.graph.concat(&[&after, &before], axis)
    }
}

/// What becomes of the products of queries and keys.
enum Scaling<'a> {
    /// They are divided by the root of this.
    Root(usize),
    /// They are cosines, times the exponential of this value.
    Cosines(&'a str),
}

fn single_precision(tensor: &Tensor) -> Vec<u8> {
    if tensor.dtype() == Dtype::F32 { tensor.bytes().to_vec() } else { bytes(&tensor.to_f32()) }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
