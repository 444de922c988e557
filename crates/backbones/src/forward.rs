//! What each operation of a network computes, on tensors.
//!
//! Shapes in comments have the batch N first. Sizes of the batch are never looked up, so that a traced network takes
//! batches of any size.

use std::sync::{Arc, Mutex, PoisonError};

use architectures::{Activation, Conv2d, Op, Projections, Shape, WindowCut, rotations, same_padding};
use tch::{Device, Kind, Tensor};
use torch_ext::{BatchNorm, Convolution, Fused, LayerNorm, MaxPool, SyncBatchNorm, Takers, rng};

/// How a pass treats what differs between training and evaluation: BatchNorm, dropout and stochastic depth.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode<'a> {
    /// BatchNorm takes its running statistics; nothing is dropped.
    Evaluate,
    /// BatchNorm takes the batch's statistics, and its running ones follow.
    Train,
    /// The same with the batches of all ranks.
    TrainTogether(&'a SyncBatchNorm),
}

impl Mode<'_> {
    pub(crate) fn is_training(self) -> bool {
        !matches!(self, Self::Evaluate)
    }
}

/// The value of `op` for the values of its `inputs` and its own `state`, in the order of a state dict, made for its `takers`.
pub(crate) fn compute(
    op: &Op,
    inputs: &[&Tensor],
    state: &[Tensor],
    mode: Mode<'_>,
    takers: Takers,
    constants: &Constants,
) -> Tensor {
    let train = mode.is_training();
    match *op {
        Op::Input { .. } => unreachable!("the network's input is given, not computed"),
        Op::Learned { ref shape, .. } => state[0].reshape(batch_of_one(shape)),
        Op::RelativePositionBias { window, heads, .. } => {
            relative_position_bias(&state[0], &state[1].flatten(0, -1), window, heads)
        }
        Op::LogOffsets { .. } => state[0].flatten(1, 2),
        Op::PositionBiasFrom { window, heads } => {
            relative_position_bias(&inputs[0].squeeze_dim(0), &state[0], window, heads).sigmoid() * 16.0
        }
        Op::QueriesKeysValues { stored, .. } => queries_keys_values(inputs[0], state, stored),
        Op::RotaryPositions { heads, others, reference } => {
            let (tokens, head) = (inputs[0].size()[1] as usize, inputs[0].size()[2] as usize / (3 * heads));
            let rotation = constants.rotation([tokens, others, head, reference], inputs[0].device());
            turned(inputs[0], &rotation, heads)
        }
        Op::Conv2d(Conv2d { stride, padding, dilation, groups, .. }) => {
            let [stride, dilation, groups] = [stride, dilation, groups].map(|number| number as i64);
            let [padding, across] = padding.map(|pixels| pixels as i64);
            if dilation > 1 || across != padding {
                let (stride, dilation) = ([stride; 2], [dilation; 2]);
                return inputs[0].conv2d(&state[0], state.get(1), stride, [padding, across], dilation, groups);
            }
            Convolution { weight: &state[0], bias: state.get(1), stride, padding, groups }.forward(inputs[0])
        }
        Op::BatchNorm2d { epsilon, momentum, .. } => {
            let layer = batch_norm(state, momentum, epsilon);
            if let Mode::TrainTogether(sync) = mode {
                return sync.forward(&layer, inputs[0]).unwrap_or_else(|error| panic!("{error}"));
            }
            if train {
                refuse_single_values(inputs[0]);
            }
            let [weight, bias, mean, var] = [0, 1, 2, 3].map(|index| Some(&state[index]));
            inputs[0].batch_norm(weight, bias, mean, var, train, momentum, epsilon, true)
        }
        Op::LayerNorm { epsilon, .. } => layer_norm(state, epsilon).forward(inputs[0], takers),
        Op::ResponseNorm { epsilon, .. } => response_norm(inputs[0], &state[0], &state[1], epsilon),
        Op::Activation(activation) => activate(activation, inputs[0]),
        Op::PadSame { kernel, stride } => pad_same(inputs[0], kernel, stride),
        Op::MaxPool2d { kernel, stride, padding, ceil } => {
            let [side, stride, padding] = [kernel, stride, padding].map(|pixels| pixels as i64);
            MaxPool { side, stride, padding, ceil }.forward(inputs[0])
        }
        Op::AvgPool2d { kernel, stride, padding } => {
            let [kernel, stride, padding] = [kernel, stride, padding].map(|pixels| [pixels as i64; 2]);
            inputs[0].avg_pool2d(kernel, stride, padding, false, true, None::<i64>)
        }
        Op::AdaptiveAvgPool2d { output } => inputs[0].adaptive_avg_pool2d([output as i64, output as i64]),
        Op::Flatten => inputs[0].flatten(1, -1),
        Op::Linear { .. } => inputs[0].linear(&state[0], state.get(1)),
        Op::SwiGlu => {
            let halves = inputs[0].chunk(2, -1);
            halves[0].silu() * &halves[1]
        }
        Op::TokenMean { others } => {
            let tokens = inputs[0].size()[1];
            let counted = inputs[0].narrow(1, others as i64, tokens - others as i64);
            counted.mean_dim(1, false, None)
        }
        Op::Add => inputs[0] + inputs[1],
        Op::Mul => inputs[0] * inputs[1],
        Op::ResizeLike => resize_like(inputs[0], inputs[1]),
        Op::Concat => concat(inputs),
        Op::Slice { start, end } => inputs[0].narrow(1, start as i64, (end - start) as i64),
        Op::ChannelShuffle { groups } => channel_shuffle(inputs[0], groups),
        Op::Permute { order: [a, b, c] } => inputs[0].permute([0, 1 + a as i64, 1 + b as i64, 1 + c as i64]),
        Op::PixelsToTokens => inputs[0].flatten(2, 3).transpose(1, 2),
        Op::MergeNeighbours => merge_neighbours(inputs[0]),
        Op::Attention { heads } => attention(inputs[0], heads),
        Op::MultiQueryAttention { heads } => multi_query_attention([inputs[0], inputs[1], inputs[2]], heads),
        Op::PartitionWindows { window, shift } => partition_windows(&cut(inputs[0], window, shift), inputs[0]),
        Op::WindowAttention { heads, window, shift, divisor } => {
            let mask = constants.mask(&cut(inputs[2], window, shift), inputs[0]);
            let scaling = inputs.get(3).map_or(Scaling::Root(divisor), |scale| Scaling::Cosines(scale));
            window_attention(inputs[0], inputs[1], mask.as_ref(), scaling, heads)
        }
        Op::JoinWindows { window, shift } => join_windows(&cut(inputs[1], window, shift), inputs[0]),
        Op::PartitionGrid { side } => partition_grid(inputs[0], side as i64),
        Op::JoinGrid { side } => join_grid(inputs[0], inputs[1], side as i64),
        Op::Dropout { .. } if !train => inputs[0].shallow_clone(),
        Op::Dropout { probability } => rng::dropout(inputs[0], probability).unwrap_or_else(|error| panic!("{error}")),
        Op::StochasticDepth { probability } => stochastic_depth(inputs[0], probability, train),
        Op::PadShortcut { out_channels, stride } => pad_shortcut(inputs[0], out_channels, stride),
    }
}

