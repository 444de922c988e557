//! VGG (Simonyan and Zisserman, 2014, arXiv:1409.1556): 3×3 convolutions in five stages, without or with BatchNorm.

use super::KAIMING_FAN_OUT;
use crate::builder::Builder;
use crate::network::Network;
use crate::op::Conv2d;

/// `depths` convolutions in each stage.
pub(crate) fn vgg(name: &str, depths: [usize; 5], batch_norm: bool, classes: usize) -> Network {
    let mut net = Builder::new(name, KAIMING_FAN_OUT);
    let mut x = net.input(3);
    let mut number = 0; // counts the modules of `features`, those without parameters too
    for (depth, channels) in depths.into_iter().zip([64, 128, 256, 512, 512]) {
        for _ in 0..depth {
            x = net.conv(&format!("features.{number}"), x, Conv2d::to(channels, 3).bias());
            if batch_norm {
                number += 1;
                x = net.batch_norm(&format!("features.{number}"), x);
            }
            x = net.relu(x);
            number += 2;
        }
        x = net.max_pool(x, 2, 2, 0);
        number += 1;
    }
    let x = net.adaptive_avg_pool(x, 7);
    let mut x = net.flatten(x);
    for name in ["classifier.0", "classifier.3"] {
        x = net.linear(name, x, 4096);
        x = net.relu(x);
        x = net.dropout(x, 0.5);
    }
    net.linear("classifier.6", x, classes);
    net.finish()
}
