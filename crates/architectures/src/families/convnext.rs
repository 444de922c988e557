//! ConvNeXt (Liu et al., 2022, arXiv:2201.03545): depthwise 7×7 convolutions between layers borrowed from transformers. And ConvNeXt V2
//! (Woo et al., 2023, arXiv:2301.00808): channels that respond alike compete, and no branch is scaled down.

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::{Activation, Conv2d};

const EPSILON: f64 = 1e-6;
const LAYER_SCALE: f64 = 1e-6;

/// What V2 does otherwise.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    One,
    Two,
}

/// Depth and channels of the four stages, and the stochastic depth of the last block.
pub(crate) fn convnext(name: &str, stages: [(usize, usize); 4], stochastic_depth: f64, classes: usize) -> Network {
    network(name, Version::One, stages, stochastic_depth, classes)
}

/// Blocks of the four stages, and channels of the first, which double from stage to stage.
pub(crate) fn convnext_v2(name: &str, depths: [usize; 4], channels: usize, classes: usize) -> Network {
    let stages = [0, 1, 2, 3].map(|stage| (depths[stage], channels << stage));
    network(name, Version::Two, stages, 0.0, classes)
}

fn network(
    name: &str,
    version: Version,
    stages: [(usize, usize); 4],
    stochastic_depth: f64,
    classes: usize,
) -> Network {
    let blocks: usize = stages.iter().map(|(depth, _)| depth).sum();
    let mut net = Builder::new(name, Scheme::of(Draw::Normal(0.02), Draw::Constant(0.0)));
    let x = net.input(3);
    let x = net.conv("features.0.0", x, Conv2d::to(stages[0].1, 4).stride(4).padding(0).bias());
    let mut x = net.layer_norm_2d("features.0.1", x, EPSILON);
    let mut block = 0;
    for (stage, (depth, channels)) in stages.into_iter().enumerate() {
        if stage > 0 {
            let layer = |suffix: usize| format!("features.{}.{suffix}", 2 * stage);
            x = net.layer_norm_2d(&layer(0), x, EPSILON);
            x = net.conv(&layer(1), x, Conv2d::to(channels, 2).stride(2).padding(0).bias());
        }
        for index in 0..depth {
            let probability = stochastic_depth * block as f64 / (blocks - 1) as f64;
            x = residual_block(&mut net, &format!("features.{}.{index}", 2 * stage + 1), version, x, probability);
            block += 1;
        }
    }
    let x = net.adaptive_avg_pool(x, 1);
    let x = net.layer_norm_2d("classifier.0", x, EPSILON);
    let x = net.flatten(x);
    net.linear("classifier.2", x, classes);
    net.finish()
}

fn residual_block(net: &mut Builder, name: &str, version: Version, x: NodeId, stochastic_depth: f64) -> NodeId {
    let channels = net.width(x);
    let layer = |index: usize| format!("{name}.block.{index}");
    let scale = (version == Version::One)
        .then(|| net.learned(&format!("{name}.layer_scale"), [channels, 1, 1], 0, Draw::Constant(LAYER_SCALE)));
    let y = net.conv(&layer(0), x, Conv2d::to(channels, 7).groups(channels).bias());
    let y = net.channels_last(y);
    let y = net.layer_norm(&layer(2), y, EPSILON);
    let y = net.linear(&layer(3), y, 4 * channels);
    let y = net.activation(y, Activation::Gelu);
    let (y, last) = match version {
        Version::One => (y, 5),
        Version::Two => (net.response_norm(&layer(5), y, EPSILON), 6),
    };
    let y = net.linear(&layer(last), y, channels);
    let y = net.channels_first(y);
    let y = scale.map_or(y, |scale| net.mul(y, scale));
    let y = net.stochastic_depth(y, stochastic_depth);
    net.add(y, x)
}
