//! One file for each family of networks.

pub(crate) mod alexnet;
pub(crate) mod cifar_resnet;
pub(crate) mod convnext;
pub(crate) mod densenet;
pub(crate) mod efficientnet;
pub(crate) mod efficientnet_lite;
pub(crate) mod efficientnet_v2;
pub(crate) mod eva02;
pub(crate) mod inception;
pub(crate) mod lenet;
pub(crate) mod maxvit;
pub(crate) mod mnasnet;
pub(crate) mod mobilenet_v2;
pub(crate) mod mobilenet_v3;
pub(crate) mod mobilenet_v4;
pub(crate) mod regnet;
pub(crate) mod resnet;
pub(crate) mod resnet_d;
pub(crate) mod segmentation;
pub(crate) mod shufflenet_v2;
pub(crate) mod squeezenet;
pub(crate) mod swin;
pub(crate) mod vgg;
pub(crate) mod vit;

use crate::builder::Scheme;
use crate::draw::Draw;
use crate::op::Draws;

/// Convolutions Kaiming-normal by fan-out, linear layers normal with 0.01, biases zero: VGG and the MobileNets.
const KAIMING_FAN_OUT: Scheme = Scheme {
    conv: Draws { weight: Draw::KaimingFanOut, bias: Draw::Constant(0.0) },
    linear: Draws { weight: Draw::Normal(0.01), bias: Draw::Constant(0.0) },
};

/// The nearest multiple of 8 that is at least nine tenths of `channels`: how the MobileNets round.
fn round_channels(channels: f64) -> usize {
    let rounded = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * channels { rounded + 8 } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_rounded_to_eights_but_never_lose_a_tenth() {
        for (channels, expected) in [(32.0, 32), (18.0, 24), (44.8, 48), (3.0, 8), (28.8, 32), (25.2, 24), (57.6, 56)] {
            assert_eq!(round_channels(channels), expected, "{channels}");
        }
    }
}
