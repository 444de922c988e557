//! Swin transformer (Liu et al., 2021, arXiv:2103.14030): attention inside windows that shift from layer to layer. And Swin V2 (Liu et al.,
//! 2022, arXiv:2111.09883): attention by cosines, a position bias that is computed from offsets, norms behind what they were before.

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::{Activation, Conv2d, Draws, Projections};

const EPSILON: f64 = 1e-5;
const SCHEME: Scheme = Scheme {
    conv: Draws { weight: Draw::PytorchDefault, bias: Draw::PytorchDefault },
    linear: Draws { weight: Draw::Normal(0.02), bias: Draw::Constant(0.0) },
};

/// What V2 does otherwise.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Version {
    One,
    Two,
}

impl Version {
    /// Side of a window, in tokens.
    fn window(self) -> usize {
        match self {
            Self::One => 7,
            Self::Two => 8,
        }
    }
}

/// Depths of the four stages; channels and heads of the first, which double from stage to stage; the stochastic depth
/// of the last block.
pub(crate) fn swin(
    name: &str,
    version: Version,
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
            x = merge_patches(&mut net, &format!("features.{}", 2 * stage), version, x);
        }
        for index in 0..depth {
            let name = format!("features.{}.{index}", 2 * stage + 1);
            let shift = if index.is_multiple_of(2) { 0 } else { version.window() / 2 };
            let probability = stochastic_depth * block as f64 / (blocks - 1) as f64;
            x = match version {
                Version::One => transformer_block(&mut net, &name, x, heads << stage, shift, probability),
                Version::Two => transformer_block_v2(&mut net, &name, x, heads << stage, shift, probability),
            };
            block += 1;
        }
    }
    let x = net.layer_norm("norm", x, EPSILON);
    let x = net.channels_first(x);
    let x = net.global_avg_pool(x);
    net.linear("head", x, classes);
    net.finish()
}

fn merge_patches(net: &mut Builder, name: &str, version: Version, x: NodeId) -> NodeId {
    let half = 2 * net.width(x);
    let x = net.merge_neighbours(x);
    if version == Version::Two {
        let reduction = net.linear_drawn(&format!("{name}.reduction"), x, half, false, SCHEME.linear);
        return net.layer_norm(&format!("{name}.norm"), reduction, EPSILON);
    }
    let norm = net.layer_norm(&format!("{name}.norm"), x, EPSILON);
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
    let (channels, window) = (net.width(x), Version::One.window());
    let y = net.layer_norm(&layer("norm1"), x, EPSILON);
    let y = net.partition_windows(y, window, shift);
    let bias = net.relative_position_bias(&layer("attn"), window, heads, false, Draw::Normal(0.02));
    let y = net.linear(&layer("attn.qkv"), y, 3 * channels);
    let y = net.window_attention([y, bias, x], window, shift, channels / heads);
    let y = net.linear(&layer("attn.proj"), y, channels);
    let y = net.join_windows(y, x, window, shift);
    let y = net.stochastic_depth(y, stochastic_depth);
    let x = net.add(x, y);
    let y = net.layer_norm(&layer("norm2"), x, EPSILON);
    let y = net.linear(&layer("mlp.0"), y, 4 * channels);
    let y = net.activation(y, Activation::Gelu);
    let y = net.linear(&layer("mlp.3"), y, channels);
    let y = net.stochastic_depth(y, stochastic_depth);
    net.add(x, y)
}

fn transformer_block_v2(
    net: &mut Builder,
    name: &str,
    x: NodeId,
    heads: usize,
    shift: usize,
    stochastic_depth: f64,
) -> NodeId {
    let layer = |suffix: &str| format!("{name}.{suffix}");
    let (channels, window) = (net.width(x), Version::Two.window());
    // Times ten at first.
    let scale = net.learned(&layer("attn.logit_scale"), [heads, 1, 1], 0, Draw::Constant(10_f64.ln()));
    let offsets = net.log_offsets(&layer("attn"), window);
    let hidden = net.linear(&layer("attn.cpb_mlp.0"), offsets, 512);
    let table = net.relu(hidden);
    let table = net.linear_drawn(&layer("attn.cpb_mlp.2"), table, heads, false, SCHEME.linear);
    let bias = net.position_bias_from(&layer("attn"), table, window);
    let y = net.partition_windows(x, window, shift);
    let qkv = net.queries_keys_values(&layer("attn.qkv"), y, Projections::Together);
    let y = net.cosine_window_attention([qkv, bias, x, scale], window, shift);
    let proj = net.linear(&layer("attn.proj"), y, channels);
    let y = net.join_windows(proj, x, window, shift);
    for listed in [bias, qkv, proj] {
        net.list_before(listed, hidden);
    }
    let norm = net.layer_norm(&layer("norm1"), y, EPSILON);
    net.list_before(norm, scale);
    let y = net.stochastic_depth(norm, stochastic_depth);
    let x = net.add(x, y);
    let hidden = net.linear(&layer("mlp.0"), x, 4 * channels);
    let y = net.activation(hidden, Activation::Gelu);
    let y = net.linear(&layer("mlp.3"), y, channels);
    let norm = net.layer_norm(&layer("norm2"), y, EPSILON);
    net.list_before(norm, hidden);
    let y = net.stochastic_depth(norm, stochastic_depth);
    net.add(x, y)
}
