//! A network that gives features in the place of classes.

use architectures::Op;
use tch::Tensor;

use crate::Backbone;

impl Backbone {
    /// The same network without its head, for evaluation, on the same tensors: it gives a row of features for each image, N×F.
    #[must_use]
    pub fn without_head(&self) -> Self {
        self.part(self.network().without_head())
    }

    /// Weight, classes×F, and bias of a head that takes those features and gives the logits; `None` where it is something else.
    pub fn linear_head(&self) -> Option<(Tensor, Tensor)> {
        let head = self.network().head();
        match (&self.network().nodes()[head.index()].op, self.state_of(head)) {
            (Op::Linear { .. }, [weight, bias]) => Some((weight.shallow_clone(), bias.shallow_clone())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn features_and_head_make_the_logits() {
        tch::manual_seed(1);
        let names = ["cifar_resnet20", "vgg11_bn", "vit_tiny_patch16_224", "swin_t", "convnext_tiny", "googlenet"];
        for name in names {
            let known = architectures::architecture(name).unwrap();
            let backbone = Backbone::new(known.network(5), Device::Cpu);
            let side = if name == "cifar_resnet20" { 32 } else { 224 };
            let images = Tensor::randn([2, 3, side, side], (Kind::Float, Device::Cpu));
            tch::no_grad(|| {
                let features = backbone.without_head().folded().forward(&images, false);
                let (weight, bias) = backbone.linear_head().unwrap();
                let expected = backbone.forward(&images, false);
                let got = features.linear(&weight, Some(&bias));
                let difference = (&expected - got).abs().max().double_value(&[]);
                assert!(difference < 1e-4 * expected.abs().max().double_value(&[]).max(1.0), "{name}: {difference}");
            });
        }
        let squeezenet = Backbone::new(architectures::architecture("squeezenet1_1").unwrap().network(5), Device::Cpu);
        assert!(squeezenet.linear_head().is_none());
        let images = Tensor::randn([2, 3, 64, 64], (Kind::Float, Device::Cpu));
        assert_eq!(tch::no_grad(|| squeezenet.without_head().forward(&images, false)).size(), [2, 512]);
    }
}
