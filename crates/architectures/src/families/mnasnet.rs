//! MNASNet-B1 (Tan et al., 2018, arXiv:1807.11626): inverted residuals of two kernel sizes, found by a search on phones.

use super::round_channels;
use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::{Conv2d, Draws};

const SCHEME: Scheme = Scheme {
    conv: Draws { weight: Draw::KaimingFanOut, bias: Draw::Constant(0.0) },
    linear: Draws { weight: Draw::LecunUniformFanOut, bias: Draw::Constant(0.0) },
};

/// Kernel, stride, expansion, channels and blocks of each stack.
const STACKS: [(usize, usize, usize, usize, usize); 6] =
    [(3, 2, 3, 24, 3), (5, 2, 3, 40, 3), (5, 2, 6, 80, 3), (3, 1, 6, 96, 2), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)];

/// `width` multiplies the channels.
pub(crate) fn mnasnet(name: &str, width: f64, classes: usize) -> Network {
    let scaled = |channels: usize| round_channels(channels as f64 * width);
    // TensorFlow's momentum is the share of the old statistics.
    let mut net = Builder::new(name, SCHEME).with_batch_norm(1e-5, 1.0 - 0.9997);
    let x = net.input(3);
    let x = conv_norm(&mut net, "layers", 0, x, Conv2d::to(scaled(32), 3).stride(2), true);
    let first = net.width(x);
    let x = conv_norm(&mut net, "layers", 3, x, Conv2d::to(first, 3).groups(first), true);
    let mut x = conv_norm(&mut net, "layers", 6, x, Conv2d::to(scaled(16), 1), false);
    for (number, (kernel, stride, expansion, channels, blocks)) in (8..).zip(STACKS) {
        for index in 0..blocks {
            let name = format!("layers.{number}.{index}.layers");
            let (hidden, stride) = (net.width(x) * expansion, if index == 0 { stride } else { 1 });
            let y = conv_norm(&mut net, &name, 0, x, Conv2d::to(hidden, 1), true);
            let y = conv_norm(&mut net, &name, 3, y, Conv2d::to(hidden, kernel).stride(stride).groups(hidden), true);
            let y = conv_norm(&mut net, &name, 6, y, Conv2d::to(scaled(channels), 1), false);
            x = if stride == 1 && net.width(x) == net.width(y) { net.add(y, x) } else { y };
        }
    }
    let x = conv_norm(&mut net, "layers", 14, x, Conv2d::to(1280, 1), true);
    let x = net.global_avg_pool(x);
    let x = net.dropout(x, 0.2);
    net.linear("classifier.1", x, classes);
    net.finish()
}

/// Modules `number` and the one after it, and perhaps a ReLU.
fn conv_norm(net: &mut Builder, name: &str, number: usize, x: NodeId, conv: Conv2d, relu: bool) -> NodeId {
    let x = net.conv(&format!("{name}.{number}"), x, conv);
    let x = net.batch_norm(&format!("{name}.{}", number + 1), x);
    if relu { net.relu(x) } else { x }
}
