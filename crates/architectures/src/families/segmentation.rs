//! Networks that tell the class of each pixel, N×classes×H×W: FCN (Long et al., 2014, arXiv:1411.4038), DeepLabV3 (Chen et al.,
//! 2017, arXiv:1706.05587) and LR-ASPP (Howard et al., 2019, arXiv:1905.02244) as torchvision has them, and U-Net (Ronneberger et
//! al., 2015, arXiv:1505.04597) with BatchNorm and zeros around the image, so that the mask has its size.

use super::{mobilenet_v3, resnet};
use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::{Activation, Conv2d, Draws};

/// Heads are drawn as PyTorch draws every layer.
const DRAWN: Draws = Draws { weight: Draw::PytorchDefault, bias: Draw::PytorchDefault };
/// BatchNorm of the heads.
const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;
/// The stages of a ResNet that see more instead of having fewer pixels.
const DILATIONS: [usize; 4] = [1, 1, 2, 4];

/// The part of MobileNetV3 that gives an eighth of the pixels.
const LOW: usize = 4;
/// How much the loss of an auxiliary head counts.
const AUXILIARY: f64 = 0.5;

/// FCN on a ResNet of these depths.
pub(crate) fn fcn(name: &str, depths: [usize; 4], has_auxiliary: bool, classes: usize) -> Network {
    let mut net = Builder::new(name, resnet::SCHEME);
    let images = net.input(3);
    let stages = resnet::stages(&mut net, "backbone.", resnet::Block::BOTTLENECK, images, depths, DILATIONS);
    let auxiliary = has_auxiliary.then(|| auxiliary(&mut net, stages[2], images, classes));
    fcn_head(&mut net, "classifier", stages[3], images, classes);
    finish(net, auxiliary)
}

/// DeepLabV3 on a ResNet of these depths.
pub(crate) fn deeplabv3(name: &str, depths: [usize; 4], has_auxiliary: bool, classes: usize) -> Network {
    let mut net = Builder::new(name, resnet::SCHEME);
    let images = net.input(3);
    let stages = resnet::stages(&mut net, "backbone.", resnet::Block::BOTTLENECK, images, depths, DILATIONS);
    let auxiliary = has_auxiliary.then(|| auxiliary(&mut net, stages[2], images, classes));
    deeplab_head(&mut net, stages[3], images, classes);
    finish(net, auxiliary)
}

/// DeepLabV3 on MobileNetV3.
pub(crate) fn deeplabv3_mobilenet(name: &str, has_auxiliary: bool, classes: usize) -> Network {
    let (mut net, images, parts) = mobilenet(name);
    let auxiliary = has_auxiliary.then(|| auxiliary(&mut net, parts[LOW], images, classes));
    deeplab_head(&mut net, parts[parts.len() - 1], images, classes);
    finish(net, auxiliary)
}

/// LR-ASPP on MobileNetV3.
pub(crate) fn lraspp(name: &str, classes: usize) -> Network {
    let (mut net, images, parts) = mobilenet(name);
    let (low, high) = (parts[LOW], parts[parts.len() - 1]);
    let x = conv_norm(&mut net, ["classifier.cbr.0", "classifier.cbr.1"], high, Conv2d::to(128, 1));
    let scale = net.adaptive_avg_pool(high, 1);
    let scale = net.conv_drawn("classifier.scale.1", scale, Conv2d::to(128, 1), DRAWN);
    let scale = net.activation(scale, Activation::Sigmoid);
    let x = net.mul(x, scale);
    let x = net.resize_like(x, low);
    let low = net.conv_drawn("classifier.low_classifier", low, Conv2d::to(classes, 1).bias(), DRAWN);
    let high = net.conv_drawn("classifier.high_classifier", x, Conv2d::to(classes, 1).bias(), DRAWN);
    let sum = net.add(low, high);
    net.resize_like(sum, images);
    net.finish()
}

/// U-Net with so many channels at the top, twice as many at each of four steps down.
pub(crate) fn unet(name: &str, channels: usize, classes: usize) -> Network {
    const STEPS: usize = 4;
    let mut net = Builder::new(name, Scheme::of(Draw::KaimingFanOut, Draw::Constant(0.0)));
    let mut x = net.input(3);
    let mut passed = Vec::new();
    for step in 0..STEPS {
        x = twice(&mut net, &format!("down.{step}"), x, channels << step);
        passed.push(x);
        x = net.max_pool(x, 2, 2, 0);
    }
    x = twice(&mut net, "middle", x, channels << STEPS);
    for step in (0..STEPS).rev() {
        let beside = passed[step];
        x = net.resize_like(x, beside);
        x = net.concat_channels(&[beside, x]);
        x = twice(&mut net, &format!("up.{step}"), x, channels << step);
    }
    net.conv_drawn("classifier", x, Conv2d::to(classes, 1).bias(), DRAWN);
    net.finish()
}

