//! A network as a TorchScript program.

use tch::{CModule, Kind, TchError, Tensor};

use crate::Backbone;

/// Images in the batch that the trace is made with; the program takes any number.
const BATCH: i64 = 2;

impl Backbone {
    /// The network for evaluation as a TorchScript program, its weights inside: `forward` takes images
    /// N×channels×`side`×`side`. BatchNorm is folded.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn trace(&self, side: usize) -> Result<CModule, TchError> {
        let folded = self.folded();
        let channels = self.network().channels() as i64;
        let images = Tensor::zeros([BATCH, channels, side as i64, side as i64], (Kind::Float, self.device()));
        let mut forward = |inputs: &[Tensor]| vec![folded.forward(&inputs[0], false)];
        // What a first pass makes and keeps (masks of windows, rotations) is a constant of the trace.
        let _ = tch::no_grad(|| folded.forward(&images, false));
        tch::no_grad(|| CModule::create_by_tracing(self.network().name(), "forward", &[images], &mut forward))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_trace_computes_the_same_for_any_batch() {
        tch::manual_seed(1);
        for (name, side) in [
            ("cifar_resnet20", 32),
            ("shufflenet_v2_x0_5", 64),
            ("swin_t", 96),
            ("convnext_tiny", 64),
            ("vit_b_32", 224),
            ("eva02_tiny_patch14_336", 336),
        ] {
            let backbone = Backbone::new(architectures::architecture(name).unwrap().network(5), Device::Cpu);
            let program = backbone.trace(side).unwrap();
            for batch in [1, 3] {
                let images = Tensor::randn([batch, 3, side as i64, side as i64], (Kind::Float, Device::Cpu));
                let expected = tch::no_grad(|| backbone.forward(&images, false));
                let got = program.forward_ts(&[images]).unwrap();
                let difference = (&expected - got).abs().max().double_value(&[]);
                assert!(difference < 1e-4 * expected.abs().max().double_value(&[]).max(1.0), "{name}: {difference}");
            }
        }
    }
}
