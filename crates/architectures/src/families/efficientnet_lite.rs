//! EfficientNet-Lite (Google, 2020): EfficientNet for phones, without squeeze-and-excitation, with ReLU6, and a first and a last layer of
//! one size. As TensorFlow computes it, whose weights most are: zeros around an image come below and right first. Or as timm's own ones, with as many
//! on each side.

use super::efficientnet::{SCHEME, STAGES, STOCHASTIC_DEPTH};
use super::round_channels;
use crate::builder::Builder;
use crate::network::{Network, NodeId};
use crate::op::Activation::Relu6;
use crate::op::Conv2d;

/// Where zeros around an image come that is halved.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Zeros {
    /// Below and right first, as TensorFlow has them.
    BehindFirst,
    /// On each side alike, as PyTorch has them.
    Even,
}

/// `width` and `depth` multiply the channels and blocks of Lite0.
pub(crate) fn efficientnet_lite(
    name: &str,
    zeros: Zeros,
    width: f64,
    depth: f64,
    dropout: f64,
    classes: usize,
) -> Network {
    let blocks = |stage: usize| repeated(stage, depth);
    let all_blocks: usize = (0..STAGES.len()).map(blocks).sum();
    let (epsilon, momentum) = if zeros == Zeros::BehindFirst { (1e-3, 0.01) } else { (1e-5, 0.1) };
    let mut net = Builder::new(name, SCHEME).with_batch_norm(epsilon, momentum);
    let x = net.input(3);
    let mut x = conv_norm(&mut net, zeros, "features.0", x, Conv2d::to(32, 3).stride(2));
    let mut block = 0;
    for (stage, (expansion, kernel, stride, channels, _)) in STAGES.into_iter().enumerate() {
        let channels = round_channels(channels as f64 * width);
        for index in 0..blocks(stage) {
            let stride = if index == 0 { stride } else { 1 };
            let hidden = net.width(x) * expansion;
            let mut layers = (0..).map(|layer| format!("features.{}.{index}.block.{layer}", stage + 1));
            let mut layer = || layers.next().expect("numbers do not end");
            let mut y = x;
            if expansion > 1 {
                y = conv_norm(&mut net, zeros, &layer(), y, Conv2d::to(hidden, 1));
            }
            y = conv_norm(&mut net, zeros, &layer(), y, Conv2d::to(hidden, kernel).stride(stride).groups(hidden));
            y = net.conv_norm(&layer(), y, Conv2d::to(channels, 1), None);
            x = if stride == 1 && net.width(x) == channels {
                let y = net.stochastic_depth(y, STOCHASTIC_DEPTH * block as f64 / all_blocks as f64);
                net.add(y, x)
            } else {
                y
            };
            block += 1;
        }
    }
    let x = conv_norm(&mut net, zeros, "features.8", x, Conv2d::to(1280, 1));
    let x = net.global_avg_pool(x);
    let x = net.dropout(x, dropout);
    net.linear("classifier.1", x, classes);
    net.finish()
}

/// Blocks of a stage: the first and the last have one in every size.
fn repeated(stage: usize, depth: f64) -> usize {
    let blocks = STAGES[stage].4;
    if stage == 0 || stage + 1 == STAGES.len() { blocks } else { (blocks as f64 * depth).ceil() as usize }
}

/// A convolution, BatchNorm, ReLU6.
fn conv_norm(net: &mut Builder, zeros: Zeros, name: &str, x: NodeId, conv: Conv2d) -> NodeId {
    if conv.stride == 1 || zeros == Zeros::Even {
        return net.conv_norm(name, x, conv, Some(Relu6));
    }
    let padded = net.pad_same(x, conv.kernel[0], conv.stride);
    net.conv_norm(name, padded, conv.padding(0), Some(Relu6))
}

/// The names of the first ports to PyTorch, which number the blocks through: `_blocks.3._bn0.weight`. Those of the first block are others,
/// for it widens nothing.
fn renamed(key: &str, depth: f64) -> Option<String> {
    for (old, new) in [
        ("_conv_stem.", "features.0.0."),
        ("_bn0.", "features.0.1."),
        ("_conv_head.", "features.8.0."),
        ("_bn1.", "features.8.1."),
        ("_fc.", "classifier.1."),
    ] {
        if let Some(rest) = key.strip_prefix(old) {
            return Some(format!("{new}{rest}"));
        }
    }
    let (number, rest) = key.strip_prefix("_blocks.")?.split_once('.')?;
    let (layer, rest) = rest.split_once('.')?;
    let mut index: usize = number.parse().ok()?;
    let stage = (0..STAGES.len()).find(|&stage| {
        let is_here = index < repeated(stage, depth);
        index -= if is_here { 0 } else { repeated(stage, depth) };
        is_here
    })?;
    let before = usize::from(STAGES[stage].0 > 1);
    let (layer, part) = match layer {
        "_expand_conv" if before == 1 => (0, 0),
        "_bn0" if before == 1 => (0, 1),
        "_depthwise_conv" => (before, 0),
        "_bn1" => (before, 1),
        "_project_conv" => (before + 1, 0),
        "_bn2" => (before + 1, 1),
        _ => return None,
    };
    Some(format!("features.{}.{index}.block.{layer}.{part}.{rest}", stage + 1))
}

/// Lite0's.
pub(crate) fn renamed_lite0(key: &str) -> Option<String> {
    renamed(key, 1.0)
}

/// Lite1's.
pub(crate) fn renamed_lite1(key: &str) -> Option<String> {
    renamed(key, 1.1)
}

/// Lite2's.
pub(crate) fn renamed_lite2(key: &str) -> Option<String> {
    renamed(key, 1.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_become_new_ones() {
        let cases = [
            ("_conv_stem.weight", "features.0.0.weight"),
            ("_bn1.running_mean", "features.8.1.running_mean"),
            ("_blocks.0._depthwise_conv.weight", "features.1.0.block.0.0.weight"),
            ("_blocks.0._bn2.bias", "features.1.0.block.1.1.bias"),
            ("_blocks.1._expand_conv.weight", "features.2.0.block.0.0.weight"),
            ("_blocks.2._bn0.weight", "features.2.1.block.0.1.weight"),
            ("_blocks.15._project_conv.weight", "features.7.0.block.2.0.weight"),
            ("_fc.bias", "classifier.1.bias"),
        ];
        for (old, new) in cases {
            assert_eq!(renamed_lite0(old).as_deref(), Some(new));
            assert_eq!(renamed_lite0(new), None);
        }
        assert_eq!(renamed_lite0("_blocks.16._bn0.weight"), None, "there are sixteen");
        assert_eq!(renamed_lite1("_blocks.3._bn0.weight").as_deref(), Some("features.2.2.block.0.1.weight"));
    }
}
