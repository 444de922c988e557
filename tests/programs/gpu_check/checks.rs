//! The CUDA half of torch-ext against the CPU, on one rank.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use backbones::Backbone;
use tch::{Device, Kind, Tensor};
use torch_ext::optim::{Algorithm, GradScaler, GradScalerConfig, LearningRate, Optimizer, ParameterGroup};
use torch_ext::{
    Activation, Autocast, BatchNorm, Copies, CudnnMode, DdpConfig, DistributedDataParallel, Fused, LayerNorm,
    PinnedMemory, Precision, ProcessGroup, ReduceOp, Store, SyncBatchNorm, Takers, cuda, kernels, rng, set_cudnn_mode,
    set_tf32, to_channels_last,
};

use crate::{GPU, loss_in};

/// Runs all of them; how many failed.
pub fn run() -> usize {
    cuda::use_own_stream(0).unwrap();
    let store = Store::serve("localhost", Duration::from_secs(60)).unwrap();
    let group = ProcessGroup::nccl(&store, 0, 1, 0, Duration::from_secs(120)).unwrap();
    let checks: [(&str, &dyn Fn() -> String); 14] = [
        ("device properties", &properties),
        ("NCCL, one rank", &|| nccl(&group)),
        ("DistributedDataParallel against the CPU", &|| ddp_against_cpu(&group)),
        ("kernels against libtorch", &kernels_against_libtorch),
        ("kernels against the host's", &kernels_against_host),
        ("synchronized BatchNorm against the CPU", &|| sync_bn_against_cpu(&group)),
        ("fused optimizers against the CPU", &optimizers_against_cpu),
        ("autocast", &autocast),
        ("fp16 with loss scaling", &|| half_training(&group)),
        ("bytes on their way", &copies),
        ("a recorded step", &|| recorded_step(&group)),
        ("a recording that fails", &failed_recording),
        ("random generator's state", &generator),
        ("memory statistics", &memory),
    ];
    let mut failed = 0;
    for (name, check) in checks {
        match catch_unwind(AssertUnwindSafe(check)) {
            Ok(what) => println!("ok      {name}: {what}"),
            Err(_) => {
                failed += 1;
                println!("FAILED  {name}");
            }
        }
    }
    group.shutdown().unwrap();
    failed
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
    let [a, b] = [a, b].map(|tensor| tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double));
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
        let config =
            DdpConfig { bucket_bytes: 64 << 10, first_bucket_bytes: 4 << 10, even_alone: true, ..DdpConfig::default() };
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
    let together = SyncBatchNorm::new(group);
    let fused = Fused { together: Some(&together), ..Fused::NOTHING };
    let by_operations = |layer: &BatchNorm<'_>, x: &Tensor| together.forward(layer, x);
    let by_kernels = |layer: &BatchNorm<'_>, x: &Tensor| layer.forward_in_kernels(&to_channels_last(x)?, fused);
    let double = sync_bn_by(&by_operations, Kind::Double);
    let single = sync_bn_by(&by_kernels, Kind::Float);
    assert!(double < 1e-9 && single < 1e-4, "{double}, {single}");
    format!("output and gradients differ by {double:.0e}; by kernels, in single precision, by {single:.0e}")
}

