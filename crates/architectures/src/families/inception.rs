//! GoogLeNet (Szegedy et al., 2014, arXiv:1409.4842) and Inception v3 (Szegedy et al., 2015, arXiv:1512.00567): several convolutions side by
//! side, and their channels one after the other. In training with the auxiliary heads that both have, or without.

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::{Conv2d, Draws};

const fn scheme(std: f64) -> Scheme {
    let draws = Draws { weight: Draw::Normal(std), bias: Draw::PytorchDefault };
    Scheme { conv: draws, linear: draws }
}

/// A convolution `NAME.conv`, BatchNorm `NAME.bn`, ReLU.
fn conv(net: &mut Builder, name: &str, x: NodeId, conv: Conv2d) -> NodeId {
    let x = net.conv(&format!("{name}.conv"), x, conv);
    let x = net.batch_norm(&format!("{name}.bn"), x);
    net.relu(x)
}

/// Convolutions one after the other, by the names that `name` makes of theirs.
fn chain(net: &mut Builder, name: &str, x: NodeId, convs: &[(&str, Conv2d)]) -> NodeId {
    convs.iter().fold(x, |x, (layer, layer_conv)| conv(net, &format!("{name}.{layer}"), x, layer_conv.clone()))
}

/// The channels of the branches of GoogLeNet's blocks: 1×1; before and in 3×3; before and in the second 3×3 (5×5 in the paper); after pooling.
const BLOCKS: [(&str, [usize; 6]); 9] = [
    ("3a", [64, 96, 128, 16, 32, 32]),
    ("3b", [128, 128, 192, 32, 96, 64]),
    ("4a", [192, 96, 208, 16, 48, 64]),
    ("4b", [160, 112, 224, 24, 64, 64]),
    ("4c", [128, 128, 256, 24, 64, 64]),
    ("4d", [112, 144, 288, 32, 64, 64]),
    ("4e", [256, 160, 320, 32, 128, 128]),
    ("5a", [256, 160, 320, 32, 128, 128]),
    ("5b", [384, 192, 384, 48, 128, 128]),
];

/// With auxiliary heads after blocks 4a and 4d, or without.
pub(crate) fn googlenet(has_auxiliary: bool, classes: usize) -> Network {
    let mut net = Builder::new("googlenet", scheme(0.01)).with_batch_norm(1e-3, 0.1);
    let x = net.input(3);
    let x = conv(&mut net, "conv1", x, Conv2d::to(64, 7).stride(2));
    let x = net.max_pool_ceil(x, 3, 2);
    let x = conv(&mut net, "conv2", x, Conv2d::to(64, 1));
    let x = conv(&mut net, "conv3", x, Conv2d::to(192, 3));
    let mut x = net.max_pool_ceil(x, 3, 2);
    let mut seen = Vec::new();
    for (block, [alone, before, three, before_second, second, pooled]) in BLOCKS {
        x = match block {
            "4a" => net.max_pool_ceil(x, 3, 2),
            "5a" => net.max_pool_ceil(x, 2, 2),
            _ => x,
        };
        let name = |branch: &str| format!("inception{block}.{branch}");
        let first = conv(&mut net, &name("branch1"), x, Conv2d::to(alone, 1));
        let threes = [("0", Conv2d::to(before, 1)), ("1", Conv2d::to(three, 3))];
        let threes = chain(&mut net, &name("branch2"), x, &threes);
        let seconds = [("0", Conv2d::to(before_second, 1)), ("1", Conv2d::to(second, 3))];
        let seconds = chain(&mut net, &name("branch3"), x, &seconds);
        let pool = net.max_pool(x, 3, 1, 1);
        let pool = conv(&mut net, &name("branch4.1"), pool, Conv2d::to(pooled, 1));
        x = net.concat_channels(&[first, threes, seconds, pool]);
        if has_auxiliary && matches!(block, "4a" | "4d") {
            seen.push(x);
        }
    }
    let auxiliary: Vec<_> = seen.into_iter().zip(["aux1", "aux2"]).collect();
    let auxiliary = auxiliary.into_iter().map(|(x, name)| googlenet_auxiliary(&mut net, name, x, classes));
    let auxiliary: Vec<_> = auxiliary.collect();
    // The original gives the later one first.
    auxiliary.into_iter().rev().for_each(|node| net.auxiliary(node, 0.3));
    let x = net.global_avg_pool(x);
    let x = net.dropout(x, 0.2);
    net.linear("fc", x, classes);
    net.finish()
}

