//! MaxViT (Tu et al., 2022, arXiv:2204.01697): MobileNet's blocks, then attention inside windows, then between the pixels that lie at the same place of
//! a coarse grid's cells.

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::Activation::{Gelu, Sigmoid, Silu, Tanh};
use crate::op::{Conv2d, Draws};

const SCHEME: Scheme = Scheme {
    conv: Draws { weight: Draw::Normal(0.02), bias: Draw::Constant(0.0) },
    linear: Draws { weight: Draw::Normal(0.02), bias: Draw::Constant(0.0) },
};

const EPSILON: f64 = 1e-5;
/// Side of a window, and of the coarse grid.
const SIDE: usize = 7;
/// Channels of an attention head.
const HEAD: usize = 32;

/// Channels of the stem; channels and layers of the four blocks; the stochastic depth of the last layer.
pub(crate) fn maxvit(
    name: &str,
    stem: usize,
    blocks: [(usize, usize); 4],
    stochastic_depth: f64,
    classes: usize,
) -> Network {
    let all: usize = blocks.iter().map(|(_, layers)| layers).sum();
    let mut net = Builder::new(name, SCHEME);
    net.set_batch_norm(1e-3, 0.01);
    let x = net.input(3);
    let x = net.conv_norm("stem.0", x, Conv2d::to(stem, 3).stride(2), Some(Gelu));
    let mut x = net.conv("stem.1.0", x, Conv2d::to(stem, 3).bias());
    let mut before = 0;
    for (block, (channels, layers)) in blocks.into_iter().enumerate() {
        for layer in 0..layers {
            let name = format!("blocks.{block}.layers.{layer}.layers");
            let probability = stochastic_depth * before as f64 / (all - 1) as f64;
            x = convolutions(&mut net, &format!("{name}.MBconv"), x, channels, layer == 0, probability);
            x = net.channels_last(x);
            for (kind, is_grid) in [("window_attention", false), ("grid_attention", true)] {
                x = attention(&mut net, &format!("{name}.{kind}"), x, is_grid, probability);
            }
            x = net.channels_first(x);
            before += 1;
        }
    }
    let features = net.width(x);
    let x = net.global_avg_pool(x);
    let x = net.layer_norm("classifier.2", x, EPSILON);
    let x = net.linear("classifier.3", x, features);
    let x = net.activation(x, Tanh);
    net.linear_drawn("classifier.5", x, classes, false, SCHEME.linear);
    net.finish()
}

/// A block of MobileNet with its norm before it, and a way past it.
fn convolutions(
    net: &mut Builder,
    name: &str,
    x: NodeId,
    channels: usize,
    halves: bool,
    stochastic_depth: f64,
) -> NodeId {
    let layer = |suffix: &str| format!("{name}.layers.{suffix}");
    let (stride, hidden) = (if halves { 2 } else { 1 }, 4 * channels);
    let past = match (halves, net.width(x) == channels) {
        (true, _) => {
            let pooled = net.halve(x, 3);
            net.conv(&format!("{name}.proj.1"), pooled, Conv2d::to(channels, 1).bias())
        }
        (false, true) => x,
        (false, false) => net.conv(&format!("{name}.proj.0"), x, Conv2d::to(channels, 1).bias()),
    };
    let y = net.batch_norm(&layer("pre_norm"), x);
    let y = net.conv_norm(&layer("conv_a"), y, Conv2d::to(hidden, 1), Some(Gelu));
    let y = net.conv_norm(&layer("conv_b"), y, Conv2d::to(hidden, 3).stride(stride).groups(hidden), Some(Gelu));
    let y = net.squeeze_excitation(&layer("squeeze_excitation"), y, channels / 4, Silu, Sigmoid);
    let y = net.conv(&layer("conv_c"), y, Conv2d::to(channels, 1).bias());
    let y = net.stochastic_depth(y, stochastic_depth);
    net.add(past, y)
}

/// A transformer's block inside windows of `grid`, or between places of a coarse grid.
fn attention(net: &mut Builder, name: &str, grid: NodeId, is_grid: bool, stochastic_depth: f64) -> NodeId {
    let (attn, mlp) =
        (|suffix: &str| format!("{name}.attn_layer.{suffix}"), |layer: u8| format!("{name}.mlp_layer.{layer}"));
    let channels = net.width(grid);
    let x = if is_grid { net.partition_grid(grid, SIDE) } else { net.partition_windows(grid, SIDE, 0) };
    let y = net.layer_norm(&attn("0"), x, EPSILON);
    let bias = net.relative_position_bias(&attn("1"), SIDE, channels / HEAD, true, Draw::Normal(0.02));
    let y = net.linear(&attn("1.to_qkv"), y, 3 * channels);
    // By all channels, not by those of a head.
    let y = net.window_attention([y, bias, grid], SIDE, 0, channels);
    let y = net.linear(&attn("1.merge"), y, channels);
    let y = net.stochastic_depth(y, stochastic_depth);
    let x = net.add(x, y);
    let y = net.layer_norm(&mlp(0), x, EPSILON);
    let y = net.linear(&mlp(1), y, 4 * channels);
    let y = net.activation(y, Gelu);
    let y = net.linear(&mlp(3), y, channels);
    let y = net.stochastic_depth(y, stochastic_depth);
    let x = net.add(x, y);
    if is_grid { net.join_grid(x, grid, SIDE) } else { net.join_windows(x, grid, SIDE, 0) }
}
