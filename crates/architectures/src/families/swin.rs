//! Swin transformer (Liu et al., 2021, arXiv:2103.14030): attention inside windows that shift from layer to layer.

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::{Activation, Conv2d, Draws};

const EPSILON: f64 = 1e-5;
const WINDOW: usize = 7;

const SCHEME: Scheme = Scheme {
    conv: Draws { weight: Draw::PytorchDefault, bias: Draw::PytorchDefault },
    linear: Draws { weight: Draw::Normal(0.02), bias: Draw::Constant(0.0) },
};

/// Depths of the four stages; channels and heads of the first, which double from stage to stage; the stochastic depth
/// of the last block.
pub(crate) fn swin(
    name: &str,
    depths: [usize; 4],
    channels: usize,
    heads: usize,
    stochastic_depth: f64,
    classes: usize,
) -> Network {
    let blocks: usize = depths.iter().sum();
    let mut net = Builder::new(name, SCHEME);
    let x = net.input(3);
    let x = net.conv("features.0.0", x, Conv2d::to(channels, 4).stride(4).padding(0).bias());
    let x = net.channels_last(x);
    let mut x = net.layer_norm("features.0.2", x, EPSILON);
    let mut block = 0;
    for (stage, depth) in depths.into_iter().enumerate() {
        if stage > 0 {
            x = merge_patches(&mut net, &format!("features.{}", 2 * stage), x);
        }
        for index in 0..depth {
            let name = format!("features.{}.{index}", 2 * stage + 1);
            let shift = if index.is_multiple_of(2) { 0 } else { WINDOW / 2 };
            let probability = stochastic_depth * block as f64 / (blocks - 1) as f64;
            x = transformer_block(&mut net, &name, x, heads << stage, shift, probability);
            block += 1;
        }
    }
    let x = net.layer_norm("norm", x, EPSILON);
    let x = net.channels_first(x);
    let x = net.global_avg_pool(x);
    net.linear("head", x, classes);
    net.finish()
}

fn merge_patches(net: &mut Builder, name: &str, x: NodeId) -> NodeId {
    let x = net.merge_neighbours(x);
    let norm = net.layer_norm(&format!("{name}.norm"), x, EPSILON);
    let half = net.width(norm) / 2;
    let reduction = net.linear_drawn(&format!("{name}.reduction"), norm, half, false, SCHEME.linear);
    net.list_before(reduction, norm);
    reduction
}

fn transformer_block(
    net: &mut Builder,
    name: &str,
    x: NodeId,
    heads: usize,
    shift: usize,
    stochastic_depth: f64,
) -> NodeId {
    let layer = |suffix: &str| format!("{name}.{suffix}");
    let channels = net.width(x);
    let y = net.layer_norm(&layer("norm1"), x, EPSILON);
    let y = net.partition_windows(y, WINDOW, shift);
    let bias = net.relative_position_bias(&layer("attn"), WINDOW, heads, Draw::Normal(0.02));
    let y = net.linear(&layer("attn.qkv"), y, 3 * channels);
    let y = net.window_attention(y, bias, x, WINDOW, shift);
    let y = net.linear(&layer("attn.proj"), y, channels);
    let y = net.join_windows(y, x, WINDOW, shift);
    let y = net.stochastic_depth(y, stochastic_depth);
    let x = net.add(x, y);
    let y = net.layer_norm(&layer("norm2"), x, EPSILON);
    let y = net.linear(&layer("mlp.0"), y, 4 * channels);
    let y = net.activation(y, Activation::Gelu);
    let y = net.linear(&layer("mlp.3"), y, channels);
    let y = net.stochastic_depth(y, stochastic_depth);
    net.add(x, y)
}
