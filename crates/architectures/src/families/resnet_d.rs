//! ResNet-D (He et al., 2018, arXiv:1812.01187) and ResNet-RS (Bello et al., 2021, arXiv:2103.07579) as timm has them: three small
//! convolutions at the beginning, shortcuts that take means; ResNet-RS with squeeze and excitation, and without max pooling.

use super::resnet::{Block, Changes, SCHEME, residual_block};
use crate::builder::Builder;
use crate::network::Network;
use crate::op::{Activation, Conv2d};

/// ResNet-D.
pub(crate) fn resnet_d(name: &str, block: Block, depths: [usize; 4], classes: usize) -> Network {
    network(name, block, depths, false, classes)
}

/// ResNet-RS.
pub(crate) fn resnet_rs(name: &str, depths: [usize; 4], classes: usize) -> Network {
    network(name, Block::BOTTLENECK, depths, true, classes)
}

fn network(name: &str, block: Block, depths: [usize; 4], is_rs: bool, classes: usize) -> Network {
    let mut net = Builder::new(name, SCHEME);
    let mut x = net.input(3);
    for (index, (channels, stride)) in [(32, 2), (32, 1)].into_iter().enumerate() {
        x = net.conv(&format!("conv1.{}", 3 * index), x, Conv2d::to(channels, 3).stride(stride));
        x = net.batch_norm(&format!("conv1.{}", 3 * index + 1), x);
        x = net.relu(x);
    }
    let x = net.conv("conv1.6", x, Conv2d::to(64, 3));
    let x = net.batch_norm("bn1", x);
    let x = net.relu(x);
    let mut x = if is_rs {
        net.conv_norm("maxpool", x, Conv2d::to(64, 3).stride(2), Some(Activation::Relu))
    } else {
        net.max_pool(x, 3, 2, 1)
    };
    let changes = Changes { averages: true, squeezes: is_rs };
    for (stage, depth) in depths.into_iter().enumerate() {
        for index in 0..depth {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let name = format!("layer{}.{index}", stage + 1);
            x = residual_block(&mut net, &name, block, changes, x, [64 << stage, stride, 1]);
        }
    }
    let x = net.global_avg_pool(x);
    net.linear("fc", x, classes);
    net.finish()
}