/// BatchNorm in training and what is computed in one with it. None where torch-ext has no kernel for such tensors.
pub(crate) fn batch_norm_fused(
    input: &Tensor,
    fused: Fused<'_>,
    state: &[Tensor],
    momentum: f64,
    epsilon: f64,
) -> Option<Tensor> {
    if !BatchNorm::fuses(input, fused) {
        return None;
    }
    if fused.together.is_none() {
        refuse_single_values(input);
    }
    let value = batch_norm(state, momentum, epsilon).forward_fused(input, fused);
    Some(value.unwrap_or_else(|error| panic!("{error}")))
}

/// One value a channel has no variance: libtorch makes NaN of it, and keeps that in the running statistics.
fn refuse_single_values(input: &Tensor) {
    let values = input.numel() / input.size()[1].max(1) as usize;
    assert!(
        values > 1,
        "BatchNorm in training needs more than one value a channel, and sees images of {:?}: use a larger batch, fewer \
         micro-batches, or larger images",
        input.size()
    );
}

/// What an operation is that can be computed in one with the BatchNorm before it.
pub(crate) fn activation_of(op: &Op) -> Option<torch_ext::Activation> {
    let Op::Activation(activation) = op else { return None };
    match activation {
        Activation::Relu => Some(torch_ext::Activation::Relu),
        Activation::Relu6 => Some(torch_ext::Activation::Relu6),
        Activation::Silu => Some(torch_ext::Activation::Silu),
        Activation::HardSwish => Some(torch_ext::Activation::HardSwish),
        Activation::HardSigmoid | Activation::Sigmoid | Activation::Tanh | Activation::Gelu => None,
    }
}