/// The largest difference to BatchNorm on the CPU in double precision.
fn sync_bn_by(forward: &dyn Fn(&BatchNorm<'_>, &Tensor) -> torch_ext::Result<Tensor>, kind: Kind) -> f64 {
    let double = (Kind::Double, Device::Cpu);
    let leaf = |tensor: &Tensor, device, kind| tensor.to_kind(kind).copy().to_device(device).set_requires_grad(true);
    let whole = (Tensor::arange(6 * 5 * 12, double) * 0.37).sin().view([6, 5, 4, 3]) * 3.0 + 10.0;
    let slope = (Tensor::arange(6 * 5 * 12, double) * 0.91).cos().view([6, 5, 4, 3]);
    let (weight, bias) = (Tensor::arange(5, double) * 0.3 + 0.5, Tensor::arange(5, double) * 0.1);
    let cpu = [&whole, &weight, &bias].map(|tensor| leaf(tensor, Device::Cpu, Kind::Double));
    let gpu = [&whole, &weight, &bias].map(|tensor| leaf(tensor, GPU, kind));
    let [x, w, b] = &cpu;
    let y = x.batch_norm::<&Tensor>(Some(w), Some(b), None, None, true, 0.1, 1e-5, true);
    (&y * &slope).sum(Kind::Double).backward();
    let [x, w, b] = &gpu;
    let running = [Tensor::zeros([5], (kind, GPU)), Tensor::ones([5], (kind, GPU))];
    let [running_mean, running_var] = &running;
    let layer = BatchNorm { weight: w, bias: b, running_mean, running_var, momentum: 0.1, epsilon: 1e-5 };
    let out = forward(&layer, x).unwrap();
    (&out * slope.to_kind(kind).to_device(GPU)).sum(Kind::Double).backward();
    let gradients = cpu.iter().zip(&gpu).map(|(a, b)| difference(&a.grad(), &b.grad()));
    gradients.fold(difference(&y, &out), f64::max)
}

/// A hundred steps of every algorithm on the same gradients.
fn optimizers_against_cpu() -> String {
    let rules = [
        ("SGD", Algorithm::Sgd { momentum: 0.9, nesterov: true }),
        ("Adam", Algorithm::ADAM),
        ("AdamW", Algorithm::ADAMW),
        ("LARS", Algorithm::LARS),
        ("LAMB", Algorithm::LAMB),
        ("NAdamW", Algorithm::named("nadamw", 0.9, false).expect("a rule of that name")),
        ("Adafactor", Algorithm::Adafactor),
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
        let loss = loss_in(Precision::Half, &ddp, &backbone, &images, &labels).unwrap();
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

/// Every kernel, in every type, as a run tries them out when it starts.
fn kernels_against_libtorch() -> String {
    for precision in [Precision::Single, Precision::BFloat16, Precision::Half] {
        kernels::check(GPU, precision).unwrap_or_else(|error| panic!("{precision:?}: {error}"));
    }
    "BatchNorm with what follows it, LayerNorm and what is before it, max pooling, images: in fp32, bf16 and fp16"
        .to_owned()
}

/// The same text, compiled by NVRTC and by the host's compiler: where sums are as small as one block's, the same bits.
fn kernels_against_host() -> String {
    let mut compared = 0;
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for activation in [Activation::Identity, Activation::Relu, Activation::Relu6, Activation::HardSwish] {
            let pass = |device: Device| -> Vec<Tensor> {
                let values = |seed: f64| {
                    let count = Tensor::arange(2 * 16 * 3 * 4, (Kind::Double, Device::Cpu));
                    let values = ((count * (12.9 + seed)).sin() * 2.0 + 1.0).view([2, 16, 3, 4]).to_kind(kind);
                    to_channels_last(&values.to_device(device)).unwrap()
                };
                let x = values(0.1).set_requires_grad(true);
                let of_layer = |value: f64| {
                    let count = Tensor::arange(16, (Kind::Float, Device::Cpu)).to_device(device);
                    (count * 0.1 + value).set_requires_grad(true)
                };
                let (weight, bias) = (of_layer(0.5), of_layer(-0.3));
                let [running_mean, running_var] = [0.0, 1.0].map(|value| weight.detach().full_like(value));
                let layer = BatchNorm {
                    weight: &weight,
                    bias: &bias,
                    running_mean: &running_mean,
                    running_var: &running_var,
                    momentum: 0.1,
                    epsilon: 1e-5,
                };
                let y = layer.forward_in_kernels(&x, Fused { activation, ..Fused::NOTHING }).unwrap();
                (&y * values(0.2)).sum(Kind::Float).backward();
                let results = [
                    y.detach(),
                    running_mean.shallow_clone(),
                    running_var.shallow_clone(),
                    x.grad(),
                    weight.grad(),
                    bias.grad(),
                ];
                results.iter().map(|tensor| tensor.to_device(Device::Cpu)).collect()
            };
            for (place, (host, gpu)) in pass(Device::Cpu).iter().zip(pass(GPU)).enumerate() {
                assert!(
                    host.equal(&gpu),
                    "{kind:?}, {activation:?}: result {place} differs by {}",
                    difference(host, &gpu)
                );
                compared += 1;
            }
        }
    }
    format!("{} tensors, the same bits", compared + layer_norms_against_host())
}

/// The same of LayerNorm and the sum before it, under autocast.
fn layer_norms_against_host() -> usize {
    let shape = [2, 5, 768]; // rows of one part on either
    let mut compared = 0;
    for precision in [Precision::Single, Precision::BFloat16, Precision::Half] {
        let pass = |device: Device| -> Vec<Tensor> {
            let values = |shape: &[i64], seed: f64, kind: Kind| {
                let count = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
                let values = ((count * (12.9 + seed)).sin() * 2.0 + 1.0).view(shape).to_kind(kind);
                values.to_device(device).set_requires_grad(true)
            };
            let stream = values(&shape, 0.1, Kind::Float);
            let branch = values(&shape, 0.2, precision.kind());
            let [weight, bias] = [0.3, 0.4].map(|seed| values(&shape[2..], seed, Kind::Float));
            let layer = LayerNorm { weight: &weight, bias: &bias, epsilon: 1e-6 };
            let [sum, norm] = {
                let _autocast = Autocast::enter(device, precision).unwrap();
                layer.forward_of_sum(&branch, &stream, Takers::OneProduct).expect("there is a kernel for it")
            };
            assert_eq!(norm.kind(), precision.kind());
            ((&norm * values(&shape, 0.5, norm.kind()).detach()).sum(Kind::Float) + sum.sum(Kind::Float)).backward();
            let results = [sum.detach(), norm.detach(), stream.grad(), branch.grad(), weight.grad(), bias.grad()];
            results.iter().map(|tensor| tensor.to_device(Device::Cpu)).collect()
        };
        let [host, gpu] = [Device::Cpu, GPU].map(|device| kernels::with_those_of_a_gpu(|| pass(device)));
        for (place, (host, gpu)) in host.iter().zip(&gpu).enumerate() {
            let words = format!("LayerNorm, {precision:?}: result {place} differs by {}", difference(host, gpu));
            assert!(host.equal(gpu), "{words}");
            compared += 1;
        }
    }
    compared
}

/// Bytes from page-locked memory arrive before they are used: while the device is busy, and, in every second round, while it has nothing
/// else to do, when only waiting for them helps.
fn copies() -> String {
    const LENGTH: usize = 128 << 20;
    let mut copies = Copies::default();
    let large = Tensor::randn([4096, 4096], (Kind::Float, GPU));
    let rounds = 10;
    for round in 0..rounds {
        let mut memory = PinnedMemory::new(LENGTH).unwrap();
        memory.as_mut().fill(round);
        let _busy = (round % 2 == 0).then(|| large.matmul(&large));
        struct Bytes(PinnedMemory);
        impl std::ops::Deref for Bytes {
            type Target = [u8];
            fn deref(&self) -> &[u8] {
                self.0.as_ref()
            }
        }
        let there = copies.start(Bytes(memory), &[LENGTH as i64], GPU).unwrap();
        let sum = there.sum(Kind::Int64).int64_value(&[]);
        assert_eq!(sum, LENGTH as i64 * i64::from(round), "round {round}");
    }
    format!("{rounds} times {} MiB, each there when it was used", LENGTH >> 20)
}

/// Steps of a network with dropout and BatchNorm, recorded once and replayed, against the same ones given one by one.
fn recorded_step(group: &ProcessGroup) -> String {
    let config = DdpConfig { even_alone: true, ..DdpConfig::default() };
    let train = |algorithm: Algorithm, is_recorded: bool| -> Vec<Tensor> {
        tch::manual_seed(5);
        let backbone = Backbone::new(architectures::architecture("efficientnet_b0").unwrap().network(10), GPU);
        let mut optimizer = Optimizer::new(ParameterGroup::all(backbone.trained(), 1e-4), algorithm).unwrap();
        let (images, labels) =
            (Tensor::zeros([16, 3, 64, 64], (Kind::Float, GPU)), Tensor::zeros([16], (Kind::Int64, GPU)));
        let rate = Tensor::zeros([1], (Kind::Float, GPU));
        let ddp = DistributedDataParallel::new(&backbone.trained(), &[], group, config.clone()).unwrap();
        let mut step = || -> torch_ext::Result<Tensor> {
            ddp.zero_grad()?;
            let loss = loss_in(Precision::BFloat16, &ddp, &backbone, &images, &labels)?;
            loss.backward();
            let skip = loss.detach().isfinite().logical_not().to_kind(Kind::Float);
            optimizer.step_unless(LearningRate::OnDevice(&rate), Some(&skip))?;
            Ok(loss.detach())
        };
        let mut graph = None;
        for number in 0..30 {
            tch::manual_seed(number);
            images.shallow_clone().copy_(&Tensor::randn([16, 3, 64, 64], (Kind::Float, GPU)));
            labels.shallow_clone().copy_(&Tensor::randint(10, [16], (Kind::Int64, GPU)));
            let _ = rate.shallow_clone().fill_(0.01 / (1 + number) as f64);
            tch::manual_seed(number);
            if is_recorded && number == 12 {
                graph = Some(cuda::Graph::record(&mut step).unwrap());
            }
            match &graph {
                Some((graph, _)) => graph.replay().unwrap(),
                None => drop(step().unwrap()),
            }
        }
        backbone.state().into_iter().map(|(_, tensor)| tensor.detach().copy()).collect()
    };
    set_cudnn_mode(CudnnMode::Deterministic);
    let mut words = Vec::new();
    for (name, algorithm) in [("SGD", Algorithm::Sgd { momentum: 0.9, nesterov: true }), ("AdamW", Algorithm::ADAMW)] {
        let (one_by_one, recorded) = (train(algorithm, false), train(algorithm, true));
        let worst = one_by_one.iter().zip(&recorded).map(|(a, b)| difference(a, b)).fold(0.0, f64::max);
        let same = one_by_one.iter().zip(&recorded).all(|(a, b)| a.equal(b));
        assert!(worst < 1e-3, "{name}: {worst}");
        words.push(format!(
            "{name} {}",
            if same { "the same bits".to_owned() } else { format!("differs by {worst:.0e}") }
        ));
    }
    format!("30 steps through DistributedDataParallel in bf16: {}", words.join(", "))
}

/// What waits for the device cannot be recorded, and leaves nothing behind: memory is used again, and random numbers are drawn.
fn failed_recording() -> String {
    let x = Tensor::randn([64, 64], (Kind::Float, GPU));
    for _ in 0..2 {
        let waits = || -> torch_ext::Result<f64> { Ok(x.matmul(&x).sum(Kind::Float).f_double_value(&[])?) };
        assert!(cuda::Graph::record(waits).is_err());
    }
    let panics = || -> torch_ext::Result<f64> { Ok(x.matmul(&x).sum(Kind::Float).double_value(&[])) };
    assert!(catch_unwind(AssertUnwindSafe(|| cuda::Graph::record(panics))).is_err());
    let _ = x.dropout(0.5, true).sum(Kind::Float).double_value(&[]);
    let mut copies = Copies::default();
    let mut reserved = Vec::new();
    for _ in 0..40 {
        let there = copies.start(vec![1u8; 4 << 20], &[4 << 20], GPU).unwrap();
        assert_eq!(there.sum(Kind::Int64).int64_value(&[]), 4 << 20);
        reserved.push(cuda::memory_stats(0).unwrap().reserved);
    }
    assert_eq!(reserved[10], reserved[39], "memory is used again");
    let recorded = cuda::Graph::record(|| Ok::<_, torch_ext::Error>(&x * 2.0)).unwrap();
    recorded.0.replay().unwrap();
    assert!(recorded.1.equal(&(&x * 2.0)));
    "nothing is left behind".to_owned()
}
