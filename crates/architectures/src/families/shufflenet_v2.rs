//! ShuffleNetV2 (Ma et al., 2018, arXiv:1807.11164): half of the channels pass through, then halves are shuffled.

use crate::builder::{Builder, Scheme};
use crate::network::{Network, NodeId};
use crate::op::Conv2d;

/// `channels` of the three stages, and of the layer after them.
pub(crate) fn shufflenet_v2(name: &str, channels: [usize; 3], last: usize, classes: usize) -> Network {
    let mut net = Builder::new(name, Scheme::PYTORCH);
    let x = net.input(3);
    let x = net.conv("conv1.0", x, Conv2d::to(24, 3).stride(2));
    let x = net.batch_norm("conv1.1", x);
    let x = net.relu(x);
    let mut x = net.max_pool(x, 3, 2, 1);
    for ((stage, channels), blocks) in (2..).zip(channels).zip([4, 8, 4]) {
        for index in 0..blocks {
            let name = format!("stage{stage}.{index}");
            let half = channels / 2;
            let parts = if index == 0 {
                [shrink(&mut net, &format!("{name}.branch1"), x, half), branch(&mut net, &name, x, half, 2)]
            } else {
                let [left, right] = [net.slice_channels(x, 0, half), net.slice_channels(x, half, channels)];
                [left, branch(&mut net, &name, right, half, 1)]
            };
            x = net.concat_channels(&parts);
            x = net.channel_shuffle(x, 2);
        }
    }
    let x = net.conv("conv5.0", x, Conv2d::to(last, 1));
    let x = net.batch_norm("conv5.1", x);
    let x = net.relu(x);
    let x = net.global_avg_pool(x);
    net.linear("fc", x, classes);
    net.finish()
}

/// Depthwise 3×3 of stride 2, then 1×1.
fn shrink(net: &mut Builder, name: &str, x: NodeId, channels: usize) -> NodeId {
    let groups = net.width(x);
    let x = net.conv(&format!("{name}.0"), x, Conv2d::to(groups, 3).stride(2).groups(groups));
    let x = net.batch_norm(&format!("{name}.1"), x);
    let x = net.conv(&format!("{name}.2"), x, Conv2d::to(channels, 1));
    let x = net.batch_norm(&format!("{name}.3"), x);
    net.relu(x)
}

/// 1×1, depthwise 3×3, 1×1.
fn branch(net: &mut Builder, name: &str, x: NodeId, channels: usize, stride: usize) -> NodeId {
    let layer = |index: usize| format!("{name}.branch2.{index}");
    let x = net.conv(&layer(0), x, Conv2d::to(channels, 1));
    let x = net.batch_norm(&layer(1), x);
    let x = net.relu(x);
    let x = net.conv(&layer(3), x, Conv2d::to(channels, 3).stride(stride).groups(channels));
    let x = net.batch_norm(&layer(4), x);
    let x = net.conv(&layer(5), x, Conv2d::to(channels, 1));
    let x = net.batch_norm(&layer(6), x);
    net.relu(x)
}