/// An auxiliary head of GoogLeNet.
fn googlenet_auxiliary(net: &mut Builder, name: &str, x: NodeId, classes: usize) -> NodeId {
    const SIDE: usize = 4;
    let x = net.adaptive_avg_pool(x, SIDE);
    let x = conv(net, &format!("{name}.conv"), x, Conv2d::to(128, 1));
    let x = net.flatten_of(x, SIDE);
    let x = net.linear(&format!("{name}.fc1"), x, 1024);
    let x = net.relu(x);
    let x = net.dropout(x, 0.7);
    net.linear(&format!("{name}.fc2"), x, classes)
}

/// With an auxiliary head after the last block of 17 pixels, or without.
pub(crate) fn inception_v3(has_auxiliary: bool, classes: usize) -> Network {
    let mut builder = Builder::new("inception_v3", scheme(0.1)).with_batch_norm(1e-3, 0.1);
    let net = &mut builder;
    let x = net.input(3);
    let x = conv(net, "Conv2d_1a_3x3", x, Conv2d::to(32, 3).stride(2).padding(0));
    let x = conv(net, "Conv2d_2a_3x3", x, Conv2d::to(32, 3).padding(0));
    let x = conv(net, "Conv2d_2b_3x3", x, Conv2d::to(64, 3));
    let x = net.max_pool(x, 3, 2, 0);
    let x = conv(net, "Conv2d_3b_1x1", x, Conv2d::to(80, 1));
    let x = conv(net, "Conv2d_4a_3x3", x, Conv2d::to(192, 3).padding(0));
    let mut x = net.max_pool(x, 3, 2, 0);
    for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
        x = block_of_35(net, name, x, pooled);
    }
    x = shrink_to_17(net, "Mixed_6a", x);
    for (name, channels) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
        x = block_of_17(net, name, x, channels);
    }
    if has_auxiliary {
        let y = net.avg_pool_strided(x, 5, 3);
        let y = chain(net, "AuxLogits", y, &[("conv0", Conv2d::to(128, 1)), ("conv1", Conv2d::to(768, 5).padding(0))]);
        let y = net.global_avg_pool(y);
        let draws = Draws { weight: Draw::Normal(0.001), bias: Draw::PytorchDefault };
        let logits = net.linear_drawn("AuxLogits.fc", y, classes, true, draws);
        net.auxiliary(logits, 0.4);
    }
    x = shrink_to_8(net, "Mixed_7a", x);
    for name in ["Mixed_7b", "Mixed_7c"] {
        x = block_of_8(net, name, x);
    }
    let x = net.global_avg_pool(x);
    let x = net.dropout(x, 0.5);
    net.linear("fc", x, classes);
    builder.finish()
}

/// The last branch of every block that does not shrink: the mean around each pixel, 1×1.
fn pooled(net: &mut Builder, name: &str, x: NodeId, channels: usize) -> NodeId {
    let x = net.blur(x, 3);
    conv(net, &format!("{name}.branch_pool"), x, Conv2d::to(channels, 1))
}

fn block_of_35(net: &mut Builder, name: &str, x: NodeId, channels: usize) -> NodeId {
    let one = chain(net, name, x, &[("branch1x1", Conv2d::to(64, 1))]);
    let five = chain(net, name, x, &[("branch5x5_1", Conv2d::to(48, 1)), ("branch5x5_2", Conv2d::to(64, 5))]);
    let twice = [
        ("branch3x3dbl_1", Conv2d::to(64, 1)),
        ("branch3x3dbl_2", Conv2d::to(96, 3)),
        ("branch3x3dbl_3", Conv2d::to(96, 3)),
    ];
    let twice = chain(net, name, x, &twice);
    let pool = pooled(net, name, x, channels);
    net.concat_channels(&[one, five, twice, pool])
}

