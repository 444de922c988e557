//! EVA-02 (Fang et al., 2023, arXiv:2303.11331) as timm has it: a vision transformer whose queries and keys turn with the place of their token,
//! and whose layers between attentions have gates.

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::{Activation, Conv2d, Draws, Projections};

const EPSILON: f64 = 1e-6;
const PATCH: usize = 14;
/// Patches on a side of the images that it was first trained on, 224×224 pixels.
const REFERENCE: usize = 16;
const LAYERS: usize = 12;
/// Values of an attention head.
const HEAD: usize = 64;
const ZERO: Draw = Draw::Constant(0.0);
const STD: f64 = 0.02;

/// One size of it.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    features: usize,
    /// Whether matrices are apart that the small ones have in one, and gated values are normalized.
    is_large: bool,
}

pub(crate) const TINY: Size = Size { features: 192, is_large: false };
pub(crate) const SMALL: Size = Size { features: 384, is_large: false };
pub(crate) const BASE: Size = Size { features: 768, is_large: true };

/// The position embedding is for images of `image_size`×`image_size` pixels.
pub(crate) fn eva02(name: &str, size: Size, image_size: usize, classes: usize) -> Network {
    let mut net = Builder::new(name, Scheme::of(Draw::Normal(STD), ZERO));
    let images = net.input(3);
    let class_token = net.learned("cls_token", [1, size.features], 1, Draw::Normal(STD));
    let tokens = (image_size / PATCH).pow(2) + 1;
    let positions = net.learned("pos_embed", [tokens, size.features], 1, Draw::Normal(STD));
    let conv = Conv2d::to(size.features, PATCH).stride(PATCH).padding(0).bias();
    let x = net.conv_drawn("patch_embed.proj", images, conv, Scheme::PYTORCH.conv);
    let x = net.pixels_to_tokens(x);
    let x = net.concat_tokens(&[class_token, x]);
    let mut x = net.add(x, positions);
    for index in 0..LAYERS {
        x = encoder_layer(&mut net, index, size, x);
    }
    let x = net.token_mean(x, 1);
    let x = net.layer_norm("fc_norm", x, EPSILON);
    let head = Draws { weight: Draw::Normal(STD / 1000.0), bias: ZERO };
    net.linear_drawn("head", x, classes, true, head);
    net.finish()
}

fn encoder_layer(net: &mut Builder, index: usize, size: Size, x: NodeId) -> NodeId {
    let layer = |suffix: &str| format!("blocks.{index}.{suffix}");
    // What is added to the sum of the branches before is drawn the smaller the deeper it lies.
    let last = Draws { weight: Draw::Normal(STD / (2.0 * (index + 1) as f64).sqrt()), bias: ZERO };
    let (heads, hidden) = (size.features / HEAD, size.features * 8 / 3);
    let y = net.layer_norm(&layer("norm1"), x, EPSILON);
    let stored = if size.is_large { Projections::Apart } else { Projections::BiasesApart };
    let y = net.queries_keys_values(&layer("attn"), y, stored);
    let y = net.rotary_positions(y, heads, 1, REFERENCE);
    let y = net.attention(y, heads);
    let y = net.linear_drawn(&layer("attn.proj"), y, size.features, true, last);
    let x = net.add(x, y);
    let y = net.layer_norm(&layer("norm2"), x, EPSILON);
    let y = if size.is_large {
        let gate = net.linear(&layer("mlp.fc1_g"), y, hidden);
        let gate = net.activation(gate, Activation::Silu);
        let value = net.linear(&layer("mlp.fc1_x"), y, hidden);
        let y = net.mul(gate, value);
        net.layer_norm(&layer("mlp.norm"), y, EPSILON)
    } else {
        let y = net.linear(&layer("mlp.fc1"), y, 2 * hidden);
        net.swiglu(y)
    };
    let y = net.linear_drawn(&layer("mlp.fc2"), y, size.features, true, last);
    net.add(x, y)
}