fn batch_norm(state: &[Tensor], momentum: f64, epsilon: f64) -> BatchNorm<'_> {
    let [weight, bias, running_mean, running_var] = [0, 1, 2, 3].map(|index| &state[index]);
    BatchNorm { weight, bias, running_mean, running_var, momentum, epsilon }
}

pub(crate) fn layer_norm(state: &[Tensor], epsilon: f64) -> LayerNorm<'_> {
    LayerNorm { weight: &state[0], bias: &state[1], epsilon }
}

/// The value of a ReLU, a ReLU6 or a sum, written over the input at `place`: see [`architectures::Network::overwritten`].
pub(crate) fn compute_in_place(op: &Op, inputs: &[&Tensor], place: usize) -> Tensor {
    let mut overwritten = inputs[place].shallow_clone();
    match op {
        Op::Activation(Activation::Relu) => overwritten.relu_(),
        Op::Activation(Activation::Relu6) => overwritten.relu6_(),
        Op::Add => {
            let other = inputs[1 - place];
            // Under autocast the two may differ, and the sum has the larger type.
            if overwritten.kind() == other.kind() { overwritten.g_add_(other) } else { overwritten + other }
        }
        _ => unreachable!("{op:?} is never in place"),
    }
}

fn batch_of_one(shape: &Shape) -> Vec<i64> {
    std::iter::once(1).chain(shape.sides().iter().map(|&side| side as i64)).collect()
}

fn activate(activation: Activation, x: &Tensor) -> Tensor {
    match activation {
        Activation::Relu => x.relu(),
        Activation::Relu6 => x.relu6(),
        Activation::HardSwish => x.hardswish(),
        Activation::HardSigmoid => x.hardsigmoid(),
        Activation::Sigmoid => x.sigmoid(),
        Activation::Silu => x.silu(),
        Activation::Tanh => x.tanh(),
        Activation::Gelu => x.gelu("none"),
    }
}

/// N×H×W×C to the same.
fn response_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Tensor {
    let lengths = x.norm_scalaropt_dim(2, [1, 2], true);
    let shares = &lengths / (lengths.mean_dim(-1, true, None) + epsilon);
    x + bias.addcmul(weight, &(x * shares))
}

fn pad_same(x: &Tensor, kernel: usize, stride: usize) -> Tensor {
    let size = x.size();
    let [rows, columns] = [size[2], size[3]].map(|side| same_padding(side as usize, kernel, stride));
    let zeros = [columns[0], columns[1], rows[0], rows[1]].map(|pixels| pixels as i64);
    x.constant_pad_nd(zeros)
}

/// N×C×H×W to N×C×H′×W′ of `like`.
fn resize_like(x: &Tensor, like: &Tensor) -> Tensor {
    let size = like.size();
    x.upsample_bilinear2d([size[2], size[3]], false, None::<f64>, None::<f64>)
}

/// Parts with a batch of one (learned values) are repeated for every sample.
fn concat(parts: &[&Tensor]) -> Tensor {
    let whole = parts.iter().max_by_key(|part| part.size()[0]).expect("a concatenation has parts");
    let parts: Vec<_> = parts
        .iter()
        .map(|part| {
            let (length, batch) = (part.size()[1], part.size()[0]);
            // By example instead of by size: a trace then takes any batch.
            if batch == 1 && length <= whole.size()[1] && !std::ptr::eq(*part, *whole) {
                part.expand_as(&whole.narrow(1, 0, length))
            } else {
                part.shallow_clone()
            }
        })
        .collect();
    Tensor::cat(&parts, 1)
}

