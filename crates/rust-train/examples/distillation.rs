//! Knowledge distillation (Hinton et al., 2015): a small network learns from a trained one, whose weights a run has left.
//!
//! ```text
//! mpirun -n 2 rust-train --output teacher
//! TEACHER=teacher/best.safetensors mpirun -n 2 distillation --model lenet
//! ```

use std::path::Path;
use std::process::ExitCode;

use rust_train::{Backbone, Batch, ClassCounts, Program, Scorer, Targets, Task, architecture, normalized};
use tch::{Device, Kind, Reduction, Tensor};

/// How soft the teacher's word is, and how much it counts.
const TEMPERATURE: f64 = 4.0;
const TEACHER: f64 = 0.7;

struct Distillation {
    /// On the CPU; where a run computes elsewhere, its images are brought here.
    teacher: Backbone,
}

impl Task for Distillation {
    fn name(&self) -> &str {
        "classification" // so that eval and predict know what to do with its weights
    }

    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        let images = normalized(batch, Device::Cpu).expect("there is memory for a batch");
        let word = tch::no_grad(|| self.teacher.forward(&images, false));
        let labels = Tensor::from_slice(&batch.labels);
        Targets::of([labels, word].map(|tensor| tensor.to_device(device)).into())
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        let soft = |logits: &Tensor| (logits / TEMPERATURE).log_softmax(1, Kind::Float);
        let teacher = soft(&targets.tensors[1]).exp();
        // The gradients of soft targets are smaller by the square of the temperature.
        let learned = -(teacher * soft(&outputs[0])).sum_dim_intlist(1, false, Kind::Float).mean(Kind::Float);
        let hard = outputs[0].cross_entropy_loss::<Tensor>(&targets.tensors[0], None, Reduction::Mean, -100, 0.0);
        learned * (TEACHER * TEMPERATURE * TEMPERATURE) + hard * (1.0 - TEACHER)
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        Box::<ClassCounts>::default()
    }
}

fn main() -> ExitCode {
    let weights = std::env::var("TEACHER").unwrap_or_else(|_| "teacher/best.safetensors".to_owned());
    let network = architecture("cifar_resnet20").expect("a network of that name");
    match Backbone::of_weights(&network, Path::new(&weights), Device::Cpu) {
        Ok(teacher) => Program::new().task(Distillation { teacher: teacher.folded() }).run(),
        Err(error) => {
            eprintln!("error: TEACHER: {error}");
            ExitCode::from(2)
        }
    }
}
