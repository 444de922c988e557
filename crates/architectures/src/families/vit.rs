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

/// What other authors have changed.
#[derive(Clone, Copy)]
pub(crate) struct Changes {
    /// The side of the images that there are positions for, in pixels.
    image_size: usize,
    /// Tokens beside the class token that see everything and tell nothing (Darcet et al., 2023, arXiv:2309.16588).
    registers: usize,
    /// What each branch is multiplied by at first, value by value (Touvron et al., 2021, arXiv:2103.17239).
    layer_scale: Option<f64>,
    /// Whether the class token has a position.
    class_has_position: bool,
}

const NONE: Changes = Changes { image_size: IMAGE_SIZE, registers: 0, layer_scale: None, class_has_position: true };
/// Touvron et al., 2022 (arXiv:2204.07118).
pub(crate) const DEIT3: Changes = Changes { layer_scale: Some(1e-6), class_has_position: false, ..NONE };
/// Oquab et al., 2023 (arXiv:2304.07193).
pub(crate) const DINOV2: Changes = Changes { image_size: 518, layer_scale: Some(1e-5), ..NONE };
/// The same with registers.
pub(crate) const DINOV2_REGISTERS: Changes = Changes { registers: 4, class_has_position: false, ..DINOV2 };

/// Patches of `patch`×`patch` pixels. The position embedding is for images of 224×224 pixels.
pub(crate) fn vit(name: &str, size: Size, patch: usize, classes: usize) -> Network {
    changed_vit(name, size, patch, NONE, classes)
}

/// The same with changes.
pub(crate) fn changed_vit(name: &str, size: Size, patch: usize, changes: Changes, classes: usize) -> Network {
    let Size { layers, heads, features } = size;
    let mut net = Builder::new(name, Scheme::of(ZERO, ZERO));
    let images = net.input(3);
    let class_token = net.learned("class_token", [1, features], 1, ZERO);
    let mut tokens = vec![class_token];
    if changes.registers > 0 {
        tokens.push(net.learned("register_tokens", [changes.registers, features], 1, Draw::Normal(1e-6)));
    }
    let draws = Draws { weight: Draw::LecunNormal, bias: ZERO };
    let conv = Conv2d::to(features, patch).stride(patch).padding(0).bias();
    let x = net.conv_drawn("conv_proj", images, conv, draws);
    let x = net.pixels_to_tokens(x);
    let patches = (changes.image_size / patch).pow(2);
    let positions =
        |net: &mut Builder, count| net.learned("encoder.pos_embedding", [count, features], 1, Draw::Normal(0.02));
    let mut x = if changes.class_has_position {
        tokens.push(x);
        let x = net.concat_tokens(&tokens);
        let positions = positions(&mut net, patches + 1);
        net.add(x, positions)
    } else {
        let positions = positions(&mut net, patches);
        tokens.push(net.add(x, positions));
        net.concat_tokens(&tokens)
    };
    for index in 0..layers {
        x = encoder_layer(&mut net, &format!("encoder.layers.encoder_layer_{index}"), x, heads, changes.layer_scale);
    }
    let x = net.layer_norm("encoder.ln", x, EPSILON);
    let x = net.token(x, 0);
    net.linear("heads.head", x, classes);
    net.finish()
}

fn encoder_layer(net: &mut Builder, name: &str, x: NodeId, heads: usize, layer_scale: Option<f64>) -> NodeId {
    let features = net.width(x);
    let layer = |suffix: &str| format!("{name}.{suffix}");
    let scaled = |net: &mut Builder, y: NodeId, branch: usize| match layer_scale {
        None => y,
        Some(first) => {
            let scale = net.learned_row(&layer(&format!("layer_scale_{branch}")), features, Draw::Constant(first));
            net.mul(y, scale)
        }
    };
    let y = net.layer_norm(&layer("ln_1"), x, EPSILON);
    let in_proj = Draws { weight: Draw::XavierUniform, bias: ZERO };
    let y = net.linear_drawn(&layer("self_attention.in_proj_"), y, 3 * features, true, in_proj);
    let y = net.attention(y, heads);
    let out_proj = Draws { weight: Draw::PytorchDefault, bias: ZERO };
    let y = net.linear_drawn(&layer("self_attention.out_proj"), y, features, true, out_proj);
    let y = scaled(net, y, 1);
    let x = net.add(y, x);
    let y = net.layer_norm(&layer("ln_2"), x, EPSILON);
    let y = net.linear_drawn(&layer("mlp.0"), y, 4 * features, true, MLP);
    let y = net.activation(y, Activation::Gelu);
    let y = net.linear_drawn(&layer("mlp.3"), y, features, true, MLP);
    let y = scaled(net, y, 2);
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
