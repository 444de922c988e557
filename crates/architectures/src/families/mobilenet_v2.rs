//! MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381): inverted residuals with a linear bottleneck.

use super::KAIMING_FAN_OUT;
use crate::builder::Builder;
use crate::network::Network;
use crate::op::{Activation, Conv2d};

/// Expansion, channels, blocks and stride of each stage (table 2 of the paper).
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

pub(crate) fn mobilenet_v2(classes: usize) -> Network {
    let mut net = Builder::new("mobilenet_v2", KAIMING_FAN_OUT);
    let relu6 = Some(Activation::Relu6);
    let x = net.input(3);
    let mut x = net.conv_norm("features.0", x, Conv2d::to(32, 3).stride(2), relu6);
    let mut number = 1;
    for (expansion, channels, blocks, stride) in STAGES {
        for index in 0..blocks {
            let stride = if index == 0 { stride } else { 1 };
            let hidden = net.width(x) * expansion;
            let mut layers = (0..).map(|layer| format!("features.{number}.conv.{layer}"));
            let mut layer = || layers.next().expect("numbers do not end");
            let mut y = x;
            if expansion != 1 {
                y = net.conv_norm(&layer(), y, Conv2d::to(hidden, 1), relu6);
            }
            y = net.conv_norm(&layer(), y, Conv2d::to(hidden, 3).stride(stride).groups(hidden), relu6);
            y = net.conv(&layer(), y, Conv2d::to(channels, 1));
            y = net.batch_norm(&layer(), y);
            x = if stride == 1 && net.width(x) == channels { net.add(x, y) } else { y };
            number += 1;
        }
    }
    let x = net.conv_norm(&format!("features.{number}"), x, Conv2d::to(1280, 1), relu6);
    let x = net.global_avg_pool(x);
    let x = net.dropout(x, 0.2);
    net.linear("classifier.1", x, classes);
    net.finish()
}
