//! What scripts/gpu-check runs on a machine with a GPU: the CUDA half of torch-ext against the CPU, on one rank, and how
//! fast ResNet-50 trains. Each check prints a line; the exit status is 1 where one of them failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use backbones::Backbone;
use clap::Parser;
use tch::{Cuda, Device, Kind, Tensor};
use torch_ext::optim::{Algorithm, GradScaler, GradScalerConfig, Optimizer, ParameterGroup};
use torch_ext::{
    Autocast, BatchNorm, CudnnMode, DdpConfig, DistributedDataParallel, MemoryFormat, Precision, ProcessGroup,
    ReduceOp, Store, SyncBatchNorm, cuda, rng, set_cudnn_mode, set_memory_format, set_tf32, to_channels_last,
};

#[derive(Parser)]
#[command(args_override_self = true)]
struct Options {
    /// Network whose training speed is measured
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
    #[arg(long, default_value_t = 10)]
    warmup: usize,
    /// Only measure
    #[arg(long)]
    only_speed: bool,
}

const GPU: Device = Device::Cuda(0);

fn main() {
    let options = Options::parse();
    if !Cuda::is_available() {
        println!("SKIPPED: libtorch sees no CUDA device here, so nothing of the CUDA half was checked");
        return;
    }
    let store = Store::serve("localhost", Duration::from_secs(60)).unwrap();
    let group = ProcessGroup::nccl(&store, 0, 1, 0, Duration::from_secs(120)).unwrap();
    let mut failed = 0;
    if !options.only_speed {
        let checks: [(&str, &dyn Fn() -> String); 9] = [
            ("device properties", &properties),
            ("NCCL, one rank", &|| nccl(&group)),
            ("DistributedDataParallel against the CPU", &|| ddp_against_cpu(&group)),
            ("synchronized BatchNorm against the CPU", &|| sync_bn_against_cpu(&group)),
            ("fused optimizers against the CPU", &optimizers_against_cpu),
            ("autocast", &autocast),
            ("fp16 with loss scaling", &|| half_training(&group)),
            ("random generator's state", &generator),
            ("memory statistics", &memory),
        ];
        for (name, check) in checks {
            match catch_unwind(AssertUnwindSafe(check)) {
                Ok(what) => println!("ok      {name}: {what}"),
                Err(_) => {
                    failed += 1;
                    println!("FAILED  {name}");
                }
            }
        }
    }
    speed(&options, &group);
    group.shutdown().unwrap();
    println!("{failed} checks failed");
    std::process::exit(i32::from(failed > 0));
}

fn properties() -> String {
    let properties = cuda::properties(0).unwrap();
    assert!(properties.total_memory > 1 << 30 && properties.multiprocessors > 0);
    let (major, minor) = properties.compute_capability;
    format!("{}, compute capability {major}.{minor}, {} GiB", properties.name, properties.total_memory >> 30)
}

fn nccl(group: &ProcessGroup) -> String {
    assert_eq!((group.rank(), group.size(), group.device()), (0, 1, GPU));
    for kind in [Kind::Float, Kind::Half, Kind::BFloat16, Kind::Int64] {
        let tensor = Tensor::ones([1000], (kind, GPU)) * 3;
        group.all_reduce(&tensor, ReduceOp::Sum).unwrap();
        assert_eq!(tensor.to_kind(Kind::Double).sum(Kind::Double).double_value(&[]), 3000.0);
        assert_eq!(group.all_gather(&tensor).unwrap().size(), [1, 1000]);
    }
    group.broadcast(&[Tensor::ones([3], (Kind::Float, GPU))], 0).unwrap();
    group.barrier().unwrap();
    assert!(group.all_reduce(&Tensor::ones([3], (Kind::Float, Device::Cpu)), ReduceOp::Sum).is_err());
    "all-reduce, all-gather, broadcast, barrier; a tensor in host memory is refused".to_owned()
}

