//! Shapes of values, and how operations change them.

use std::fmt;

use crate::network::{Network, NodeId};
use crate::op::{Op, same_padding};

/// The shape of one sample's value, without the batch: C×H×W for an image, L×C for tokens, F for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// The sides, outermost first.
    pub fn sides(&self) -> &[usize] {
        &self.0
    }

    /// Values per sample.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sides: [usize; N]) -> Self {
        Self(sides.to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&sides.join("×"))
    }
}

/// An image size that a network cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{network} cannot take images of {height}×{width} pixels: {reason} at {node}")]
pub struct ShapeError {
    network: String,
    height: usize,
    width: usize,
    node: String,
    reason: String,
}

impl Network {
    /// The shape of every node's value for images of `height`×`width` pixels.
    ///
    /// # Errors
    /// An image too small for the network, or a network whose layers do not fit together.
    pub fn shapes(&self, height: usize, width: usize) -> Result<Vec<Shape>, ShapeError> {
        self.shapes_until(self.nodes().len(), height, width)
    }

    /// The same of the nodes before `end`.
    pub(crate) fn shapes_until(&self, end: usize, height: usize, width: usize) -> Result<Vec<Shape>, ShapeError> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(end);
        for node in &self.nodes()[..end] {
            let inputs: Vec<_> = node.inputs.iter().map(|&input: &NodeId| &shapes[input.index()]).collect();
            let shape = output_shape(&node.op, &inputs, height, width).map_err(|reason| ShapeError {
                network: self.name().to_owned(),
                height,
                width,
                node: if node.name.is_empty() { node.op.word().to_owned() } else { node.name.clone() },
                reason,
            })?;
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// The name of a BatchNorm that sees only one value of each channel in an image of `height`×`width` pixels, if there
    /// is one: in training it needs two images at least, since one value has no variance.
    ///
    /// # Errors
    /// As [`shapes`](Self::shapes).
    pub fn single_value_norm(&self, height: usize, width: usize) -> Result<Option<&str>, ShapeError> {
        let shapes = self.shapes(height, width)?;
        let is_single = |shape: &Shape| shape.sides().get(1..).is_some_and(|sides| sides.iter().all(|&side| side == 1));
        let mut nodes = self.nodes().iter().zip(&shapes);
        let found = nodes.find(|(node, shape)| matches!(node.op, Op::BatchNorm2d { .. }) && is_single(shape));
        Ok(found.map(|(node, _)| node.name.as_str()))
    }
}

/// How often a window fits into `side`, in steps of `stride`.
fn slide(side: usize, kernel: usize, stride: usize, padding: usize, ceil: bool) -> Result<usize, String> {
    let room = (side + 2 * padding).checked_sub(kernel);
    let room = room.ok_or_else(|| format!("a window of {kernel} does not fit into {side}"))?;
    let windows = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
    // A window that would begin beyond the image is left out, as in PyTorch.
    Ok(if ceil && (windows - 1) * stride >= side + padding { windows - 1 } else { windows })
}

fn output_shape(op: &Op, inputs: &[&Shape], height: usize, width: usize) -> Result<Shape, String> {
    let sides: Vec<_> = inputs.iter().map(|shape| shape.sides()).collect();
    let pool = |c: usize, h, w, kernel, stride, padding, ceil| -> Result<Shape, String> {
        Ok([c, slide(h, kernel, stride, padding, ceil)?, slide(w, kernel, stride, padding, ceil)?].into())
    };
    let windows = |h: usize, w: usize, window: usize| h.div_ceil(window) * w.div_ceil(window);
    Ok(match (op, sides.as_slice()) {
        (&Op::Input { channels }, []) if height > 0 && width > 0 => [channels, height, width].into(),
        (Op::Learned { shape, .. }, []) => shape.clone(),
        (&Op::RelativePositionBias { window, heads, .. }, []) => [heads, window * window, window * window].into(),
        (&Op::LogOffsets { window }, []) => [(2 * window - 1).pow(2), 2].into(),
        (&Op::PositionBiasFrom { window, heads }, &[&[rows, columns]])
            if rows == (2 * window - 1).pow(2) && columns == heads =>
        {
            [heads, window * window, window * window].into()
        }
        (&Op::QueriesKeysValues { features, .. }, &[sides]) if sides.last() == Some(&features) => {
            Shape([&sides[..sides.len() - 1], &[3 * features]].concat())
        }
        (Op::Conv2d(conv), &[&[channels, h, w]]) if channels == conv.in_channels => {
            let [kernel, padding] = [conv.kernel.map(|side| conv.dilation * (side - 1) + 1), conv.padding];
            let slide = |side, axis: usize| slide(side, kernel[axis], conv.stride, padding[axis], false);
            [conv.out_channels, slide(h, 0)?, slide(w, 1)?].into()
        }
        (&Op::BatchNorm2d { features, .. }, &[&[channels, _, _]]) if channels == features => inputs[0].clone(),
        (&Op::LayerNorm { features, .. }, &[sides]) if sides.last() == Some(&features) => inputs[0].clone(),
        (&Op::ResponseNorm { features, .. }, &[&[_, _, channels]]) if channels == features => inputs[0].clone(),
        (Op::Activation(_) | Op::Dropout { .. } | Op::StochasticDepth { .. }, &[_]) => inputs[0].clone(),
        (&Op::PadSame { kernel, stride }, &[&[channels, h, w]]) => {
            let padded = |side: usize| side + same_padding(side, kernel, stride).iter().sum::<usize>();
            [channels, padded(h), padded(w)].into()
        }
        (&Op::MaxPool2d { kernel, stride, padding, ceil }, &[&[channels, h, w]]) => {
            pool(channels, h, w, kernel, stride, padding, ceil)?
        }
        (&Op::AvgPool2d { kernel, stride, padding }, &[&[channels, h, w]]) => {
            pool(channels, h, w, kernel, stride, padding, false)?
        }
        (&Op::AdaptiveAvgPool2d { output }, &[&[channels, _, _]]) => [channels, output, output].into(),
        (Op::Flatten, &[_]) => [inputs[0].elements()].into(),
        (&Op::Linear { in_features, out_features, .. }, &[sides]) if sides.last() == Some(&in_features) => {
            let mut sides = sides.to_vec();
            sides.pop();
            sides.push(out_features);
            Shape(sides)
        }
        (&Op::RotaryPositions { heads, others, .. }, &[&[tokens, features]])
            if features % (3 * heads) == 0 && (features / (3 * heads)).is_multiple_of(4) && tokens > others =>
        {
            if (tokens - others).isqrt().pow(2) != tokens - others {
                return Err(format!("{} patches are no square", tokens - others));
            }
            inputs[0].clone()
        }
        (Op::SwiGlu, &[&[tokens, features]]) if features % 2 == 0 => [tokens, features / 2].into(),
        (&Op::TokenMean { others }, &[&[tokens, features]]) if tokens > others => [features].into(),
        (Op::Add | Op::Mul, &[left, right]) if broadcasts(left, right) => {
            Shape(left.iter().zip(right).map(|(&left, &right)| left.max(right)).collect())
        }
        (Op::ResizeLike, &[&[channels, _, _], &[_, h, w]]) => [channels, h, w].into(),
        (Op::Concat, parts) if parts.iter().all(|part| part.len() > 1 && part[1..] == parts[0][1..]) => {
            let mut sides = parts[0].to_vec();
            sides[0] = parts.iter().map(|part| part[0]).sum();
            Shape(sides)
        }
        (&Op::Slice { start, end }, &[sides]) if start < end && end <= sides[0] => {
            let mut sides = sides.to_vec();
            sides[0] = end - start;
            Shape(sides)
        }
        (&Op::ChannelShuffle { groups }, &[&[channels, _, _]]) if channels % groups == 0 => inputs[0].clone(),
        (&Op::Permute { order }, &[sides @ &[_, _, _]]) => order.map(|axis| sides[axis]).into(),
        (Op::PixelsToTokens, &[&[channels, h, w]]) => [h * w, channels].into(),
        (Op::MergeNeighbours, &[&[h, w, channels]]) => [h.div_ceil(2), w.div_ceil(2), 4 * channels].into(),
        (&Op::Attention { heads }, &[&[tokens, features]]) if features % (3 * heads) == 0 => {
            [tokens, features / 3].into()
        }
        (&Op::MultiQueryAttention { heads }, &[&[channels, _, _], keys @ &[head, _, _], values])
            if channels == heads * head && keys == values =>
        {
            inputs[0].clone()
        }
        (&Op::PartitionWindows { window, .. }, &[&[h, w, channels]]) => {
            [windows(h, w, window), window * window, channels].into()
        }
        (
            &Op::WindowAttention { heads, window, .. },
            &[&[count, tokens, features], &[bias, ..], &[h, w, _], ref scale @ ..],
        ) if (scale.is_empty() || scale == [&[heads, 1, 1]])
            && tokens == window * window
            && bias == heads
            && features % (3 * heads) == 0
            && count == windows(h, w, window) =>
        {
            [count, tokens, features / 3].into()
        }
        (&Op::JoinWindows { window, .. }, &[&[count, tokens, channels], &[h, w, _]])
            if tokens == window * window && count == windows(h, w, window) =>
        {
            [h, w, channels].into()
        }
        (&Op::PartitionGrid { side }, &[&[h, w, channels]]) => {
            if !h.is_multiple_of(side) || !w.is_multiple_of(side) {
                return Err(format!("{h}×{w} positions cannot be cut into {side}×{side} equal cells"));
            }
            [h * w / side.pow(2), side * side, channels].into()
        }
        (&Op::JoinGrid { side }, &[&[count, tokens, channels], &[h, w, _]])
            if tokens == side * side && count == h * w / tokens =>
        {
            [h, w, channels].into()
        }
        (&Op::PadShortcut { out_channels, stride }, &[&[channels, h, w]]) if out_channels >= channels => {
            [out_channels, h.div_ceil(stride), w.div_ceil(stride)].into()
        }
        _ => {
            let inputs: Vec<_> = inputs.iter().map(ToString::to_string).collect();
            return Err(format!("inputs of shape {} do not fit", inputs.join(" and ")));
        }
    })
}

/// Whether two shapes are the same but for ones.
fn broadcasts(left: &[usize], right: &[usize]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left == right || *left == 1 || *right == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_over_the_edge_count_as_in_pytorch() {
        // (side, kernel, stride, padding, ceil) -> windows, from torch.nn.functional.max_pool2d.
        let cases = [
            ((109, 3, 2, 0, true), 54),
            ((54, 3, 2, 0, true), 27),
            ((111, 3, 2, 0, true), 55),
            ((4, 2, 3, 0, true), 2),
            ((3, 2, 3, 0, true), 1),
            ((3, 2, 3, 1, true), 2),
            ((112, 3, 2, 1, false), 56),
        ];
        for ((side, kernel, stride, padding, ceil), expected) in cases {
            assert_eq!(slide(side, kernel, stride, padding, ceil), Ok(expected), "{side} {kernel} {stride} {padding}");
        }
        assert!(slide(2, 3, 1, 0, false).is_err());
    }
}