fn shrink_to_17(net: &mut Builder, name: &str, x: NodeId) -> NodeId {
    let three = chain(net, name, x, &[("branch3x3", Conv2d::to(384, 3).stride(2).padding(0))]);
    let twice = [
        ("branch3x3dbl_1", Conv2d::to(64, 1)),
        ("branch3x3dbl_2", Conv2d::to(96, 3)),
        ("branch3x3dbl_3", Conv2d::to(96, 3).stride(2).padding(0)),
    ];
    let twice = chain(net, name, x, &twice);
    let pool = net.max_pool(x, 3, 2, 0);
    net.concat_channels(&[three, twice, pool])
}

fn block_of_17(net: &mut Builder, name: &str, x: NodeId, channels: usize) -> NodeId {
    let one = chain(net, name, x, &[("branch1x1", Conv2d::to(192, 1))]);
    let seven = [
        ("branch7x7_1", Conv2d::to(channels, 1)),
        ("branch7x7_2", Conv2d::strip(channels, 1, 7)),
        ("branch7x7_3", Conv2d::strip(192, 7, 1)),
    ];
    let seven = chain(net, name, x, &seven);
    let twice = [
        ("branch7x7dbl_1", Conv2d::to(channels, 1)),
        ("branch7x7dbl_2", Conv2d::strip(channels, 7, 1)),
        ("branch7x7dbl_3", Conv2d::strip(channels, 1, 7)),
        ("branch7x7dbl_4", Conv2d::strip(channels, 7, 1)),
        ("branch7x7dbl_5", Conv2d::strip(192, 1, 7)),
    ];
    let twice = chain(net, name, x, &twice);
    let pool = pooled(net, name, x, 192);
    net.concat_channels(&[one, seven, twice, pool])
}

fn shrink_to_8(net: &mut Builder, name: &str, x: NodeId) -> NodeId {
    let shrinking = |channels| Conv2d::to(channels, 3).stride(2).padding(0);
    let three = chain(net, name, x, &[("branch3x3_1", Conv2d::to(192, 1)), ("branch3x3_2", shrinking(320))]);
    let seven = [
        ("branch7x7x3_1", Conv2d::to(192, 1)),
        ("branch7x7x3_2", Conv2d::strip(192, 1, 7)),
        ("branch7x7x3_3", Conv2d::strip(192, 7, 1)),
        ("branch7x7x3_4", shrinking(192)),
    ];
    let seven = chain(net, name, x, &seven);
    let pool = net.max_pool(x, 3, 2, 0);
    net.concat_channels(&[three, seven, pool])
}

fn block_of_8(net: &mut Builder, name: &str, x: NodeId) -> NodeId {
    let one = chain(net, name, x, &[("branch1x1", Conv2d::to(320, 1))]);
    let three = chain(net, name, x, &[("branch3x3_1", Conv2d::to(384, 1))]);
    let wide = chain(net, name, three, &[("branch3x3_2a", Conv2d::strip(384, 1, 3))]);
    let tall = chain(net, name, three, &[("branch3x3_2b", Conv2d::strip(384, 3, 1))]);
    let twice = [("branch3x3dbl_1", Conv2d::to(448, 1)), ("branch3x3dbl_2", Conv2d::to(384, 3))];
    let twice = chain(net, name, x, &twice);
    let wide_twice = chain(net, name, twice, &[("branch3x3dbl_3a", Conv2d::strip(384, 1, 3))]);
    let tall_twice = chain(net, name, twice, &[("branch3x3dbl_3b", Conv2d::strip(384, 3, 1))]);
    let pool = pooled(net, name, x, 192);
    net.concat_channels(&[one, wide, tall, wide_twice, tall_twice, pool])
}
