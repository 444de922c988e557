//! Vision transformer (Dosovitskiy et al., 2020, arXiv:2010.11929).

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::{Activation, Conv2d, Draws};

const EPSILON: f64 = 1e-6;
const IMAGE_SIZE: usize = 224;

/// One size of it.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    layers: usize,
    heads: usize,
    features: usize,
}

/// Table 1 of the paper; the small ones are of Touvron et al., 2020 (arXiv:2012.12877).
pub(crate) const TINY: Size = Size { layers: 12, heads: 3, features: 192 };
pub(crate) const SMALL: Size = Size { layers: 12, heads: 6, features: 384 };
pub(crate) const BASE: Size = Size { layers: 12, heads: 12, features: 768 };
pub(crate) const LARGE: Size = Size { layers: 24, heads: 16, features: 1024 };
pub(crate) const HUGE: Size = Size { layers: 32, heads: 16, features: 1280 };

const ZERO: Draw = Draw::Constant(0.0);
/// The two linear layers between attentions.
const MLP: Draws = Draws { weight: Draw::XavierUniform, bias: Draw::Normal(1e-6) };

/// Patches of `patch`×`patch` pixels. The position embedding is for images of 224×224 pixels.
pub(crate) fn vit(name: &str, size: Size, patch: usize, classes: usize) -> Network {
    let Size { layers, heads, features } = size;
    let mut net = Builder::new(name, Scheme::of(ZERO, ZERO));
    let images = net.input(3);
    let class_token = net.learned("class_token", [1, features], 1, ZERO);
    let draws = Draws { weight: Draw::LecunNormal, bias: ZERO };
    let conv = Conv2d::to(features, patch).stride(patch).padding(0).bias();
    let x = net.conv_drawn("conv_proj", images, conv, draws);
    let x = net.pixels_to_tokens(x);
    let x = net.concat_tokens(&[class_token, x]);
    let tokens = (IMAGE_SIZE / patch).pow(2) + 1;
    let positions = net.learned("encoder.pos_embedding", [tokens, features], 1, Draw::Normal(0.02));
    let mut x = net.add(x, positions);
    for index in 0..layers {
        x = encoder_layer(&mut net, &format!("encoder.layers.encoder_layer_{index}"), x, heads);
    }
    let x = net.layer_norm("encoder.ln", x, EPSILON);
    let x = net.token(x, 0);
    net.linear("heads.head", x, classes);
    net.finish()
}

fn encoder_layer(net: &mut Builder, name: &str, x: NodeId, heads: usize) -> NodeId {
    let features = net.width(x);
    let layer = |suffix: &str| format!("{name}.{suffix}");
    let y = net.layer_norm(&layer("ln_1"), x, EPSILON);
    let in_proj = Draws { weight: Draw::XavierUniform, bias: ZERO };
    let y = net.linear_drawn(&layer("self_attention.in_proj_"), y, 3 * features, true, in_proj);
    let y = net.attention(y, heads);
    let out_proj = Draws { weight: Draw::PytorchDefault, bias: ZERO };
    let y = net.linear_drawn(&layer("self_attention.out_proj"), y, features, true, out_proj);
    let x = net.add(y, x);
    let y = net.layer_norm(&layer("ln_2"), x, EPSILON);
    let y = net.linear_drawn(&layer("mlp.0"), y, 4 * features, true, MLP);
    let y = net.activation(y, Activation::Gelu);
    let y = net.linear_drawn(&layer("mlp.3"), y, features, true, MLP);
    net.add(x, y)
}

/// The published files are older than torchvision's `MLP` module: `mlp.linear_1` is `mlp.0` today.
pub(crate) fn renamed(key: &str) -> Option<String> {
    let renamed = key.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.");
    (renamed != key).then_some(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_become_new_ones() {
        let name = |part| format!("encoder.layers.encoder_layer_3.mlp.{part}.weight");
        assert_eq!(renamed(&name("linear_2")), Some(name("3")));
        assert_eq!(renamed(&name("3")), None);
    }
}
