//! A model with two heads that share what they see: which digit it is, and whether it is odd. `mpirun -n 2 two_heads`.

use std::process::ExitCode;

use rust_train::{Batch, BuildContext, Means, Metric, Model, Program, Scorer, Targets, Task, from_fn};
use tch::nn::{self, Module};
use tch::{Device, Kind, Reduction, Tensor};

fn build(context: &BuildContext) -> anyhow::Result<Box<dyn Model>> {
    let vs = nn::VarStore::new(context.device);
    let path = vs.root();
    let pixels = 3 * context.image_size * context.image_size;
    let hidden = nn::linear(&path / "hidden", pixels as i64, 64, nn::LinearConfig::default());
    let digit = nn::linear(&path / "digit", 64, context.outputs as i64, nn::LinearConfig::default());
    let odd = nn::linear(&path / "odd", 64, 1, nn::LinearConfig::default());
    Ok(from_fn(vs, move |images, _| {
        let seen = hidden.forward(&images.flatten(1, -1)).relu();
        vec![digit.forward(&seen), odd.forward(&seen).select(1, 0)]
    }))
}

/// The sum of both heads' losses.
struct Both;

/// The loss of each image, in each of the heads.
fn losses(outputs: &[Tensor], targets: &Targets) -> [Tensor; 2] {
    let none = Reduction::None;
    let digit = outputs[0].cross_entropy_loss::<Tensor>(&targets.tensors[0], None, none, -100, 0.0);
    let odd = outputs[1].binary_cross_entropy_with_logits::<Tensor>(&targets.tensors[1], None, None, none);
    [digit, odd]
}

impl Task for Both {
    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        let digits = Tensor::from_slice(&batch.labels).to_device(device);
        let odd = digits.remainder(2).to_kind(Kind::Float);
        Targets::of(vec![digits, odd])
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        let [digit, odd] = losses(outputs, targets);
        (digit + odd).mean(Kind::Float)
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        let metrics = vec![Metric::share("digit", "digit"), Metric::share("odd", "odd")];
        Box::new(Means::new(metrics, |outputs, targets| {
            let [digit, odd] = losses(outputs, targets);
            let right_digit = outputs[0].argmax(1, false).eq_tensor(&targets.tensors[0]);
            let right_odd = outputs[1].gt(0.0).to_kind(Kind::Float).eq_tensor(&targets.tensors[1]);
            vec![digit + odd, right_digit.to_kind(Kind::Float), right_odd.to_kind(Kind::Float)]
        }))
    }
}

fn main() -> ExitCode {
    Program::new().model("two-heads", 8, build).task(Both).run()
}
