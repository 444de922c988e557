//! What a network costs: parameters and operations.

use crate::network::{Network, Op, Shape, ShapeError};

/// What a forward pass of one picture costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Trained values.
    pub parameters: usize,
    /// Multiply-accumulate operations of convolutions and linear layers, per picture. A MAC is two FLOPs.
    pub macs: usize,
}

impl Network {
    /// What a forward pass of one picture of `height`×`width` pixels costs.
    ///
    /// # Errors
    /// A picture that the network cannot take.
    pub fn cost(&self, height: usize, width: usize) -> Result<Cost, ShapeError> {
        let shapes = self.shapes(height, width)?;
        let macs = self.nodes().iter().zip(shapes).map(|(node, shape)| match (&node.op, shape) {
            (Op::Conv2d(conv), Shape::Picture(..)) => {
                shape.elements() * conv.kernel * conv.kernel * conv.in_channels / conv.groups
            }
            (&Op::Linear { in_features, .. }, _) => shape.elements() * in_features,
            _ => 0,
        });
        let macs = macs.sum();
        let trained = self.parameters().into_iter().filter(|parameter| parameter.role.is_trained());
        Ok(Cost { parameters: trained.map(|parameter| parameter.shape.iter().product::<usize>()).sum(), macs })
    }
}
