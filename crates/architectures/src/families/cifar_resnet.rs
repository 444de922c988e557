//! The small ResNets for CIFAR (He et al., 2015, section 4.2): three stages of 16, 32 and 64 channels, shortcuts
//! without parameters (option A). Names as in akamaster's pytorch_resnet_cifar10, whose weights are the common ones.

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::Network;
use crate::op::Conv2d;

/// `depth` blocks in each stage: 6·`depth` + 2 layers.
pub(crate) fn cifar_resnet(name: &str, depth: usize, classes: usize) -> Network {
    let mut net = Builder::new(name, Scheme::of(Draw::KaimingFanIn, Draw::PytorchDefault));
    let x = net.input(3);
    let x = net.conv("conv1", x, Conv2d::to(16, 3));
    let x = net.batch_norm("bn1", x);
    let mut x = net.relu(x);
    for (stage, width) in [16, 32, 64].into_iter().enumerate() {
        for index in 0..depth {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let layer = |suffix: &str| format!("layer{}.{index}.{suffix}", stage + 1);
            let y = net.conv(&layer("conv1"), x, Conv2d::to(width, 3).stride(stride));
            let y = net.batch_norm(&layer("bn1"), y);
            let y = net.relu(y);
            let y = net.conv(&layer("conv2"), y, Conv2d::to(width, 3));
            let y = net.batch_norm(&layer("bn2"), y);
            let shortcut = if stride == 1 { x } else { net.pad_shortcut(x, width, stride) };
            let sum = net.add(y, shortcut);
            x = net.relu(sum);
        }
    }
    let x = net.global_avg_pool(x);
    net.linear("linear", x, classes);
    net.finish()
}
