//! DenseNet (Huang et al., 2016, arXiv:1608.06993): every layer of a block sees the outputs of all layers before it.

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::Network;
use crate::op::{Conv2d, Draws};

const SCHEME: Scheme = Scheme {
    conv: Draws { weight: Draw::KaimingFanIn, bias: Draw::Constant(0.0) },
    linear: Draws { weight: Draw::PytorchDefault, bias: Draw::Constant(0.0) },
};

/// Layers of each block, and the channels that each of them adds; the first has twice as many.
pub(crate) fn densenet(name: &str, depths: [usize; 4], growth: usize, classes: usize) -> Network {
    let mut net = Builder::new(name, SCHEME);
    let x = net.input(3);
    let x = net.conv("features.conv0", x, Conv2d::to(2 * growth, 7).stride(2));
    let x = net.batch_norm("features.norm0", x);
    let x = net.relu(x);
    let mut x = net.max_pool(x, 3, 2, 1);
    for (block, depth) in (1..).zip(depths) {
        let mut features = vec![x];
        for index in 1..=depth {
            let layer = |suffix: &str| format!("features.denseblock{block}.denselayer{index}.{suffix}");
            let y = if index == 1 { x } else { net.concat_channels(&features) };
            let y = net.batch_norm(&layer("norm1"), y);
            let y = net.relu(y);
            let y = net.conv(&layer("conv1"), y, Conv2d::to(4 * growth, 1));
            let y = net.batch_norm(&layer("norm2"), y);
            let y = net.relu(y);
            features.push(net.conv(&layer("conv2"), y, Conv2d::to(growth, 3)));
        }
        x = net.concat_channels(&features);
        if block < depths.len() {
            let layer = |suffix: &str| format!("features.transition{block}.{suffix}");
            let half = net.width(x) / 2;
            x = net.batch_norm(&layer("norm"), x);
            x = net.relu(x);
            x = net.conv(&layer("conv"), x, Conv2d::to(half, 1));
            x = net.avg_pool(x, 2);
        }
    }
    let x = net.batch_norm("features.norm5", x);
    let x = net.relu(x);
    let x = net.global_avg_pool(x);
    net.linear("classifier", x, classes);
    net.finish()
}

/// The published files are older than torchvision's rule that names have no dots: `norm.1` is `norm1` today.
pub(crate) fn renamed(key: &str) -> Option<String> {
    let (layer, rest) = key.split_at(key.find(".denselayer")? + 1);
    let (number, rest) = rest.split_once('.')?;
    let (part, rest) = rest.split_once('.')?;
    let (index, suffix) = rest.split_once('.')?;
    (["norm", "conv"].contains(&part) && ["1", "2"].contains(&index))
        .then(|| format!("{layer}{number}.{part}{index}.{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_become_new_ones() {
        let old = "features.denseblock2.denselayer10.norm.1.running_mean";
        let new = "features.denseblock2.denselayer10.norm1.running_mean";
        assert_eq!(renamed(old).as_deref(), Some(new));
        assert_eq!(renamed(new), None);
        assert_eq!(renamed("features.transition1.norm.weight"), None);
    }
}
