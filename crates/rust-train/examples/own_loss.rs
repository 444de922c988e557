//! A loss of one's own: focal loss (Lin et al., 2017), by which hard images count more. `mpirun -n 2 own_loss --epochs 10`.

use std::process::ExitCode;

use rust_train::{Batch, ClassCounts, Program, Scorer, Targets, Task};
use tch::{Device, Kind, Tensor};

/// Cross-entropy times (1 − p)^γ, p being the probability that the model gives to the right class.
struct Focal {
    gamma: f64,
}

impl Task for Focal {
    fn name(&self) -> &str {
        "classification" // so that eval and predict know what to do with its weights
    }

    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        Targets::of(vec![Tensor::from_slice(&batch.labels).to_device(device)])
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        let logs = outputs[0].log_softmax(1, Kind::Float);
        let right = logs.gather(1, &targets.tensors[0].unsqueeze(1), false);
        let weight = (right.exp().neg() + 1.0).pow_tensor_scalar(self.gamma);
        -(weight * right).mean(Kind::Float)
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        // Top-1, top-5, the confusion of classes: scored as any other classification.
        Box::<ClassCounts>::default()
    }
}

fn main() -> ExitCode {
    Program::new().task(Focal { gamma: 2.0 }).run()
}