fn channel_shuffle(x: &Tensor, groups: usize) -> Tensor {
    let (groups, size) = (groups as i64, x.size());
    let [channels, height, width] = [size[1], size[2], size[3]];
    x.reshape([-1, groups, channels / groups, height, width]).transpose(1, 2).reshape([-1, channels, height, width])
}

/// N×H×W×C to N×H/2×W/2×4C: the pixels above left, below left, above right and below right.
fn merge_neighbours(x: &Tensor) -> Tensor {
    let size = x.size();
    let x = x.constant_pad_nd([0, 0, 0, size[2] % 2, 0, size[1] % 2]);
    let every_second = |y, x_start| x.slice(1, y, None, 2).slice(2, x_start, None, 2);
    Tensor::cat(&[every_second(0, 0), every_second(1, 0), every_second(0, 1), every_second(1, 1)], -1)
}

/// N×L×3C to N×L×C.
fn attention(qkv: &Tensor, heads: usize) -> Tensor {
    let (size, heads) = (qkv.size(), heads as i64);
    let [tokens, features] = [size[1], size[2] / 3];
    let qkv = qkv.reshape([-1, tokens, 3, heads, features / heads]).permute([2, 0, 3, 1, 4]);
    let [q, k, v] = [0, 1, 2].map(|index| qkv.get(index));
    let mixed = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, false, None, false);
    mixed.transpose(1, 2).reshape([-1, tokens, features])
}

/// N×C×H×W and twice N×C/heads×H′×W′ to N×C×H×W.
fn multi_query_attention([queries, keys, values]: [&Tensor; 3], heads: usize) -> Tensor {
    let (size, heads) = (queries.size(), heads as i64);
    let [channels, height, width] = [size[1], size[2], size[3]];
    let (head, pixels) = (channels / heads, height * width);
    // Queries of all heads, one after the other: they see the same keys.
    let q = queries.reshape([-1, heads, head, pixels]).transpose(2, 3).reshape([-1, 1, heads * pixels, head]);
    let [k, v] = [keys, values].map(|image| image.flatten(2, 3).transpose(1, 2).unsqueeze(1));
    let mixed = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, false, None, false);
    mixed.reshape([-1, heads, pixels, head]).transpose(2, 3).reshape([-1, channels, height, width])
}

/// `windows`² rows of `table`, as 1×heads×window²×window².
fn relative_position_bias(table: &Tensor, index: &Tensor, window: usize, heads: usize) -> Tensor {
    let tokens = (window * window) as i64;
    table.index_select(0, index).view([tokens, tokens, heads as i64]).permute([2, 0, 1]).unsqueeze(0)
}

/// A bias of queries, keys and values with zeros for the keys.
fn without_keys(bias: &Tensor) -> Tensor {
    let features = bias.size()[0] / 3;
    let [queries, values] = [0, 2].map(|part| bias.narrow(0, part * features, features));
    Tensor::cat(&[&queries, &queries.zeros_like(), &values], 0)
}

/// N×L×C to N×L×3C.
fn queries_keys_values(x: &Tensor, state: &[Tensor], stored: Projections) -> Tensor {
    match stored {
        Projections::Together => x.linear(&state[0], Some(&without_keys(&state[1]))),
        Projections::BiasesApart => {
            let [queries, values, weight] = [0, 1, 2].map(|index| &state[index]);
            x.linear(weight, Some(&Tensor::cat(&[queries, &queries.zeros_like(), values], 0)))
        }
        Projections::Apart => {
            let [queries, keys, values] = [(0, Some(1)), (2, None), (3, Some(4))]
                .map(|(weight, bias)| x.linear(&state[weight], bias.map(|bias: usize| &state[bias])));
            Tensor::cat(&[queries, keys, values], -1)
        }
    }
}

