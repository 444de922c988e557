//! What a network costs: parameters and operations.

use crate::network::Network;
use crate::op::Op;
use crate::shape::{Shape, ShapeError};

/// What a forward pass of one image costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Trained values.
    pub parameters: usize,
    /// Multiply-accumulate operations of convolutions, linear layers and attention, per image.
    pub macs: usize,
}

impl Cost {
    /// Floating-point operations per image: two for each MAC.
    pub fn flops(&self) -> usize {
        2 * self.macs
    }
}

impl Network {
    /// What a forward pass of one image of `height`×`width` pixels costs.
    ///
    /// # Errors
    /// An image that the network cannot take.
    pub fn cost(&self, height: usize, width: usize) -> Result<Cost, ShapeError> {
        let layers = self.layer_costs(height, width)?;
        let sum = |value: fn(&Cost) -> usize| layers.iter().map(value).sum();
        Ok(Cost { parameters: sum(|cost| cost.parameters), macs: sum(|cost| cost.macs) })
    }

    /// The same for each node.
    ///
    /// # Errors
    /// An image that the network cannot take.
    pub fn layer_costs(&self, height: usize, width: usize) -> Result<Vec<Cost>, ShapeError> {
        let shapes = self.shapes(height, width)?;
        let layers = self.nodes().iter().zip(&shapes).map(|(node, shape)| {
            let trained = node.op.state().into_iter().filter(|(_, _, role)| role.is_trained());
            let parameters = trained.map(|(_, shape, _)| shape.iter().product::<usize>()).sum();
            let inputs: Vec<_> = node.inputs.iter().map(|input| &shapes[input.index()]).collect();
            Cost { parameters, macs: macs(&node.op, &inputs, shape) }
        });
        Ok(layers.collect())
    }
}

fn macs(op: &Op, inputs: &[&Shape], output: &Shape) -> usize {
    match (op, inputs) {
        (Op::Conv2d(conv), _) => output.elements() * conv.kernel[0] * conv.kernel[1] * conv.in_channels / conv.groups,
        (&Op::Linear { in_features, .. } | &Op::QueriesKeysValues { features: in_features, .. }, _) => {
            output.elements() * in_features
        }
        // Queries with keys, then weights with values: each is tokens × tokens × channels.
        (Op::Attention { .. } | Op::WindowAttention { .. }, _) => {
            let tokens = output.sides()[output.sides().len() - 2];
            2 * output.elements() * tokens
        }
        (Op::MultiQueryAttention { .. }, [_, keys, _]) => {
            let pixels = keys.sides()[1] * keys.sides()[2];
            2 * output.elements() * pixels
        }
        _ => 0,
    }
}
