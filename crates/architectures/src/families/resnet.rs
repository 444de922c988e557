//! ResNet (He et al., 2015, arXiv:1512.03385) as torchvision has it, with the stride in the 3×3 convolution ("v1.5");
//! Wide ResNet (Zagoruyko and Komodakis, 2016) and ResNeXt (Xie et al., 2016) are the same with other widths.

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::{Activation, Conv2d, Draws};

/// Convolutions Kaiming-normal by fan-out, the head PyTorch's default.
pub(crate) const SCHEME: Scheme = Scheme {
    conv: Draws { weight: Draw::KaimingFanOut, bias: Draw::Constant(0.0) },
    linear: Draws { weight: Draw::PytorchDefault, bias: Draw::PytorchDefault },
};

/// The kinds of residual block.
#[derive(Clone, Copy)]
pub(crate) enum Block {
    /// 3×3, 3×3.
    Basic,
    /// 1×1, 3×3, 1×1 with four times the channels.
    Bottleneck {
        /// Groups of the 3×3 convolution.
        groups: usize,
        /// Channels of the 3×3 convolution, for every 64 of the stage.
        width_per_64: usize,
    },
}

impl Block {
    /// ResNet's own bottleneck.
    pub(crate) const BOTTLENECK: Self = Self::Bottleneck { groups: 1, width_per_64: 64 };
}

pub(crate) fn resnet(name: &str, block: Block, depths: [usize; 4], classes: usize) -> Network {
    let mut net = Builder::new(name, SCHEME);
    let x = net.input(3);
    let [.., x] = stages(&mut net, "", block, x, depths, [1; 4]);
    let x = net.global_avg_pool(x);
    net.linear("fc", x, classes);
    net.finish()
}

/// What the four stages give, everything before the pooling, its names behind `prefix`. A stage of another dilation than 1 has it instead of a stride, from
/// its second block on; its first has that of the stage before.
pub(crate) fn stages(
    net: &mut Builder,
    prefix: &str,
    block: Block,
    images: NodeId,
    depths: [usize; 4],
    dilations: [usize; 4],
) -> [NodeId; 4] {
    let x = net.conv(&format!("{prefix}conv1"), images, Conv2d::to(64, 7).stride(2));
    let x = net.batch_norm(&format!("{prefix}bn1"), x);
    let x = net.relu(x);
    let mut x = net.max_pool(x, 3, 2, 1);
    [0, 1, 2, 3].map(|stage| {
        let (depth, dilation) = (depths[stage], dilations[stage]);
        for index in 0..depth {
            let name = format!("{prefix}layer{}.{index}", stage + 1);
            let is_first = stage > 0 && index == 0;
            let stride = if is_first && dilation == 1 { 2 } else { 1 };
            let dilation = if is_first { dilations[stage - 1] } else { dilation };
            x = residual_block(net, &name, block, Changes::NONE, x, [64 << stage, stride, dilation]);
        }
        x
    })
}

/// What later authors have changed in a block.
#[derive(Clone, Copy)]
pub(super) struct Changes {
    /// Whether a shortcut that shrinks takes means, and not every second pixel.
    pub averages: bool,
    /// Whether the branch ends in squeeze and excitation.
    pub squeezes: bool,
}

impl Changes {
    const NONE: Self = Self { averages: false, squeezes: false };
}

/// A block of so many planes, with this stride and dilation.
pub(super) fn residual_block(
    net: &mut Builder,
    name: &str,
    block: Block,
    changes: Changes,
    x: NodeId,
    [planes, stride, dilation]: [usize; 3],
) -> NodeId {
    let layer = |suffix: &str| format!("{name}.{suffix}");
    let inner = match block {
        Block::Basic => {
            let y = net.conv(&layer("conv1"), x, Conv2d::to(planes, 3).stride(stride));
            let y = net.batch_norm(&layer("bn1"), y);
            let y = net.relu(y);
            let y = net.conv(&layer("conv2"), y, Conv2d::to(planes, 3));
            net.batch_norm(&layer("bn2"), y)
        }
        Block::Bottleneck { groups, width_per_64 } => {
            let width = planes * width_per_64 / 64;
            let y = net.conv(&layer("conv1"), x, Conv2d::to(width, 1));
            let y = net.batch_norm(&layer("bn1"), y);
            let y = net.relu(y);
            let y = net.conv(&layer("conv2"), y, Conv2d::to(width, 3).stride(stride).dilation(dilation).groups(groups));
            let y = net.batch_norm(&layer("bn2"), y);
            let y = net.relu(y);
            let y = net.conv(&layer("conv3"), y, Conv2d::to(planes * 4, 1));
            net.batch_norm(&layer("bn3"), y)
        }
    };
    let channels = net.width(inner);
    let inner = if changes.squeezes {
        net.squeeze_excitation(&layer("se"), inner, channels / 4, Activation::Relu, Activation::Sigmoid)
    } else {
        inner
    };
    let shortcut = if stride == 1 && net.width(x) == channels {
        x
    } else if changes.averages {
        let y = if stride > 1 { net.avg_pool(x, stride) } else { x };
        let y = net.conv(&layer("downsample.1"), y, Conv2d::to(channels, 1));
        net.batch_norm(&layer("downsample.2"), y)
    } else {
        let y = net.conv(&layer("downsample.0"), x, Conv2d::to(channels, 1).stride(stride));
        net.batch_norm(&layer("downsample.1"), y)
    };
    let sum = net.add(inner, shortcut);
    net.relu(sum)
}
