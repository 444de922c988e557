//! EfficientNet (Tan and Le, 2019, arXiv:1905.11946): MobileNet's blocks with squeeze-and-excitation and SiLU, scaled
//! together in width, depth and image size.

use super::round_channels;
use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::Activation::{Sigmoid, Silu};
use crate::op::{Conv2d, Draws};

pub(super) const SCHEME: Scheme = Scheme {
    conv: Draws { weight: Draw::KaimingFanOut, bias: Draw::Constant(0.0) },
    linear: Draws { weight: Draw::UniformByOutputs, bias: Draw::Constant(0.0) },
};

/// Expansion, kernel, stride, channels and blocks of each stage of B0 (table 1 of the paper).
pub(super) const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
];

/// Stochastic depth of the last block; earlier ones less, in proportion.
pub(super) const STOCHASTIC_DEPTH: f64 = 0.2;

/// `width` and `depth` multiply the channels and blocks of B0.
pub(crate) fn efficientnet(name: &str, width: f64, depth: f64, dropout: f64, classes: usize) -> Network {
    let scaled = |channels: usize| round_channels(channels as f64 * width);
    let repeated = |blocks: usize| (blocks as f64 * depth).ceil() as usize;
    let all_blocks: usize = STAGES.iter().map(|stage| repeated(stage.4)).sum();
    let mut net = Builder::new(name, SCHEME);
    // The largest three have TensorFlow's epsilon and momentum.
    if depth > 2.0 {
        net.set_batch_norm(1e-3, 0.01);
    }
    let x = net.input(3);
    let mut x = net.conv_norm("features.0", x, Conv2d::to(scaled(32), 3).stride(2), Some(Silu));
    let mut block = 0;
    for (stage, (expansion, kernel, stride, channels, blocks)) in (1..).zip(STAGES) {
        let channels = scaled(channels);
        for index in 0..repeated(blocks) {
            let stride = if index == 0 { stride } else { 1 };
            let name = format!("features.{stage}.{index}.block");
            let y = inverted_residual(&mut net, &name, x, expansion, kernel, stride, channels);
            x = if stride == 1 && net.width(x) == channels {
                let y = net.stochastic_depth(y, STOCHASTIC_DEPTH * block as f64 / all_blocks as f64);
                net.add(y, x)
            } else {
                y
            };
            block += 1;
        }
    }
    let channels = 4 * net.width(x);
    let x = net.conv_norm("features.8", x, Conv2d::to(channels, 1), Some(Silu));
    let x = net.global_avg_pool(x);
    let x = net.dropout(x, dropout);
    net.linear("classifier.1", x, classes);
    net.finish()
}

/// 1×1, depthwise, squeeze-and-excitation, 1×1.
pub(super) fn inverted_residual(
    net: &mut Builder,
    name: &str,
    x: NodeId,
    expansion: usize,
    kernel: usize,
    stride: usize,
    channels: usize,
) -> NodeId {
    let squeeze = (net.width(x) / 4).max(1);
    let hidden = round_channels((net.width(x) * expansion) as f64);
    let mut layers = (0..).map(|layer| format!("{name}.{layer}"));
    let mut layer = || layers.next().expect("numbers do not end");
    let mut y = x;
    if hidden != net.width(x) {
        y = net.conv_norm(&layer(), y, Conv2d::to(hidden, 1), Some(Silu));
    }
    y = net.conv_norm(&layer(), y, Conv2d::to(hidden, kernel).stride(stride).groups(hidden), Some(Silu));
    y = net.squeeze_excitation(&layer(), y, squeeze, Silu, Sigmoid);
    net.conv_norm(&layer(), y, Conv2d::to(channels, 1), None)
}
