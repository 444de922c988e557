//! MobileNetV3 (Howard et al., 2019, arXiv:1905.02244): inverted residuals with squeeze-and-excitation and hard swish.

use super::{KAIMING_FAN_OUT, round_channels};
use crate::builder::Builder;
use crate::network::{Network, NodeId};
use crate::op::Activation::{HardSigmoid, HardSwish, Relu};
use crate::op::{Activation, Conv2d};

/// Kernel, channels inside, channels out, squeeze-and-excitation, activation, stride (tables 1 and 2 of the paper).
type Block = (usize, usize, usize, bool, Activation, usize);

const LARGE: &[Block] = &[
    (3, 16, 16, false, Relu, 1),
    (3, 64, 24, false, Relu, 2),
    (3, 72, 24, false, Relu, 1),
    (5, 72, 40, true, Relu, 2),
    (5, 120, 40, true, Relu, 1),
    (5, 120, 40, true, Relu, 1),
    (3, 240, 80, false, HardSwish, 2),
    (3, 200, 80, false, HardSwish, 1),
    (3, 184, 80, false, HardSwish, 1),
    (3, 184, 80, false, HardSwish, 1),
    (3, 480, 112, true, HardSwish, 1),
    (3, 672, 112, true, HardSwish, 1),
    (5, 672, 160, true, HardSwish, 2),
    (5, 960, 160, true, HardSwish, 1),
    (5, 960, 160, true, HardSwish, 1),
];

const SMALL: &[Block] = &[
    (3, 16, 16, true, Relu, 2),
    (3, 72, 24, false, Relu, 2),
    (3, 88, 24, false, Relu, 1),
    (5, 96, 40, true, HardSwish, 2),
    (5, 240, 40, true, HardSwish, 1),
    (5, 240, 40, true, HardSwish, 1),
    (5, 120, 48, true, HardSwish, 1),
    (5, 144, 48, true, HardSwish, 1),
    (5, 288, 96, true, HardSwish, 2),
    (5, 576, 96, true, HardSwish, 1),
    (5, 576, 96, true, HardSwish, 1),
];

pub(crate) fn mobilenet_v3_large(classes: usize) -> Network {
    mobilenet_v3("mobilenet_v3_large", LARGE, 1280, classes)
}

pub(crate) fn mobilenet_v3_small(classes: usize) -> Network {
    mobilenet_v3("mobilenet_v3_small", SMALL, 1024, classes)
}

fn mobilenet_v3(name: &str, blocks: &[Block], last: usize, classes: usize) -> Network {
    let mut net = Builder::new(name, KAIMING_FAN_OUT).with_batch_norm(EPSILON, MOMENTUM);
    let x = net.input(3);
    let stages = features(&mut net, "features", blocks, x, false);
    let x = net.global_avg_pool(stages[stages.len() - 1]);
    let x = net.linear("classifier.0", x, last);
    let x = net.activation(x, HardSwish);
    let x = net.dropout(x, 0.2);
    net.linear("classifier.3", x, classes);
    net.finish()
}

/// BatchNorm's of the original, which was made with TensorFlow.
pub(crate) const EPSILON: f64 = 1e-3;
pub(crate) const MOMENTUM: f64 = 1e-2;

/// What `mobilenet_v3_large` gives after each of its parts, below the module `name`. With `dilated` the last stage looks at every
/// second pixel instead of having half as many.
pub(crate) fn large_features(net: &mut Builder, name: &str, images: NodeId, dilated: bool) -> Vec<NodeId> {
    features(net, name, LARGE, images, dilated)
}

fn features(net: &mut Builder, name: &str, blocks: &[Block], images: NodeId, dilated: bool) -> Vec<NodeId> {
    let mut x = net.conv_norm(&format!("{name}.0"), images, Conv2d::to(16, 3).stride(2), Some(HardSwish));
    let mut parts = vec![x];
    let last_stage = blocks.iter().rposition(|block| block.5 > 1).unwrap_or(0);
    for (number, &(kernel, hidden, channels, squeeze, activation, stride)) in (1..).zip(blocks) {
        let is_dilated = dilated && number > last_stage;
        let (stride, dilation) = if is_dilated { (1, 2) } else { (stride, 1) };
        let mut layers = (0..).map(|layer| format!("{name}.{number}.block.{layer}"));
        let mut layer = || layers.next().expect("numbers do not end");
        let mut y = x;
        if hidden != net.width(x) {
            y = net.conv_norm(&layer(), y, Conv2d::to(hidden, 1), Some(activation));
        }
        let depthwise = Conv2d::to(hidden, kernel).stride(stride).dilation(dilation).groups(hidden);
        y = net.conv_norm(&layer(), y, depthwise, Some(activation));
        if squeeze {
            y = net.squeeze_excitation(&layer(), y, round_channels((hidden / 4) as f64), Relu, HardSigmoid);
        }
        y = net.conv_norm(&layer(), y, Conv2d::to(channels, 1), None);
        x = if stride == 1 && net.width(x) == channels { net.add(y, x) } else { y };
        parts.push(x);
    }
    let channels = 6 * net.width(x);
    parts.push(net.conv_norm(&format!("{name}.{}", blocks.len() + 1), x, Conv2d::to(channels, 1), Some(HardSwish)));
    parts
}
