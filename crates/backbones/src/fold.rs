//! For inference: BatchNorm after a convolution becomes part of the convolution's parameters.

use architectures::{Network, NodeId, Op};
use tch::Tensor;

use crate::Backbone;

impl Backbone {
    /// The same network for evaluation, with fewer operations: BatchNorm is folded into the convolutions before it, and auxiliary
    /// heads are left out.
    #[must_use]
    pub fn folded(&self) -> Self {
        if !self.network().auxiliary().is_empty() {
            return self.without_auxiliary().folded();
        }
        let folded = self.network().fold_batch_norms();
        let nodes = folded.network.listing().iter().map(|node| folded.origins[node.index()]);
        let tensors = tch::no_grad(|| {
            nodes
                .flat_map(|(origin, batch_norm)| match batch_norm {
                    None => self.state_of(origin).iter().map(Tensor::detach).collect(),
                    Some(batch_norm) => self.fold(self.state_of(origin), batch_norm),
                })
                .collect()
        });
        Self::of_tensors(folded.network, tensors, self.device())
    }

    /// The same network without its auxiliary heads, on the same tensors.
    #[must_use]
    pub fn without_auxiliary(&self) -> Self {
        self.part(self.network().without_auxiliary())
    }

    /// A `network` of nodes of this one, and which they are here, on the same tensors.
    pub(crate) fn part(&self, (network, origins): (Network, Vec<NodeId>)) -> Self {
        let nodes = network.listing().iter().map(|node| origins[node.index()]);
        let tensors = nodes.flat_map(|origin| self.state_of(origin)).map(Tensor::shallow_clone).collect();
        Self::of_tensors(network, tensors, self.device())
    }

    /// Weight and bias of a convolution with the parameters `state` that takes in `batch_norm`.
    fn fold(&self, state: &[Tensor], batch_norm: NodeId) -> Vec<Tensor> {
        let Op::BatchNorm2d { epsilon, .. } = self.network().nodes()[batch_norm.index()].op else {
            unreachable!("only BatchNorm is folded")
        };
        let [weight, bias, mean, var] = [0, 1, 2, 3].map(|index| &self.state_of(batch_norm)[index]);
        let scale = weight / (var + epsilon).sqrt();
        let shift = match state.get(1) {
            Some(own) => own - mean,
            None => -mean,
        };
        vec![&state[0] * scale.reshape([-1, 1, 1, 1]), shift * &scale + bias]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_folded_network_computes_the_same() {
        tch::manual_seed(1);
        for name in ["cifar_resnet20", "vgg11_bn", "mobilenet_v3_small", "densenet121"] {
            let backbone = Backbone::new(architectures::architecture(name).unwrap().network(5), Device::Cpu);
            let images = Tensor::randn([4, 3, 64, 64], (Kind::Float, Device::Cpu));
            tch::no_grad(|| {
                let _ = backbone.forward(&images, true); // running statistics that are not 0 and 1
                let (expected, got) = (backbone.forward(&images, false), backbone.folded().forward(&images, false));
                let scale = expected.abs().max().double_value(&[]).max(1.0);
                let difference = (expected - got).abs().max().double_value(&[]);
                assert!(difference < 1e-4 * scale, "{name}: {difference} of {scale}");
            });
        }
    }
}
