//! Another task than classification: how much is written, as a number. `mpirun -n 2 regression --optimizer adamw --lr 0.003`.
//!
//! Nothing outside of this file knows of it: the loop, the gradients, checkpoints, the record and the report are those of
//! `rust-train`, and so are all flags but those about classes.

use std::process::ExitCode;

use rust_train::{Batch, Means, Metric, Program, Scorer, Targets, Task};
use tch::{Device, Kind, Reduction, Tensor};

/// The digit of an image, as a quantity from 0 to 1: the first output of a model is to be that.
struct Quantity;

/// The outputs, one number an image.
fn numbers(outputs: &[Tensor]) -> Tensor {
    outputs[0].select(1, 0)
}

impl Task for Quantity {
    fn outputs(&self) -> Option<usize> {
        Some(1)
    }

    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        let digits = Tensor::from_slice(&batch.labels).to_device(device).to_kind(Kind::Float);
        Targets::of(vec![digits / 9.0])
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        numbers(outputs).mse_loss(&targets.tensors[0], Reduction::Mean)
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        // Of each image: its loss, how many digits off the model is, and whether that rounds to the right one.
        let metrics = vec![Metric::error("mae"), Metric::share("exact", "exact")];
        Box::new(Means::new(metrics, |outputs, targets| {
            let off = numbers(outputs) - &targets.tensors[0];
            let digits = (&off * 9.0).abs();
            let exact = digits.lt(0.5).to_kind(Kind::Float);
            vec![off.square(), digits, exact]
        }))
    }
}

fn main() -> ExitCode {
    Program::new().task(Quantity).run()
}
