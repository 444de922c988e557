//! How fast a network trains on images that lie on the GPU, and what the GPU spends its time on.

use std::time::Instant;

use backbones::Backbone;
use clap::Args;
use tch::{Cuda, Kind, Tensor};
use torch_ext::optim::{Algorithm, LearningRate, Optimizer, ParameterGroup};
use torch_ext::{
    CudnnMode, DdpConfig, DistributedDataParallel, MemoryFormat, Precision, ProcessGroup, cuda, kernels, profile,
    set_cudnn_mode, set_memory_format, set_tf32, to_channels_last,
};

use crate::{GPU, loss_in};

#[derive(Args)]
pub struct Options {
    /// The network
    #[arg(long, default_value = "resnet50")]
    model: String,
    /// Images per step
    #[arg(long, default_value_t = 256)]
    batch: i64,
    /// Side of the images
    #[arg(long, default_value_t = 224)]
    size: i64,
    /// Steps that count
    #[arg(long, default_value_t = 30)]
    steps: usize,
    /// Steps before them
    #[arg(long, default_value_t = 15)]
    warmup: usize,
    /// By libtorch's operations, one by one
    #[arg(long)]
    unfused: bool,
    /// Steps are recorded, and replayed as one
    #[arg(long)]
    graph: bool,
    /// Synchronized BatchNorm
    #[arg(long)]
    sync_bn: bool,
    /// Through the buckets of gradients and NCCL, although there is one rank
    #[arg(long)]
    ddp: bool,
    /// Print what ten steps spend the GPU's time on, instead of images per second
    #[arg(long)]
    profile: bool,
}

/// Prints images per second of the median step, or a table.
pub fn run(options: &Options, group: &ProcessGroup) {
    cuda::use_own_stream(0).unwrap();
    set_cudnn_mode(CudnnMode::Benchmark);
    set_tf32(true).unwrap();
    if !options.unfused {
        kernels::check(GPU, Precision::BFloat16).unwrap();
        kernels::set_used(GPU, true);
    }
    let mut backbone = Backbone::new(architectures::architecture(&options.model).unwrap().network(1000), GPU);
    if options.sync_bn {
        backbone.synchronize_batch_norm(group);
    }
    let state: Vec<_> = backbone.state().into_iter().map(|(_, tensor)| tensor).collect();
    set_memory_format(&state, MemoryFormat::ChannelsLast).unwrap();
    let config = DdpConfig { even_alone: options.ddp, ..DdpConfig::default() };
    let ddp = DistributedDataParallel::new(&backbone.trained(), &[], group, config).unwrap();
    let sgd = Algorithm::Sgd { momentum: 0.9, nesterov: true };
    let mut optimizer = Optimizer::new(ParameterGroup::all(backbone.trained(), 1e-4), sgd).unwrap();
    let images = Tensor::randn([options.batch, 3, options.size, options.size], (Kind::Float, GPU));
    let images = to_channels_last(&images).unwrap();
    let labels = Tensor::randint(1000, [options.batch], (Kind::Int64, GPU));
    let rate = Tensor::full([1], 0.01, (Kind::Float, GPU));
    let mut one_by_one = || -> torch_ext::Result<Tensor> {
        ddp.zero_grad()?;
        let loss = loss_in(Precision::BFloat16, &ddp, &backbone, &images, &labels)?;
        loss.backward();
        optimizer.step_unless(LearningRate::OnDevice(&rate), None)?;
        Ok(loss.detach())
    };
    let mut graph = None;
    let mut seconds = Vec::new();
    for step in 0..options.warmup + options.steps {
        if options.graph && step == 12.min(options.warmup) {
            graph = Some(cuda::Graph::record(&mut one_by_one).unwrap());
        }
        let start = Instant::now();
        match &graph {
            Some((graph, _)) => graph.replay().unwrap(),
            None => drop(one_by_one().unwrap()),
        }
        Cuda::synchronize(0);
        if step >= options.warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    if options.profile {
        let steps = 10;
        let (spent, ()) = profile(GPU, || {
            for _ in 0..steps {
                match &graph {
                    Some((graph, _)) => graph.replay().unwrap(),
                    None => drop(one_by_one().unwrap()),
                }
            }
            Cuda::synchronize(0);
        })
        .unwrap();
        let of_step = |seconds: f64| seconds * 1e3 / f64::from(steps);
        let all: f64 = spent.iter().map(|spent| spent.time.as_secs_f64()).sum();
        let launches: u64 = spent.iter().map(|spent| spent.count).sum();
        println!("{:.2} ms of the GPU and {} kernels a step", of_step(all), launches / steps as u64);
        for spent in spent.iter().take(25) {
            let name: String = spent.name.chars().take(90).collect();
            println!("{:8.3} ms {:5}x  {name}", of_step(spent.time.as_secs_f64()), spent.count / steps as u64);
        }
        return;
    }
    seconds.sort_unstable_by(f64::total_cmp);
    println!("images/s {:.1}", options.batch as f64 / seconds[seconds.len() / 2]);
}