/// Queries and keys of N×L×3C turned; values as they are.
fn turned(qkv: &Tensor, Rotation { cosines, sines }: &Rotation, heads: usize) -> Tensor {
    let (size, heads) = (qkv.size(), heads as i64);
    let [tokens, features] = [size[1], size[2] / 3];
    let pairs = qkv.narrow(2, 0, 2 * features).reshape([-1, tokens, 2 * heads, features / heads / 2, 2]);
    let across = Tensor::stack(&[-pairs.select(-1, 1), pairs.select(-1, 0)], -1);
    let turned = (pairs * cosines + across * sines).to_kind(qkv.kind()).reshape([-1, tokens, 2 * features]);
    Tensor::cat(&[turned, qkv.narrow(2, 2 * features, features)], 2)
}

/// Vectors along the last axis, of length one.
fn normalized(x: &Tensor) -> Tensor {
    x / x.norm_scalaropt_dim(2, -1, true).clamp_min(1e-12)
}

/// What becomes of the products of queries and keys.
enum Scaling<'a> {
    /// They are divided by the root of this.
    Root(usize),
    /// They are cosines, times the exponential of this, 1×heads×1×1.
    Cosines(&'a Tensor),
}

/// N×windows×L×3C to N×windows×L×C, given a bias 1×heads×L×L and a mask windows×1×L×L.
fn window_attention(qkv: &Tensor, bias: &Tensor, mask: Option<&Tensor>, scaling: Scaling<'_>, heads: usize) -> Tensor {
    let (size, heads) = (qkv.size(), heads as i64);
    let [windows, tokens, features] = [size[1], size[2], size[3] / 3];
    let head = features / heads;
    let qkv = qkv.reshape([-1, windows, tokens, 3, heads, head]).permute([3, 0, 1, 4, 2, 5]);
    let [q, k, v] = [0, 1, 2].map(|index| qkv.get(index));
    let scores = match scaling {
        Scaling::Cosines(scale) => {
            normalized(&q).matmul(&normalized(&k).transpose(-2, -1)) * scale.clamp_max(100_f64.ln()).exp()
        }
        Scaling::Root(divisor) => (q * (divisor as f64).powf(-0.5)).matmul(&k.transpose(-2, -1)),
    };
    let scores = scores + bias;
    let scores = match mask {
        Some(mask) => scores + mask,
        None => scores,
    };
    scores.softmax(-1, None).matmul(&v).transpose(2, 3).reshape([-1, windows, tokens, features])
}

/// The cut of a grid N×H×W×C.
fn cut(grid: &Tensor, window: usize, shift: usize) -> WindowCut {
    let size = grid.size();
    WindowCut::of(size[1] as usize, size[2] as usize, window, shift)
}

/// N×H×W×C to N×windows×window²×C.
fn partition_windows(cut: &WindowCut, grid: &Tensor) -> Tensor {
    let ([below, right], channels) = (cut.padding().map(|side| side as i64), grid.size()[3]);
    let mut x = if below + right > 0 { grid.constant_pad_nd([0, 0, 0, right, 0, below]) } else { grid.shallow_clone() };
    if cut.is_shifted() {
        x = x.roll(cut.shift.map(|shift| -(shift as i64)), [1, 2]);
    }
    let (window, [rows, columns]) = (cut.window as i64, cut.windows.map(|count| count as i64));
    let x = x.reshape([-1, rows, window, columns, window, channels]).permute([0, 1, 3, 2, 4, 5]);
    x.reshape([-1, rows * columns, window * window, channels])
}

/// N×windows×window²×C to N×H×W×C.
fn join_windows(cut: &WindowCut, windows: &Tensor) -> Tensor {
    let (window, [rows, columns]) = (cut.window as i64, cut.windows.map(|count| count as i64));
    let channels = windows.size()[3];
    let x = windows.reshape([-1, rows, columns, window, window, channels]).permute([0, 1, 3, 2, 4, 5]);
    let mut x = x.reshape([-1, rows * window, columns * window, channels]);
    if cut.is_shifted() {
        x = x.roll(cut.shift.map(|shift| shift as i64), [1, 2]);
    }
    x.narrow(1, 0, cut.grid[0] as i64).narrow(2, 0, cut.grid[1] as i64)
}

