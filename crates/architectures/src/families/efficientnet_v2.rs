//! EfficientNetV2 (Tan and Le, 2021, arXiv:2104.00298): EfficientNet whose first stages have one 3×3 convolution where the others have a
//! 1×1 and a depthwise one.

use super::efficientnet::{SCHEME, STOCHASTIC_DEPTH, inverted_residual};
use super::round_channels;
use crate::builder::Builder;
use crate::network::{Network, NodeId};
use crate::op::Activation::Silu;
use crate::op::Conv2d;

/// One stage.
#[derive(Clone, Copy)]
pub(crate) struct Stage {
    /// Whether its blocks begin with one 3×3 convolution.
    fused: bool,
    expansion: usize,
    stride: usize,
    channels: usize,
    blocks: usize,
}

const fn fused(expansion: usize, stride: usize, channels: usize, blocks: usize) -> Stage {
    Stage { fused: true, expansion, stride, channels, blocks }
}

const fn apart(expansion: usize, stride: usize, channels: usize, blocks: usize) -> Stage {
    Stage { fused: false, expansion, stride, channels, blocks }
}

/// Tables 4 and following of the paper, and of its program.
pub(crate) const S: &[Stage] = &[
    fused(1, 1, 24, 2),
    fused(4, 2, 48, 4),
    fused(4, 2, 64, 4),
    apart(4, 2, 128, 6),
    apart(6, 1, 160, 9),
    apart(6, 2, 256, 15),
];
pub(crate) const M: &[Stage] = &[
    fused(1, 1, 24, 3),
    fused(4, 2, 48, 5),
    fused(4, 2, 80, 5),
    apart(4, 2, 160, 7),
    apart(6, 1, 176, 14),
    apart(6, 2, 304, 18),
    apart(6, 1, 512, 5),
];
pub(crate) const L: &[Stage] = &[
    fused(1, 1, 32, 4),
    fused(4, 2, 64, 7),
    fused(4, 2, 96, 7),
    apart(4, 2, 192, 10),
    apart(6, 1, 224, 19),
    apart(6, 2, 384, 25),
    apart(6, 1, 640, 7),
];

pub(crate) fn efficientnet_v2(name: &str, stages: &[Stage], dropout: f64, classes: usize) -> Network {
    let all_blocks: usize = stages.iter().map(|stage| stage.blocks).sum();
    let mut net = Builder::new(name, SCHEME).with_batch_norm(1e-3, 0.1);
    let x = net.input(3);
    let mut x = net.conv_norm("features.0", x, Conv2d::to(stages[0].channels, 3).stride(2), Some(Silu));
    let mut block = 0;
    for (number, &Stage { fused, expansion, stride, channels, blocks }) in (1..).zip(stages) {
        for index in 0..blocks {
            let name = format!("features.{number}.{index}.block");
            let stride = if index == 0 { stride } else { 1 };
            let y = if fused {
                fused_residual(&mut net, &name, x, expansion, stride, channels)
            } else {
                inverted_residual(&mut net, &name, x, expansion, 3, stride, channels)
            };
            x = if stride == 1 && net.width(x) == channels {
                let y = net.stochastic_depth(y, STOCHASTIC_DEPTH * block as f64 / all_blocks as f64);
                net.add(y, x)
            } else {
                y
            };
            block += 1;
        }
    }
    let x = net.conv_norm(&format!("features.{}", stages.len() + 1), x, Conv2d::to(1280, 1), Some(Silu));
    let x = net.global_avg_pool(x);
    let x = net.dropout(x, dropout);
    net.linear("classifier.1", x, classes);
    net.finish()
}

fn fused_residual(
    net: &mut Builder,
    name: &str,
    x: NodeId,
    expansion: usize,
    stride: usize,
    channels: usize,
) -> NodeId {
    let hidden = round_channels((net.width(x) * expansion) as f64);
    if hidden == net.width(x) {
        return net.conv_norm(&format!("{name}.0"), x, Conv2d::to(channels, 3).stride(stride), Some(Silu));
    }
    let y = net.conv_norm(&format!("{name}.0"), x, Conv2d::to(hidden, 3).stride(stride), Some(Silu));
    net.conv_norm(&format!("{name}.1"), y, Conv2d::to(channels, 1), None)
}
