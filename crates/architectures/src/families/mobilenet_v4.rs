//! MobileNetV4 (Qin et al., 2024, arXiv:2404.10518) as timm has it: inverted residuals with a depthwise convolution before they widen, or inside,
//! or both, or none; the hybrid has attention between them, whose heads share their keys and values.

use super::efficientnet::SCHEME;
use super::round_channels;
use crate::builder::Builder;
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::{Conv2d, Draws};

/// A stage, which halves the image.
pub(crate) enum Stage {
    /// A 3×3 and a 1×1 convolution to so many channels.
    Convolutions([usize; 2]),
    /// A 3×3 convolution to four times the channels, and a 1×1 one to so many.
    Fused(usize),
    /// Inverted residuals of so many channels.
    Inverted(usize, &'static [Inverted]),
    /// The same with [attention](ATTENTIONS), whose keys and values are of every so many pixels along each axis.
    Attentive(usize, usize, &'static [Inverted]),
}

/// Inverted residuals: the sides of the depthwise kernels before they widen and inside, 0 where there is none; how much they widen; how many
/// there are. The first of a stage has a kernel inside, which takes every second pixel.
type Inverted = (usize, usize, usize, usize);

/// Channels of the first convolution, and the stages.
pub(crate) type Size = (usize, [Stage; 4]);

/// Before so many of a stage's last blocks there is attention.
const ATTENTIONS: usize = 4;
const HEADS: usize = 4;
/// Values of an attention head.
const HEAD: usize = 64;
/// What a branch is multiplied by at first, channel by channel, in a network with attention.
const LAYER_SCALE: f64 = 1e-5;

#[rustfmt::skip] // a table
pub(crate) const SMALL: &Size = &(32, [
    Stage::Convolutions([32, 32]),
    Stage::Convolutions([96, 64]),
    Stage::Inverted(96, &[(5, 5, 3, 1), (0, 3, 2, 4), (3, 0, 4, 1)]),
    Stage::Inverted(128, &[(3, 3, 6, 1), (5, 5, 4, 1), (0, 5, 4, 1), (0, 5, 3, 1), (0, 3, 4, 2)]),
]);
#[rustfmt::skip] // a table
pub(crate) const MEDIUM: &Size = &(32, [
    Stage::Fused(48),
    Stage::Inverted(80, &[(3, 5, 4, 1), (3, 3, 2, 1)]),
    Stage::Inverted(160, &[(3, 5, 6, 1), (3, 3, 4, 2), (3, 5, 4, 1), (3, 3, 4, 1), (3, 0, 4, 1), (0, 0, 2, 1), (3, 0, 4, 1)]),
    Stage::Inverted(256, &[(5, 5, 6, 1), (5, 5, 4, 1), (3, 5, 4, 2), (0, 0, 4, 1), (3, 0, 4, 1), (3, 5, 2, 1), (5, 5, 4, 1), (0, 0, 4, 2), (5, 0, 2, 1)]),
]);
#[rustfmt::skip] // a table
pub(crate) const LARGE: &Size = &(24, [
    Stage::Fused(48),
    Stage::Inverted(96, &[(3, 5, 4, 1), (3, 3, 4, 1)]),
    Stage::Inverted(192, &[(3, 5, 4, 1), (3, 3, 4, 3), (3, 5, 4, 1), (5, 3, 4, 5), (3, 0, 4, 1)]),
    Stage::Inverted(512, &[(5, 5, 4, 4), (5, 0, 4, 1), (5, 3, 4, 1), (5, 0, 4, 2), (5, 3, 4, 1), (5, 5, 4, 1), (5, 0, 4, 3)]),
]);

#[rustfmt::skip] // a table
pub(crate) const HYBRID_MEDIUM: &Size = &(32, [
    Stage::Fused(48),
    Stage::Inverted(80, &[(3, 5, 4, 1), (3, 3, 2, 1)]),
    Stage::Attentive(160, 2, &[(3, 5, 6, 1), (0, 0, 2, 1), (3, 3, 4, 1), (3, 5, 4, 1), (3, 3, 4, 1), (3, 0, 4, 1), (3, 3, 4, 1), (3, 0, 4, 1)]),
    Stage::Attentive(256, 1, &[(5, 5, 6, 1), (5, 5, 4, 1), (3, 5, 4, 2), (0, 0, 2, 1), (3, 5, 2, 1), (0, 0, 2, 1), (0, 0, 4, 1), (3, 0, 4, 1), (5, 5, 4, 1), (5, 0, 4, 2)]),
]);

/// The same as Kaiming-normal by the fan-out of one group.
const DEPTHWISE: Draws = Draws { weight: Draw::KaimingFanIn, bias: Draw::Constant(0.0) };
const XAVIER: Draws = Draws { weight: Draw::XavierUniform, bias: Draw::Constant(0.0) };

pub(crate) fn mobilenet_v4(name: &str, (stem, stages): &Size, classes: usize) -> Network {
    let is_hybrid = stages.iter().any(|stage| matches!(stage, Stage::Attentive(..)));
    let mut net = Builder::new(name, SCHEME);
    let x = net.input(3);
    let mut x = conv_norm(&mut net, ["conv_stem", "bn1"], x, Conv2d::to(*stem, 3).stride(2), true);
    for (number, stage) in stages.iter().enumerate() {
        let block = |index: usize| format!("blocks.{number}.{index}");
        x = match *stage {
            Stage::Convolutions([first, second]) => {
                x = convolution(&mut net, &block(0), x, Conv2d::to(first, 3).stride(2));
                convolution(&mut net, &block(1), x, Conv2d::to(second, 1))
            }
            Stage::Fused(channels) => {
                let layer = |suffix: &str| format!("{}.{suffix}", block(0));
                let hidden = 4 * net.width(x);
                x = conv_norm(&mut net, [&layer("conv_exp"), &layer("bn1")], x, Conv2d::to(hidden, 3).stride(2), true);
                conv_norm(&mut net, [&layer("conv_pwl"), &layer("bn2")], x, Conv2d::to(channels, 1), false)
            }
            Stage::Inverted(channels, blocks) | Stage::Attentive(channels, _, blocks) => {
                let all: Vec<_> = blocks.iter().flat_map(|&block| std::iter::repeat_n(block, block.3)).collect();
                let mut names = (0..).map(block);
                let mut name = || names.next().expect("numbers do not end");
                for (place, &(before, inside, expansion, _)) in all.iter().enumerate() {
                    if let Stage::Attentive(_, step, _) = *stage
                        && all.len() - place <= ATTENTIONS
                    {
                        x = attention(&mut net, &name(), x, step);
                    }
                    let stride = if place == 0 { 2 } else { 1 };
                    let sizes = [before, inside, expansion, stride, channels];
                    x = inverted_residual(&mut net, &name(), x, sizes, is_hybrid);
                }
                x
            }
        };
    }
    let x = convolution(&mut net, "blocks.4.0", x, Conv2d::to(960, 1));
    let x = net.adaptive_avg_pool(x, 1);
    let x = conv_norm(&mut net, ["conv_head", "norm_head"], x, Conv2d::to(1280, 1), true);
    let x = net.flatten(x);
    net.linear("classifier", x, classes);
    net.finish()
}

/// A convolution and BatchNorm of these names; with ReLU or not.
fn conv_norm(net: &mut Builder, [conv, norm]: [&str; 2], x: NodeId, layer: Conv2d, rectified: bool) -> NodeId {
    let draws = if layer.groups > 1 { DEPTHWISE } else { SCHEME.conv };
    let x = net.conv_drawn(conv, x, layer, draws);
    let x = net.batch_norm(norm, x);
    if rectified { net.relu(x) } else { x }
}

/// A block of one convolution.
fn convolution(net: &mut Builder, name: &str, x: NodeId, layer: Conv2d) -> NodeId {
    conv_norm(net, [&format!("{name}.conv"), &format!("{name}.bn1")], x, layer, true)
}

fn inverted_residual(
    net: &mut Builder,
    name: &str,
    x: NodeId,
    [before, inside, expansion, stride, channels]: [usize; 5],
    is_scaled: bool,
) -> NodeId {
    let layer = |net: &mut Builder, part: &str, y: NodeId, conv: Conv2d, rectified: bool| {
        conv_norm(net, [&format!("{name}.{part}.conv"), &format!("{name}.{part}.bn")], y, conv, rectified)
    };
    let width = net.width(x);
    let hidden = round_channels((width * expansion) as f64);
    let mut y = x;
    if before > 0 {
        y = layer(net, "dw_start", y, Conv2d::to(width, before).groups(width), false);
    }
    y = layer(net, "pw_exp", y, Conv2d::to(hidden, 1), true);
    if inside > 0 {
        y = layer(net, "dw_mid", y, Conv2d::to(hidden, inside).stride(stride).groups(hidden), true);
    }
    y = layer(net, "pw_proj", y, Conv2d::to(channels, 1), false);
    if is_scaled {
        y = scaled(net, name, y);
    }
    if stride == 1 && width == channels { net.add(y, x) } else { y }
}

/// Attention between all pixels and every `step`-th of each axis.
fn attention(net: &mut Builder, name: &str, x: NodeId, step: usize) -> NodeId {
    let layer = |suffix: &str| format!("{name}.attn.{suffix}");
    let channels = net.width(x);
    let norm = net.batch_norm(&format!("{name}.norm"), x);
    let queries = net.conv_drawn(&layer("query.proj"), norm, Conv2d::to(HEADS * HEAD, 1), XAVIER);
    let [keys, values] = ["key", "value"].map(|part| {
        let mut y = norm;
        if step > 1 {
            let conv = Conv2d::to(channels, 3).stride(step).groups(channels);
            y = net.conv_drawn(&layer(&format!("{part}.down_conv")), y, conv, XAVIER);
            y = net.batch_norm(&layer(&format!("{part}.norm")), y);
        }
        net.conv_drawn(&layer(&format!("{part}.proj")), y, Conv2d::to(HEAD, 1), XAVIER)
    });
    let y = net.multi_query_attention([queries, keys, values], HEADS);
    let y = net.conv_drawn(&layer("output.proj"), y, Conv2d::to(channels, 1), XAVIER);
    let y = scaled(net, name, y);
    net.add(y, x)
}

/// A branch with a learned factor for each channel.
fn scaled(net: &mut Builder, name: &str, y: NodeId) -> NodeId {
    let scale = net.learned_channels(&format!("{name}.layer_scale.gamma"), net.width(y), Draw::Constant(LAYER_SCALE));
    net.mul(y, scale)
}
