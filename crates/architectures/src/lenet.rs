//! LeNet (LeCun et al., 1998) for pictures of any size: padded convolutions, ReLU, and a pooled head. The one network
//! without BatchNorm that is small enough for a digit of 8×8 pixels.

use crate::network::{Builder, Conv2d, Initialisation, Network};

pub(crate) fn lenet(classes: usize) -> Network {
    let mut net = Builder::new("lenet", Initialisation::PytorchDefault);
    let mut x = net.input(3);
    for (name, in_channels, out_channels) in [("conv1", 3, 6), ("conv2", 6, 16)] {
        let conv = Conv2d { in_channels, out_channels, kernel: 5, stride: 1, padding: 2, groups: 1, bias: true };
        x = net.conv2d(name, x, conv);
        x = net.relu(x);
        x = net.max_pool(x, 2, 2, 0);
    }
    let x = net.adaptive_avg_pool(x, 2);
    let x = net.flatten(x);
    let x = net.linear("fc1", x, 16 * 4, 120);
    let x = net.relu(x);
    let x = net.linear("fc2", x, 120, 84);
    let x = net.relu(x);
    net.linear("fc3", x, 84, classes);
    net.finish()
}
