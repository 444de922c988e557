//! AlexNet in its second form (Krizhevsky, 2014, arXiv:1404.5997): one column, no normalization of neighbours.

use crate::builder::{Builder, Scheme};
use crate::network::Network;
use crate::op::Conv2d;

pub(crate) fn alexnet(classes: usize) -> Network {
    let mut net = Builder::new("alexnet", Scheme::PYTORCH);
    let x = net.input(3);
    let x = net.conv("features.0", x, Conv2d::to(64, 11).stride(4).padding(2).bias());
    let x = net.relu(x);
    let x = net.max_pool(x, 3, 2, 0);
    let x = net.conv("features.3", x, Conv2d::to(192, 5).bias());
    let x = net.relu(x);
    let mut x = net.max_pool(x, 3, 2, 0);
    for (number, channels) in [(6, 384), (8, 256), (10, 256)] {
        x = net.conv(&format!("features.{number}"), x, Conv2d::to(channels, 3).bias());
        x = net.relu(x);
    }
    let x = net.max_pool(x, 3, 2, 0);
    let x = net.adaptive_avg_pool(x, 6);
    let mut x = net.flatten(x);
    for name in ["classifier.1", "classifier.4"] {
        x = net.dropout(x, 0.5);
        x = net.linear(name, x, 4096);
        x = net.relu(x);
    }
    net.linear("classifier.6", x, classes);
    net.finish()
}
