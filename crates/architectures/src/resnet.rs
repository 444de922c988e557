//! ResNet (He et al., 2015, arXiv:1512.03385) as torchvision has it: stride in the 3×3 convolution ("v1.5").

use crate::network::{Builder, Initialisation, Network, NodeId};

/// The two kinds of residual block.
#[derive(Clone, Copy)]
enum Block {
    /// 3×3, 3×3.
    Basic,
    /// 1×1, 3×3, 1×1 with four times the channels.
    Bottleneck,
}

impl Block {
    fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

pub(crate) fn resnet18(classes: usize) -> Network {
    resnet("resnet18", Block::Basic, [2, 2, 2, 2], classes)
}

pub(crate) fn resnet34(classes: usize) -> Network {
    resnet("resnet34", Block::Basic, [3, 4, 6, 3], classes)
}

pub(crate) fn resnet50(classes: usize) -> Network {
    resnet("resnet50", Block::Bottleneck, [3, 4, 6, 3], classes)
}

fn resnet(name: &str, block: Block, depths: [usize; 4], classes: usize) -> Network {
    let mut net = Builder::new(name, Initialisation::KaimingFanOut);
    let x = net.input(3);
    let x = net.conv("conv1", x, 3, 64, 7, 2);
    let x = net.batch_norm("bn1", x, 64);
    let x = net.relu(x);
    let mut x = net.max_pool(x, 3, 2, 1);
    let mut channels = 64;
    for (stage, depth) in depths.into_iter().enumerate() {
        let width = 64 << stage;
        for index in 0..depth {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let name = format!("layer{}.{index}", stage + 1);
            x = residual_block(&mut net, &name, block, x, channels, width, stride);
            channels = width * block.expansion();
        }
    }
    let x = net.adaptive_avg_pool(x, 1);
    let x = net.flatten(x);
    net.linear("fc", x, channels, classes);
    net.finish()
}

fn residual_block(
    net: &mut Builder,
    name: &str,
    block: Block,
    x: NodeId,
    channels: usize,
    width: usize,
    stride: usize,
) -> NodeId {
    let out_channels = width * block.expansion();
    let layer = |suffix: &str| format!("{name}.{suffix}");
    let inner = match block {
        Block::Basic => {
            let y = net.conv(&layer("conv1"), x, channels, width, 3, stride);
            let y = net.batch_norm(&layer("bn1"), y, width);
            let y = net.relu(y);
            let y = net.conv(&layer("conv2"), y, width, width, 3, 1);
            net.batch_norm(&layer("bn2"), y, width)
        }
        Block::Bottleneck => {
            let y = net.conv(&layer("conv1"), x, channels, width, 1, 1);
            let y = net.batch_norm(&layer("bn1"), y, width);
            let y = net.relu(y);
            let y = net.conv(&layer("conv2"), y, width, width, 3, stride);
            let y = net.batch_norm(&layer("bn2"), y, width);
            let y = net.relu(y);
            let y = net.conv(&layer("conv3"), y, width, out_channels, 1, 1);
            net.batch_norm(&layer("bn3"), y, out_channels)
        }
    };
    let shortcut = if stride == 1 && channels == out_channels {
        x
    } else {
        let y = net.conv(&layer("downsample.0"), x, channels, out_channels, 1, stride);
        net.batch_norm(&layer("downsample.1"), y, out_channels)
    };
    let sum = net.add(inner, shortcut);
    net.relu(sum)
}
