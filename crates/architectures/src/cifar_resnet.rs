//! The small ResNets for CIFAR (He et al., 2015, section 4.2): three stages of 16, 32 and 64 channels, shortcuts
//! without parameters (option A). Names as in akamaster's pytorch_resnet_cifar10, whose weights are the common ones.

use crate::network::{Builder, Initialisation, Network};

pub(crate) fn cifar_resnet20(classes: usize) -> Network {
    cifar_resnet("cifar_resnet20", 3, classes)
}

fn cifar_resnet(name: &str, depth: usize, classes: usize) -> Network {
    let mut net = Builder::new(name, Initialisation::KaimingFanIn);
    let x = net.input(3);
    let x = net.conv("conv1", x, 3, 16, 3, 1);
    let x = net.batch_norm("bn1", x, 16);
    let mut x = net.relu(x);
    let mut channels = 16;
    for (stage, width) in [16, 32, 64].into_iter().enumerate() {
        for index in 0..depth {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let layer = |suffix: &str| format!("layer{}.{index}.{suffix}", stage + 1);
            let y = net.conv(&layer("conv1"), x, channels, width, 3, stride);
            let y = net.batch_norm(&layer("bn1"), y, width);
            let y = net.relu(y);
            let y = net.conv(&layer("conv2"), y, width, width, 3, 1);
            let y = net.batch_norm(&layer("bn2"), y, width);
            let shortcut = if stride == 1 { x } else { net.pad_shortcut(x, width, stride) };
            let sum = net.add(y, shortcut);
            x = net.relu(sum);
            channels = width;
        }
    }
    let x = net.adaptive_avg_pool(x, 1);
    let x = net.flatten(x);
    net.linear("linear", x, channels, classes);
    net.finish()
}