/// The same network on both devices.
fn twins(name: &str, kind: Kind) -> [Backbone; 2] {
    tch::manual_seed(1);
    let network = || architectures::architecture(name).unwrap().network(10);
    let twins = [Backbone::new(network(), Device::Cpu), Backbone::new(network(), GPU)];
    for ((_, mut cpu), (_, mut gpu)) in twins[0].state().into_iter().zip(twins[1].state()) {
        if cpu.kind() == Kind::Float {
            cpu.set_data(&cpu.to_kind(kind));
            gpu.set_data(&cpu.to_kind(kind).to_device(GPU));
        }
    }
    twins
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.detach().to_device(Device::Cpu), b.detach().to_device(Device::Cpu));
    let scale = a.abs().max().double_value(&[]).max(1.0);
    (a - b).abs().max().double_value(&[]) / scale
}

fn largest_difference(twins: &[Backbone; 2]) -> f64 {
    let pairs = twins[0].trained().into_iter().zip(twins[1].trained());
    pairs.map(|((_, a), (_, b))| difference(&a, &b)).fold(0.0, f64::max)
}

/// In double precision: tch's own is in single.
fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.log_softmax(-1, Kind::Double).nll_loss(labels)
}

/// Ten steps in double precision, on the CPU by plain autograd and on the GPU through Reducer over NCCL.
fn ddp_against_cpu(group: &ProcessGroup) -> String {
    set_cudnn_mode(CudnnMode::Deterministic);
    let mut words = Vec::new();
    for name in ["lenet", "cifar_resnet20"] {
        let twins = twins(name, Kind::Double);
        let config = DdpConfig { bucket_bytes: 64 << 10, first_bucket_bytes: 4 << 10, ..DdpConfig::default() };
        let ddp = DistributedDataParallel::new(&twins[1].trained(), &[], group, config).unwrap();
        let sgd = Algorithm::Sgd { momentum: 0.9, nesterov: true };
        let optimizer = |backbone: &Backbone| Optimizer::new(ParameterGroup::all(backbone.trained(), 5e-4), sgd);
        let mut optimizers = [optimizer(&twins[0]).unwrap(), optimizer(&twins[1]).unwrap()];
        for step in 0..10 {
            tch::manual_seed(step);
            let images = Tensor::randn([8, 3, 16, 16], (Kind::Double, Device::Cpu));
            let labels = Tensor::randint(10, [8], (Kind::Int64, Device::Cpu));
            for (_, parameter) in twins[0].trained() {
                let mut grad = parameter.grad();
                if grad.defined() {
                    let _ = grad.zero_();
                }
            }
            cross_entropy(&twins[0].forward(&images, true), &labels).backward();
            ddp.zero_grad().unwrap();
            let (images, labels) = (images.to_device(GPU), labels.to_device(GPU));
            let pass = || cross_entropy(&twins[1].forward(&images, true), &labels);
            ddp.forward(pass).unwrap().backward();
            optimizers.iter_mut().for_each(|optimizer| optimizer.step(0.01).unwrap());
        }
        let difference = largest_difference(&twins);
        assert!(difference < 1e-9, "{name}: {difference}");
        assert_eq!(ddp.compare_replicas().unwrap(), None);
        words.push(format!("{name} differs by {difference:.0e} after 10 steps"));
    }
    words.join(", ")
}

