//! A model of one's own, trained by everything that rust-train has: `mpirun -n 2 own_model --epochs 10`.

use std::process::ExitCode;

use rust_train::{BuildContext, Model, Module, Program};
use tch::Tensor;
use tch::nn::{self, Module as _, ModuleT};

/// A small residual network with dropout.
#[derive(Debug)]
struct Net {
    stem: nn::Conv2D,
    norm: nn::BatchNorm,
    block: nn::Conv2D,
    head: nn::Linear,
}

impl Net {
    fn new(path: &nn::Path<'_>, classes: i64) -> Self {
        let same = nn::ConvConfig { padding: 1, bias: false, ..nn::ConvConfig::default() };
        Self {
            stem: nn::conv2d(path / "stem", 3, 16, 3, same),
            norm: nn::batch_norm2d(path / "norm", 16, nn::BatchNormConfig::default()),
            block: nn::conv2d(path / "block", 16, 16, 3, same),
            head: nn::linear(path / "head", 16, classes, nn::LinearConfig::default()),
        }
    }
}

impl ModuleT for Net {
    fn forward_t(&self, images: &Tensor, train: bool) -> Tensor {
        let stem = self.stem.forward(images).apply_t(&self.norm, train).relu();
        let block = (self.block.forward(&stem) + stem).relu();
        let pooled = block.adaptive_avg_pool2d([1, 1]).flatten(1, -1);
        self.head.forward(&pooled.dropout(0.1, train))
    }
}

fn build(context: &BuildContext) -> anyhow::Result<Box<dyn Model>> {
    let vs = nn::VarStore::new(context.device);
    let net = Net::new(&vs.root(), context.outputs as i64);
    Ok(Box::new(Module::new(vs, net)))
}

fn main() -> ExitCode {
    // All flags of rust-train but --model; data, resume, recipes and report are the same.
    Program::new().model("my-net", 32, build).run()
}