/// N×H×W×C, cut into side×side cells, to N×places×side²×C.
fn partition_grid(grid: &Tensor, side: i64) -> Tensor {
    let size = grid.size();
    let (height, width, channels) = (size[1] / side, size[2] / side, size[3]);
    let cells = grid.reshape([-1, side, height, side, width, channels]).permute([0, 2, 4, 1, 3, 5]);
    cells.reshape([-1, height * width, side * side, channels])
}

/// N×places×side²×C to N×H×W×C, as large as `grid`.
fn join_grid(places: &Tensor, grid: &Tensor, side: i64) -> Tensor {
    let size = grid.size();
    let cells = places.reshape([-1, size[1] / side, size[2] / side, side, side, size[3]]).permute([0, 3, 1, 4, 2, 5]);
    cells.reshape([-1, size[1], size[2], size[3]])
}

/// What follows from the sizes of values alone, each made once for every size: making one costs more than
/// using it. And what is there before a trace begins is a constant of the trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constants {
    /// The masks of shifted windows, by the cut and the type of values.
    masks: Arc<Mutex<Vec<(WindowCut, Kind, Tensor)>>>,
    /// By the arguments of [`rotations`].
    rotations: Arc<Mutex<Vec<([usize; 4], Rotation)>>>,
}

/// Cosines and sines of angles, tokens×1×pairs×1, in single precision.
#[derive(Debug)]
struct Rotation {
    cosines: Tensor,
    sines: Tensor,
}

impl Rotation {
    fn shallow_clone(&self) -> Self {
        Self { cosines: self.cosines.shallow_clone(), sines: self.sines.shallow_clone() }
    }
}

impl Constants {
    /// Zero between tokens that were neighbours before the shift, -100 between the others: windows×1×L×L, in the type and
    /// on the device of `like`.
    fn mask(&self, cut: &WindowCut, like: &Tensor) -> Option<Tensor> {
        if !cut.is_shifted() {
            return None;
        }
        let mut known = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = like.kind();
        if let Some((_, _, mask)) = known.iter().find(|(other, other_kind, _)| (other, *other_kind) == (cut, kind)) {
            return Some(mask.shallow_clone());
        }
        let [windows, tokens] = [cut.windows[0] * cut.windows[1], cut.window * cut.window].map(|count| count as i64);
        let regions = Tensor::from_slice(&cut.regions()).view([windows, 1, tokens]);
        let apart = regions.unsqueeze(2).ne_tensor(&regions.unsqueeze(3));
        let mask = (apart.to_kind(kind) * -100.0).to_device(like.device());
        known.push((*cut, kind, mask.shallow_clone()));
        Some(mask)
    }

    /// Of the angles of [`rotations`] for these tokens, tokens of no patch, values of a head and reference.
    fn rotation(&self, sizes: [usize; 4], device: Device) -> Rotation {
        let mut known = self.rotations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rotation)) = known.iter().find(|(other, _)| *other == sizes) {
            return rotation.shallow_clone();
        }
        let [tokens, others, head, reference] = sizes;
        let angles = Tensor::from_slice(&rotations(tokens, others, head, reference));
        let angles = angles.view([tokens as i64, 1, head as i64 / 2, 1]).to_device(device);
        let rotation = Rotation { cosines: angles.cos(), sines: angles.sin() };
        known.push((sizes, rotation.shallow_clone()));
        rotation
    }
}

/// Drops whole samples, and scales the others up so that the mean stays.
fn stochastic_depth(x: &Tensor, probability: f64, train: bool) -> Tensor {
    if train { x * depth_noise(x, x, probability) } else { x.shallow_clone() }
}

/// What drops whole samples of `x`, and scales the others up: N×1×…, in the type and on the device of `like`.
fn depth_noise(x: &Tensor, like: &Tensor, probability: f64) -> Tensor {
    let kept = 1.0 - probability;
    let rows: Vec<_> = x.size().iter().enumerate().map(|(axis, &side)| if axis == 0 { side } else { 1 }).collect();
    rng::bernoulli(&rows, like, kept).unwrap_or_else(|error| panic!("{error}")) / kept
}

