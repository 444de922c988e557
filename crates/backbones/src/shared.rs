//! The same network in several threads.

use architectures::Network;
use tch::{Device, Tensor};

use crate::Backbone;

/// A network on its way to another thread.
#[derive(Debug)]
pub struct Shared {
    network: Network,
    tensors: Vec<Tensor>,
    /// Whether each node is.
    frozen: Vec<bool>,
    recomputes_blocks: bool,
    device: Device,
}

impl Shared {
    /// The network, in the thread that it is for.
    pub fn arrive(self) -> Backbone {
        let mut backbone = Backbone::of_tensors(self.network, self.tensors, self.device);
        if self.recomputes_blocks {
            backbone.recompute_blocks();
        }
        backbone.set_frozen_nodes(&self.frozen);
        backbone
    }
}

impl Backbone {
    /// What another thread needs to compute with the same tensors.
    pub fn shared(&self) -> Shared {
        self.with_tensors(self.tensors().iter().map(Tensor::shallow_clone).collect())
    }

    /// What another thread needs to train the same network: its parameters have gradients of their own, and what changes without
    /// gradients is a copy.
    pub fn twin(&self) -> Shared {
        let both = self.parameters().iter().zip(self.tensors());
        let twin = |role: architectures::ParameterRole, tensor: &Tensor| match role {
            role if role.is_trained() => tensor.detach().set_requires_grad(tensor.requires_grad()),
            role if role.is_constant() => tensor.shallow_clone(),
            _ => tensor.copy(),
        };
        self.with_tensors(both.map(|(parameter, tensor)| twin(parameter.role, tensor)).collect())
    }

    fn with_tensors(&self, tensors: Vec<Tensor>) -> Shared {
        let (network, device, recomputes_blocks) = (self.network().clone(), self.device(), self.recomputes_blocks());
        Shared { network, tensors, frozen: self.frozen_nodes(), recomputes_blocks, device }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn twins_share_weights_and_nothing_else() {
        tch::manual_seed(1);
        let backbone = Backbone::new(architectures::architecture("cifar_resnet20").unwrap().network(5), Device::Cpu);
        backbone.freeze_all_but_head();
        let (frozen, _) = (backbone.twin().arrive(), backbone.unfreeze());
        assert_eq!(frozen.trained().len(), 2);
        let twin = backbone.twin().arrive();
        assert_eq!(twin.trained().len(), backbone.trained().len());
        let images = Tensor::randn([4, 3, 16, 16], (Kind::Float, Device::Cpu));
        let logits = twin.forward(&images, true);
        logits.square().sum(Kind::Float).backward();
        for ((name, own), (_, of_twin)) in backbone.trained().iter().zip(twin.trained()) {
            assert!(!own.grad().defined() && of_twin.grad().defined(), "{name}");
            assert_eq!(own.data_ptr(), of_twin.data_ptr(), "{name}");
        }
        for ((name, own), (_, of_twin)) in backbone.buffers().iter().zip(twin.buffers()) {
            assert!(*own != of_twin, "{name}: a pass of the twin moved it, or moved nothing");
        }
        let again = backbone.forward(&images, true);
        assert!(again == logits, "the same weights");
    }
}