fn sync_bn_against_cpu(group: &ProcessGroup) -> String {
    let double = (Kind::Double, Device::Cpu);
    let leaf = |tensor: &Tensor, device| tensor.copy().to_device(device).set_requires_grad(true);
    let whole = (Tensor::arange(6 * 5 * 12, double) * 0.37).sin().view([6, 5, 4, 3]) * 3.0 + 10.0;
    let slope = (Tensor::arange(6 * 5 * 12, double) * 0.91).cos().view([6, 5, 4, 3]);
    let (weight, bias) = (Tensor::arange(5, double) * 0.3 + 0.5, Tensor::arange(5, double) * 0.1);
    let cpu = [&whole, &weight, &bias].map(|tensor| leaf(tensor, Device::Cpu));
    let gpu = [&whole, &weight, &bias].map(|tensor| leaf(tensor, GPU));
    let [x, w, b] = &cpu;
    let y = x.batch_norm::<&Tensor>(Some(w), Some(b), None, None, true, 0.1, 1e-5, true);
    (&y * &slope).sum(Kind::Double).backward();
    let [x, w, b] = &gpu;
    let running = [Tensor::zeros([5], (Kind::Double, GPU)), Tensor::ones([5], (Kind::Double, GPU))];
    let [running_mean, running_var] = &running;
    let layer = BatchNorm { weight: w, bias: b, running_mean, running_var, momentum: 0.1, epsilon: 1e-5 };
    let out = SyncBatchNorm::new(group).forward(&layer, x).unwrap();
    (&out * slope.to_device(GPU)).sum(Kind::Double).backward();
    let worst =
        cpu.iter().zip(&gpu).map(|(a, b)| difference(&a.grad(), &b.grad())).fold(difference(&y, &out), f64::max);
    assert!(worst < 1e-9, "{worst}");
    format!("output and gradients differ by {worst:.0e}")
}

/// A hundred steps of every algorithm on the same gradients.
fn optimizers_against_cpu() -> String {
    let rules = [
        ("SGD", Algorithm::Sgd { momentum: 0.9, nesterov: true }),
        ("Adam", Algorithm::ADAM),
        ("AdamW", Algorithm::ADAMW),
        ("LARS", Algorithm::LARS),
        ("LAMB", Algorithm::LAMB),
    ];
    let mut words = Vec::new();
    for (name, algorithm) in rules {
        let values = (Tensor::arange(300, (Kind::Float, Device::Cpu)) * 0.37).sin().view([20, 15]);
        let mut sides = [Device::Cpu, GPU].map(|device| {
            let parameter = values.to_device(device).copy().set_requires_grad(true);
            let groups = ParameterGroup::all(vec![("weight".to_owned(), parameter.shallow_clone())], 0.01);
            (parameter, Optimizer::new(groups, algorithm).unwrap())
        });
        for step in 0..100 {
            let slope = (Tensor::arange(300, (Kind::Float, Device::Cpu)) * 0.7 + f64::from(step)).cos().view([20, 15]);
            for (parameter, optimizer) in &mut sides {
                let mut grad = parameter.grad();
                if grad.defined() {
                    let _ = grad.zero_();
                }
                (&*parameter * slope.to_device(parameter.device())).sum(Kind::Float).backward();
                optimizer.step(0.01).unwrap();
            }
        }
        let difference = difference(&sides[0].0, &sides[1].0);
        assert!(difference < 1e-5, "{name}: {difference}");
        words.push(format!("{name} {difference:.0e}"));
    }
    format!("after 100 steps they differ by: {}", words.join(", "))
}

fn autocast() -> String {
    let x = Tensor::randn([64, 64], (Kind::Float, GPU));
    let exact = x.matmul(&x);
    let mut words = Vec::new();
    for (precision, kind, tolerance) in
        [(Precision::BFloat16, Kind::BFloat16, 3e-2), (Precision::Half, Kind::Half, 3e-3)]
    {
        let y = {
            let _autocast = Autocast::enter(GPU, precision).unwrap();
            x.matmul(&x)
        };
        assert_eq!(y.kind(), kind);
        let difference = difference(&exact, &y.to_kind(Kind::Float));
        assert!(difference > 0.0 && difference < tolerance, "{kind:?}: {difference}");
        words.push(format!("{kind:?} within {difference:.0e}"));
    }
    assert_eq!(x.matmul(&x).kind(), Kind::Float);
    set_tf32(true).unwrap();
    set_tf32(false).unwrap();
    words.join(", ")
}