/// The sum of `residual` and the branch `x`, which a layer's `scale` and, in training, stochastic depth of this probability scale. None
/// where neither does.
pub(crate) fn scaled_sum(
    residual: &Tensor,
    x: &Tensor,
    scale: Option<&Tensor>,
    dropped: Option<f64>,
) -> Option<Tensor> {
    let factor = match (scale, dropped) {
        (None, None) => return None,
        (Some(scale), None) => scale.shallow_clone(),
        (None, Some(probability)) => depth_noise(x, x, probability),
        (Some(scale), Some(probability)) => scale * depth_noise(x, scale, probability),
    };
    Some(torch_ext::scaled_sum(residual, x, &factor).unwrap_or_else(|error| panic!("{error}")))
}

/// ResNet's option A: every `stride`-th pixel, and as many zero channels before as after. The pixels are taken as means over
/// one pixel: unlike a slice's, the gradient has channels last where the image has.
fn pad_shortcut(x: &Tensor, out_channels: usize, stride: usize) -> Tensor {
    let missing = out_channels as i64 - x.size()[1];
    let (before, stride) = (missing / 2, stride as i64);
    let strided = x.avg_pool2d([1, 1], [stride, stride], [0, 0], false, true, None::<i64>);
    strided.constant_pad_nd([0, 0, 0, 0, before, missing - before])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.contiguous().flatten(0, -1)).unwrap()
    }

    #[test]
    fn option_a_keeps_every_second_pixel_between_zero_channels() {
        let x = Tensor::arange(2 * 4 * 4, (Kind::Float, Device::Cpu)).view([1, 2, 4, 4]);
        let y = pad_shortcut(&x, 4, 2);
        assert_eq!(y.size(), [1, 4, 2, 2]);
        let expected = [0., 0., 0., 0., 0., 2., 8., 10., 16., 18., 24., 26., 0., 0., 0., 0.];
        assert_eq!(values(&y), expected);
    }

    #[test]
    fn windows_joined_are_the_grid_that_was_cut() {
        for (height, width, window, shift) in
            [(14, 14, 7, 0), (14, 14, 7, 3), (9, 16, 7, 3), (5, 7, 7, 3), (7, 15, 7, 3)]
        {
            let x = Tensor::randn([2, height, width, 3], (Kind::Float, Device::Cpu));
            let cut = cut(&x, window, shift);
            let windows = partition_windows(&cut, &x);
            assert_eq!(windows.size()[2..], [49, 3]);
            assert!(join_windows(&cut, &windows).equal(&x), "{height}×{width}");
        }
    }

    #[test]
    fn only_shifted_windows_at_the_edge_are_masked() {
        let (grid, constants) = (Tensor::zeros([1, 8, 8, 1], (Kind::Float, Device::Cpu)), Constants::default());
        assert!(constants.mask(&cut(&grid, 4, 0), &grid).is_none());
        assert!(constants.mask(&cut(&grid, 8, 2), &grid).is_none());
        let mask = constants.mask(&cut(&grid, 4, 2), &grid).unwrap();
        assert_eq!(mask.size(), [4, 1, 16, 16]);
        let masked: Vec<_> = (0..4).map(|window| mask.get(window).ne(0.0).sum(Kind::Int64).int64_value(&[])).collect();
        // None inside; two halves of eight tokens; four quarters of four.
        assert_eq!(masked, [0, 128, 128, 192]);
    }

    #[test]
    fn a_shuffle_interleaves_the_groups() {
        let x = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([1, 6, 1, 1]);
        assert_eq!(values(&channel_shuffle(&x, 2)), [0., 3., 1., 4., 2., 5.]);
    }

    #[test]
    fn stochastic_depth_drops_samples_and_keeps_the_mean() {
        tch::manual_seed(1);
        let x = Tensor::ones([4000, 2, 1], (Kind::Float, Device::Cpu));
        let y = stochastic_depth(&x, 0.2, true);
        assert!((y.mean(Kind::Float).double_value(&[]) - 1.0).abs() < 0.03);
        assert!(y.narrow(1, 0, 1).equal(&y.narrow(1, 1, 1)), "a sample is dropped as a whole");
        assert!(stochastic_depth(&x, 0.2, false).equal(&x));
    }
}
