//! What scripts/gpu-check runs on a machine with a GPU:
//!
//! ```text
//! gpu-check-program check          the CUDA half of torch-ext against the CPU: a line for each check, status 1 where one fails
//! gpu-check-program speed FLAGS    images per second of a network in bf16, or what the GPU spends its time on
//! ```

mod checks;
mod speed;

use std::process::ExitCode;
use std::time::Duration;

use backbones::Backbone;
use clap::Parser;
use tch::{Cuda, Device, Kind, Tensor};
use torch_ext::{Autocast, DistributedDataParallel, Precision, ProcessGroup, Store};

/// The loss of a pass whose gradients `ddp` exchanges.
pub fn loss_in(
    precision: Precision,
    ddp: &DistributedDataParallel,
    backbone: &Backbone,
    images: &Tensor,
    labels: &Tensor,
) -> torch_ext::Result<Tensor> {
    ddp.forward(|| {
        let _autocast = Autocast::enter(GPU, precision)?;
        Ok(backbone.forward(images, true).to_kind(Kind::Float).cross_entropy_for_logits(labels))
    })?
}

/// The first one that is visible.
pub const GPU: Device = Device::Cuda(0);

#[derive(Parser)]
#[command(args_override_self = true)]
enum Verb {
    /// Check
    Check,
    /// Measure
    Speed(speed::Options),
}

fn main() -> ExitCode {
    let verb = Verb::parse();
    let opened = torch_ext::cuda::open();
    if opened.is_err() || !Cuda::is_available() {
        let why = opened.err().unwrap_or("libtorch sees no CUDA device");
        println!("SKIPPED: {why}, so nothing of the CUDA half was looked at");
        return ExitCode::SUCCESS;
    }
    match verb {
        Verb::Check => {
            let failed = checks::run();
            println!("{failed} checks failed");
            ExitCode::from(u8::from(failed > 0))
        }
        Verb::Speed(options) => {
            let store = Store::serve("localhost", Duration::from_secs(60)).unwrap();
            let group = ProcessGroup::nccl(&store, 0, 1, 0, Duration::from_secs(120)).unwrap();
            speed::run(&options, &group);
            group.shutdown().unwrap();
            ExitCode::SUCCESS
        }
    }
}
