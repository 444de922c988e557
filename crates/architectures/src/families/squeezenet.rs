//! SqueezeNet (Iandola et al., 2016, arXiv:1602.07360): "fire" modules that squeeze the channels and expand them again.

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::{Conv2d, Draws};

/// A module of `features`, by its place there.
enum Module {
    Pool,
    /// Channels after the squeeze, and of each of the two expansions.
    Fire(usize, usize),
}
use Module::{Fire, Pool};

pub(crate) fn squeezenet1_0(classes: usize) -> Network {
    let modules = [
        Pool,
        Fire(16, 64),
        Fire(16, 64),
        Fire(32, 128),
        Pool,
        Fire(32, 128),
        Fire(48, 192),
        Fire(48, 192),
        Fire(64, 256),
        Pool,
        Fire(64, 256),
    ];
    squeezenet("squeezenet1_0", Conv2d::to(96, 7), &modules, classes)
}

pub(crate) fn squeezenet1_1(classes: usize) -> Network {
    let modules = [
        Pool,
        Fire(16, 64),
        Fire(16, 64),
        Pool,
        Fire(32, 128),
        Fire(32, 128),
        Pool,
        Fire(48, 192),
        Fire(48, 192),
        Fire(64, 256),
        Fire(64, 256),
    ];
    squeezenet("squeezenet1_1", Conv2d::to(64, 3), &modules, classes)
}

fn squeezenet(name: &str, stem: Conv2d, modules: &[Module], classes: usize) -> Network {
    let zero = Draw::Constant(0.0);
    let mut net = Builder::new(name, Scheme::of(Draw::KaimingUniform, zero));
    let x = net.input(3);
    let x = net.conv("features.0", x, stem.stride(2).padding(0).bias());
    let mut x = net.relu(x);
    for (number, module) in (2..).zip(modules) {
        x = match *module {
            Pool => net.max_pool_ceil(x, 3, 2),
            Fire(squeeze, expand) => fire(&mut net, &format!("features.{number}"), x, squeeze, expand),
        };
    }
    let x = net.dropout(x, 0.5);
    let draws = Draws { weight: Draw::Normal(0.01), bias: zero };
    let x = net.conv_drawn("classifier.1", x, Conv2d::to(classes, 1).bias(), draws);
    let x = net.relu(x);
    net.global_avg_pool(x);
    net.finish()
}

fn fire(net: &mut Builder, name: &str, x: NodeId, squeeze: usize, expand: usize) -> NodeId {
    let x = net.conv(&format!("{name}.squeeze"), x, Conv2d::to(squeeze, 1).bias());
    let x = net.relu(x);
    let parts = [("expand1x1", 1), ("expand3x3", 3)].map(|(part, kernel)| {
        let y = net.conv(&format!("{name}.{part}"), x, Conv2d::to(expand, kernel).bias());
        net.relu(y)
    });
    net.concat_channels(&parts)
}