/// Learns one batch by heart in fp16; a step with an infinite loss is skipped.
fn half_training(group: &ProcessGroup) -> String {
    tch::manual_seed(3);
    let backbone = Backbone::new(architectures::architecture("cifar_resnet20").unwrap().network(10), GPU);
    let ddp = DistributedDataParallel::new(&backbone.trained(), &[], group, DdpConfig::default()).unwrap();
    let mut optimizer = Optimizer::new(ParameterGroup::all(backbone.trained(), 0.0), Algorithm::ADAM).unwrap();
    let mut scaler = GradScaler::new(GradScalerConfig::default(), GPU);
    let images = Tensor::randn([32, 3, 32, 32], (Kind::Float, GPU));
    let labels = Tensor::randint(10, [32], (Kind::Int64, GPU));
    let (mut first, mut last, mut skipped) = (f64::NAN, f64::NAN, 0);
    for step in 0..60 {
        ddp.zero_grad().unwrap();
        let loss = ddp.forward(|| {
            let _autocast = Autocast::enter(GPU, Precision::Half).unwrap();
            backbone.forward(&images, true).to_kind(Kind::Float).cross_entropy_for_logits(&labels)
        });
        let loss = loss.unwrap();
        let factor = if step == 20 { f64::INFINITY } else { 1.0 };
        scaler.scale(&(&loss * factor)).backward();
        skipped += scaler.step(&mut optimizer, 0.003, None, group).unwrap().double_value(&[0]) as u32;
        last = loss.double_value(&[]);
        first = if step == 0 { last } else { first };
    }
    assert!(last < first / 4.0, "loss {first} -> {last}");
    assert!(skipped >= 1 && scaler.state().0 < 65_536.0 * 2.0, "{skipped} steps skipped, {:?}", scaler.state());
    format!("loss {first:.2} -> {last:.3} in 60 steps, {skipped} skipped, scale {}", scaler.state().0)
}

fn generator() -> String {
    let before = rng::state(GPU).unwrap();
    let draw = || Tensor::randn([1000], (Kind::Float, GPU));
    let first = draw();
    assert!(draw() != first);
    rng::set_state(GPU, &before).unwrap();
    assert!(draw() == first);
    format!("{} bytes, restored: the same numbers again", before.numel())
}

fn memory() -> String {
    cuda::reset_peak_memory(0).unwrap();
    let before = cuda::memory_stats(0).unwrap();
    let bytes = 64 << 20;
    drop(Tensor::zeros([bytes], (Kind::Uint8, GPU)));
    let after = cuda::memory_stats(0).unwrap();
    assert!(after.allocated_peak >= before.allocated + bytes as u64 && after.allocated == before.allocated);
    format!("a tensor of {} MiB shows in the peak, and is gone", bytes >> 20)
}

/// Training of a large network in bf16, channels_last, through DistributedDataParallel.
fn speed(options: &Options, group: &ProcessGroup) {
    set_cudnn_mode(CudnnMode::Benchmark);
    set_tf32(true).unwrap();
    let backbone = Backbone::new(architectures::architecture(&options.model).unwrap().network(1000), GPU);
    let state: Vec<_> = backbone.state().into_iter().map(|(_, tensor)| tensor).collect();
    set_memory_format(&state, MemoryFormat::ChannelsLast).unwrap();
    let ddp = DistributedDataParallel::new(&backbone.trained(), &[], group, DdpConfig::default()).unwrap();
    let sgd = Algorithm::Sgd { momentum: 0.9, nesterov: true };
    let mut optimizer = Optimizer::new(ParameterGroup::all(backbone.trained(), 1e-4), sgd).unwrap();
    let images = Tensor::randn([options.batch, 3, options.size, options.size], (Kind::Float, GPU));
    let images = to_channels_last(&images).unwrap();
    let labels = Tensor::randint(1000, [options.batch], (Kind::Int64, GPU));
    let mut seconds = Vec::new();
    for step in 0..options.warmup + options.steps {
        let start = Instant::now();
        ddp.zero_grad().unwrap();
        let loss = ddp.forward(|| {
            let _autocast = Autocast::enter(GPU, Precision::BFloat16).unwrap();
            backbone.forward(&images, true).to_kind(Kind::Float).cross_entropy_for_logits(&labels)
        });
        loss.unwrap().backward();
        optimizer.step(0.01).unwrap();
        Cuda::synchronize(0);
        if step >= options.warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_unstable_by(f64::total_cmp);
    println!("images/s {:.1}", options.batch as f64 / seconds[seconds.len() / 2]);
}
