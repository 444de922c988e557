//! Trains a few steps and prints the most memory that they took, for `scripts/memory`.
//!
//!     memory NAME SIDE BATCH [blocks]
//!
//! With `blocks` these are recomputed on the way back.
//!
//! Prints two numbers of bytes: the peak of resident memory beyond what the process had before the network was built, and
//! the estimate of `architectures` for SGD with momentum in single precision.

use architectures::{OptimizerMemory, TrainingMemory, Workload};
use backbones::Backbone;
use tch::{Device, Kind, Reduction, Tensor};

/// A field of `/proc/self/status`, in bytes.
fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field is there");
    let kilobytes: usize = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kilobytes * 1024
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, side, batch, recomputed @ ..] = arguments.as_slice() else { panic!("memory NAME SIDE BATCH [blocks]") };
    let recompute = recomputed.first().is_some_and(|what| what == "blocks");
    let (side, batch): (usize, usize) = (side.parse().expect("a side"), batch.parse().expect("a batch"));
    let known = architectures::architecture(name).expect("a known name");
    let network = known.network(known.usual_classes());
    let training = TrainingMemory { recompute, ..TrainingMemory::of(OptimizerMemory::Momentum) };
    let workload = Workload { batch, activation_bytes: 4, training: Some(training) };
    let estimate = network.memory(side, side, workload).expect("a size that fits").total();

    tch::set_num_threads(2);
    let step = |backbone: &Backbone, momentum: &mut [Tensor], side: usize, batch: usize| {
        let shape = [batch as i64, 3, side as i64, side as i64];
        let images = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let logits = backbone.forward(&images, true);
        // One for each image, or each pixel.
        let of_each = [&[batch as i64], &logits.size()[2..]].concat();
        let labels = Tensor::zeros(of_each, (Kind::Int64, Device::Cpu));
        let loss = logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0);
        drop(logits);
        loss.backward();
        tch::no_grad(|| {
            for ((_, mut parameter), momentum) in backbone.trained().into_iter().zip(momentum) {
                let mut gradient = parameter.grad();
                let _ = momentum.g_mul_scalar_(0.9);
                let _ = momentum.g_add_(&gradient);
                let _ = parameter.g_sub_(&(&*momentum * 1e-3));
                let _ = gradient.zero_();
            }
        });
    };
    // The libraries' own memory, which the first step takes, does not count.
    let tiny = Backbone::new(architectures::architecture("cifar_resnet20").expect("known").network(10), Device::Cpu);
    let mut none: Vec<Tensor> = tiny.trained().iter().map(|(_, tensor)| tensor.zeros_like()).collect();
    step(&tiny, &mut none, 32, 1);
    drop((tiny, none));

    let before = status("VmRSS");
    let mut backbone = Backbone::new(network, Device::Cpu);
    if recompute {
        assert!(backbone.recompute_blocks(), "{name} has no blocks");
    }
    let mut momentum: Vec<Tensor> = backbone.trained().iter().map(|(_, tensor)| tensor.zeros_like()).collect();
    for _ in 0..3 {
        step(&backbone, &mut momentum, side, batch);
    }
    println!("{} {estimate}", status("VmHWM") - before);
}
