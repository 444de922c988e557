//! RegNet (Radosavovic et al., 2020, arXiv:2003.13678): ResNet's bottlenecks without the neck, in widths that follow a line; Y is X with
//! squeeze-and-excitation.

use crate::builder::{Builder, Scheme};
use crate::draw::Draw;
use crate::network::{Network, NodeId};
use crate::op::Activation::{Relu, Sigmoid};
use crate::op::{Conv2d, Draws};

const SCHEME: Scheme = Scheme {
    conv: Draws { weight: Draw::KaimingFanOut, bias: Draw::PytorchDefault },
    linear: Draws { weight: Draw::Normal(0.01), bias: Draw::Constant(0.0) },
};

/// The line that a network's widths are on, and what follows from it.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    /// Blocks.
    pub depth: usize,
    /// Channels of the first block, and how many more each later one would have.
    pub start: usize,
    pub slope: f64,
    /// The widths that there are: `start` times powers of this.
    pub factor: f64,
    /// Channels that a 3×3 convolution sees together, at most.
    pub group: usize,
    /// The part of a block's channels in that its squeeze has channels; none of X.
    pub squeeze: Option<f64>,
}

impl Line {
    /// Channels and blocks of each stage: the line's widths, each the nearest that there is.
    fn stages(self) -> Vec<(usize, usize)> {
        let mut stages: Vec<(usize, usize)> = Vec::new();
        let start = self.start as f64;
        for block in 0..self.depth {
            let width = block as f64 * self.slope + start;
            let power = ((width / start).ln() / self.factor.ln()).round_ties_even();
            let width = ((start * self.factor.powf(power) / 8.0).round_ties_even() * 8.0) as usize;
            match stages.last_mut() {
                Some((last, blocks)) if *last == width => *blocks += 1,
                _ => stages.push((width, 1)),
            }
        }
        // Whole groups.
        let whole = |width: usize| {
            let group = self.group.min(width);
            let rounded = (width + group / 2) / group * group;
            if (rounded as f64) < 0.9 * width as f64 { rounded + group } else { rounded.max(group) }
        };
        stages.into_iter().map(|(width, blocks)| (whole(width), blocks)).collect()
    }
}

pub(crate) fn regnet(name: &str, line: Line, classes: usize) -> Network {
    let mut net = Builder::new(name, SCHEME);
    let x = net.input(3);
    let mut x = net.conv_norm("stem", x, Conv2d::to(32, 3).stride(2), Some(Relu));
    for (stage, (width, blocks)) in (1..).zip(line.stages()) {
        for index in 0..blocks {
            let name = format!("trunk_output.block{stage}.block{stage}-{index}");
            x = block(&mut net, &name, x, width, line, if index == 0 { 2 } else { 1 });
        }
    }
    let x = net.global_avg_pool(x);
    net.linear("fc", x, classes);
    net.finish()
}

fn block(net: &mut Builder, name: &str, x: NodeId, width: usize, line: Line, stride: usize) -> NodeId {
    let layer = |suffix: &str| format!("{name}.{suffix}");
    let before = net.width(x);
    let shortcut = if before == width && stride == 1 {
        x
    } else {
        net.conv_norm(&layer("proj"), x, Conv2d::to(width, 1).stride(stride), None)
    };
    let groups = width / line.group.min(width);
    let y = net.conv_norm(&layer("f.a"), x, Conv2d::to(width, 1), Some(Relu));
    let mut y = net.conv_norm(&layer("f.b"), y, Conv2d::to(width, 3).stride(stride).groups(groups), Some(Relu));
    if let Some(part) = line.squeeze {
        let squeeze = (part * before as f64).round_ties_even() as usize;
        y = net.squeeze_excitation(&layer("f.se"), y, squeeze, Relu, Sigmoid);
    }
    let y = net.conv_norm(&layer("f.c"), y, Conv2d::to(width, 1), None);
    let sum = net.add(shortcut, y);
    net.relu(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_the_papers() {
        // Table 3 of the paper: RegNetX-3.2GF and RegNetX-400MF.
        let x_3_2gf = Line { depth: 25, start: 88, slope: 26.31, factor: 2.25, group: 48, squeeze: None };
        assert_eq!(x_3_2gf.stages(), [(96, 2), (192, 6), (432, 15), (1008, 2)]);
        let x_400mf = Line { depth: 22, start: 24, slope: 24.48, factor: 2.54, group: 16, squeeze: None };
        assert_eq!(x_400mf.stages(), [(32, 1), (64, 2), (160, 7), (400, 12)]);
    }
}
