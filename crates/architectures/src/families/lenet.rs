//! LeNet (LeCun et al., 1998) for images of any size: padded convolutions, ReLU, and a pooled head. The one network
//! without BatchNorm that is small enough for a digit of 8×8 pixels.

use crate::builder::{Builder, Scheme};
use crate::network::Network;
use crate::op::Conv2d;

pub(crate) fn lenet(classes: usize) -> Network {
    let mut net = Builder::new("lenet", Scheme::PYTORCH);
    let mut x = net.input(3);
    for (name, channels) in [("conv1", 6), ("conv2", 16)] {
        x = net.conv(name, x, Conv2d::to(channels, 5).bias());
        x = net.relu(x);
        x = net.max_pool(x, 2, 2, 0);
    }
    let x = net.adaptive_avg_pool(x, 2);
    let x = net.flatten(x);
    let x = net.linear("fc1", x, 120);
    let x = net.relu(x);
    let x = net.linear("fc2", x, 84);
    let x = net.relu(x);
    net.linear("fc3", x, classes);
    net.finish()
}