/// FCN's head, of these names.
fn fcn_head(net: &mut Builder, name: &str, x: NodeId, images: NodeId, classes: usize) -> NodeId {
    let layer = |index: usize| format!("{name}.{index}");
    let conv = Conv2d::to(net.width(x) / 4, 3);
    let x = conv_norm(net, [&layer(0), &layer(1)], x, conv);
    let x = net.dropout(x, 0.1);
    masks(net, &layer(4), x, images, classes)
}

/// The auxiliary head, which sees an earlier layer: the node before it, and its last.
fn auxiliary(net: &mut Builder, x: NodeId, images: NodeId, classes: usize) -> [NodeId; 2] {
    let before = net.last();
    let logits = fcn_head(net, "aux_classifier", x, images, classes);
    net.auxiliary(logits, AUXILIARY);
    [before, logits]
}

/// The network, whose original lists its auxiliary head last.
fn finish(mut net: Builder, auxiliary: Option<[NodeId; 2]>) -> Network {
    if let Some([before, last]) = auxiliary {
        net.list_last(before, last);
    }
    net.finish()
}

/// Two convolutions with BatchNorm and ReLU.
fn twice(net: &mut Builder, name: &str, x: NodeId, channels: usize) -> NodeId {
    let x = net.conv_norm(&format!("{name}.0"), x, Conv2d::to(channels, 3), Some(Activation::Relu));
    net.conv_norm(&format!("{name}.1"), x, Conv2d::to(channels, 3), Some(Activation::Relu))
}

/// MobileNetV3 with all that its parts give.
fn mobilenet(name: &str) -> (Builder, NodeId, Vec<NodeId>) {
    let mut net = Builder::new(name, super::KAIMING_FAN_OUT);
    net.set_batch_norm(mobilenet_v3::EPSILON, mobilenet_v3::MOMENTUM);
    let images = net.input(3);
    let parts = mobilenet_v3::large_features(&mut net, "backbone", images, true);
    net.set_batch_norm(EPSILON, MOMENTUM);
    (net, images, parts)
}

/// Looks at `x` in steps of 1, 12, 24 and 36 pixels and as a whole, side by side.
fn deeplab_head(net: &mut Builder, x: NodeId, images: NodeId, classes: usize) {
    const CHANNELS: usize = 256;
    let name = |branch: usize, layer: usize| format!("classifier.0.convs.{branch}.{layer}");
    let mut branches = Vec::new();
    for (branch, dilation) in [1, 12, 24, 36].into_iter().enumerate() {
        let conv = if dilation == 1 { Conv2d::to(CHANNELS, 1) } else { Conv2d::to(CHANNELS, 3).dilation(dilation) };
        branches.push(conv_norm(net, [&name(branch, 0), &name(branch, 1)], x, conv));
    }
    let whole = net.adaptive_avg_pool(x, 1);
    let whole = conv_norm(net, [&name(4, 1), &name(4, 2)], whole, Conv2d::to(CHANNELS, 1));
    branches.push(net.resize_like(whole, x));
    let y = net.concat_channels(&branches);
    let y = conv_norm(net, ["classifier.0.project.0", "classifier.0.project.1"], y, Conv2d::to(CHANNELS, 1));
    let y = net.dropout(y, 0.5);
    let y = conv_norm(net, ["classifier.1", "classifier.2"], y, Conv2d::to(CHANNELS, 3));
    masks(net, "classifier.4", y, images, classes);
}

/// A convolution, BatchNorm and ReLU, of these names.
fn conv_norm(net: &mut Builder, [conv_name, norm_name]: [&str; 2], x: NodeId, conv: Conv2d) -> NodeId {
    let x = net.conv_drawn(conv_name, x, conv, DRAWN);
    let x = net.batch_norm(norm_name, x);
    net.relu(x)
}

/// The class of each pixel of the images.
fn masks(net: &mut Builder, name: &str, x: NodeId, images: NodeId, classes: usize) -> NodeId {
    let x = net.conv_drawn(name, x, Conv2d::to(classes, 1).bias(), DRAWN);
    net.resize_like(x, images)
}
