//! The gradient engine over several ranks. Arguments: the case, and `direct` where MPI is to take the tensors as if they lay on a
//! device. Whatever a case trains over all ranks is compared with what one rank computes alone.

use std::time::Duration;

use backbones::Backbone;
use rust_train::collectives::MpiCollectives;
use tch::{Device, Kind, Tensor};
use torch_ext::optim::{Algorithm, GradScaler, GradScalerConfig, Optimizer, ParameterGroup};
use torch_ext::{
    BatchNorm, DdpConfig, DistributedDataParallel, Fused, OnlyRank, ProcessGroup, ReduceOp, Store, SyncBatchNorm,
    to_channels_last,
};
use world::{Gpu, World, WorldConfig};

const SGD: Algorithm = Algorithm::Sgd { momentum: 0.9, nesterov: true };

fn main() {
    let case = std::env::args().nth(1).expect("a case");
    let timeout = if case.starts_with("lost-") { 2 } else { 60 };
    let world = World::init(WorldConfig { timeout: Duration::from_secs(timeout), ..WorldConfig::default() }).unwrap();
    tch::set_num_threads(1);
    // Different on every rank: what is equal afterwards was made equal.
    tch::manual_seed(1 + world.rank() as i64);
    let collectives = Box::new(MpiCollectives::new(world.channel("gradients").unwrap()));
    let group = match std::env::args().nth(2).as_deref() {
        Some("direct") => ProcessGroup::direct(collectives, Device::Cpu).unwrap(),
        Some(other) => panic!("nothing is called {other}"),
        None => ProcessGroup::host(collectives).unwrap(),
    };
    match case.as_str() {
        "equal-replicas" => equal_replicas(&group),
        "like-one-rank" => like_one_rank(&group),
        "sync-bn" => sync_bn(&group),
        "uneven" => uneven(&group),
        "unused" => unused(&group),
        "accumulate" => accumulate(&group),
        "compressed" => compressed(&group),
        "zero" => zero(&group),
        "scaler" => scaler(&group),
        "corrupt" => corrupt(&group),
        "other-shape" => other_shape(&group),
        "store" => store(&world),
        "device-memory" => device_memory(&group, &world),
        "lost-backward" | "lost-collective" => lost(&case, &group, &world),
        other => panic!("no case is called {other}"),
    }
}

fn network(name: &str) -> Backbone {
    Backbone::new(architectures::architecture(name).unwrap().network(10), Device::Cpu)
}

fn tensors(named: &[(String, Tensor)]) -> Vec<Tensor> {
    named.iter().map(|(_, tensor)| tensor.shallow_clone()).collect()
}

fn data_parallel(backbone: &Backbone, group: &ProcessGroup, config: DdpConfig) -> DistributedDataParallel {
    DistributedDataParallel::new(&backbone.trained(), &tensors(&backbone.buffers()), group, config).unwrap()
}

/// Small buckets, so that a small network has several.
fn small_buckets() -> DdpConfig {
    DdpConfig { bucket_bytes: 64 << 10, first_bucket_bytes: 4 << 10, ..DdpConfig::default() }
}

fn optimizer(backbone: &Backbone) -> Optimizer {
    Optimizer::new(ParameterGroup::all(backbone.trained(), 5e-4), SGD).unwrap()
}

/// The images and labels of the global batch `step`: the same on every rank.
fn batch(step: usize, count: i64) -> (Tensor, Tensor) {
    tch::manual_seed(step as i64);
    let images = Tensor::randn([count, 3, 16, 16], (Kind::Float, Device::Cpu));
    (images, Tensor::randint(10, [count], (Kind::Int64, Device::Cpu)))
}

/// This rank's part of a batch of `sizes.sum()` samples.
fn part(whole: &Tensor, sizes: &[i64], rank: usize) -> Tensor {
    whole.narrow(0, sizes[..rank].iter().sum(), sizes[rank])
}

/// A loss whose mean over ranks is the mean over all samples, however many each rank has.
fn loss(backbone: &Backbone, images: &Tensor, labels: &Tensor, share: f64) -> Tensor {
    let logits = backbone.forward(images, true);
    logits.cross_entropy_loss::<Tensor>(labels, None, tch::Reduction::Sum, -100, 0.0) * share
}

fn flat(backbone: &Backbone) -> Tensor {
    Tensor::cat(
        &backbone
            .state()
            .iter()
            .map(|(_, tensor)| tensor.detach().to_kind(Kind::Double).reshape([-1]))
            .collect::<Vec<_>>(),
        0,
    )
}

/// How far two models are from each other, relative to the second: the norm of what differs.
fn difference(a: &Backbone, b: &Backbone) -> f64 {
    let (a, b) = (flat(a), flat(b));
    (a - &b).norm().double_value(&[]) / b.norm().double_value(&[])
}

/// A training that is made twice: over all ranks, and by one rank alone.
#[derive(Clone, Copy)]
struct Trial<'a> {
    network: &'a str,
    /// Samples of each rank in a global batch.
    sizes: &'a [i64],
    steps: usize,
    synchronize: bool,
    kind: Kind,
}

/// How far two trainings ended from each other.
#[derive(Debug)]
struct Difference {
    /// All ranks from one alone.
    ranks: f64,
    /// One rank alone from itself, when the samples of its batches come in other orders: what rounding alone makes of
    /// sums that are added up otherwise, on this processor and with its kernels.
    order: f64,
}

impl Difference {
    /// What is left between sums of other orders is not known better than to a factor: each rounds otherwise.
    const FACTOR: f64 = 8.0;

    /// The most that rounding explains.
    fn explained(&self, kind: Kind) -> f64 {
        // Where no order happened to matter, the last few bits may all the same.
        Self::FACTOR * self.order.max(4.0 * epsilon(kind))
    }
}

impl Trial<'_> {
    fn new<'a>(network: &'a str, sizes: &'a [i64]) -> Trial<'a> {
        Trial { network, sizes, steps: 10, synchronize: false, kind: Kind::Float }
    }

    fn network(&self) -> Backbone {
        let backbone = network(self.network);
        for (_, mut tensor) in backbone.state() {
            if tensor.kind() == Kind::Float {
                tensor.set_data(&tensor.to_kind(self.kind));
            }
        }
        backbone
    }

    fn batch(&self, step: usize) -> (Tensor, Tensor) {
        let (images, labels) = batch(step, self.count());
        (images.to_kind(self.kind), labels)
    }

    fn count(&self) -> i64 {
        self.sizes.iter().sum()
    }

    /// Trains over all ranks; gives what they began with, and what became of it.
    fn together(&self, group: &ProcessGroup) -> (Backbone, Backbone) {
        let (mut together, start) = (self.network(), self.network());
        if self.synchronize {
            together.synchronize_batch_norm(group);
        }
        let ddp = data_parallel(&together, group, small_buckets());
        copy(&together, &start);
        let mut optimizer = optimizer(&together);
        for step in 0..self.steps {
            let (images, labels) = self.batch(step);
            ddp.zero_grad().unwrap();
            let own = |whole| part(whole, self.sizes, group.rank());
            let share = group.size() as f64 / self.count() as f64;
            ddp.forward(|| loss(&together, &own(&images), &own(&labels), share)).unwrap().backward();
            optimizer.step(0.01).unwrap();
        }
        (start, together)
    }

    /// Trains from `start` by this rank alone, the samples of each batch in the order that `order` gives.
    fn alone(&self, start: &Backbone, order: &dyn Fn(i64) -> i64) -> Backbone {
        let mut alone = self.network();
        // In single precision the ordinary layer has kernels of its own, whose rounding is another.
        if self.synchronize && self.kind == Kind::Float {
            alone.synchronize_batch_norm(&ProcessGroup::host(Box::new(OnlyRank)).unwrap());
        }
        copy(start, &alone);
        let mut optimizer = optimizer(&alone);
        let order = Tensor::from_slice(&(0..self.count()).map(order).collect::<Vec<_>>());
        for step in 0..self.steps {
            let (images, labels) = self.batch(step);
            let in_order = |whole: Tensor| whole.index_select(0, &order);
            zero_grads(&alone);
            loss(&alone, &in_order(images), &in_order(labels), 1.0 / self.count() as f64).backward();
            optimizer.step(0.01).unwrap();
        }
        alone
    }

    fn compare(&self, group: &ProcessGroup) -> Difference {
        let (start, together) = self.together(group);
        let count = self.count();
        let alone = self.alone(&start, &|place| place);
        let orders: [&dyn Fn(i64) -> i64; 3] =
            [&|place| count - 1 - place, &|place| (place + count / 2) % count, &|place| {
                (count - 1 - place + count / 2) % count
            }];
        let order = orders.into_iter().map(|order| difference(&self.alone(&start, order), &alone)).fold(0.0, f64::max);
        Difference { ranks: difference(&together, &alone), order }
    }

    /// Asserts that all ranks compute what one would, but for rounding.
    fn expect_like_one_rank(&self, group: &ProcessGroup) {
        let Self { network, sizes, steps, synchronize, kind } = self;
        let difference = self.compare(group);
        let explained = difference.explained(*kind);
        let what = format!("{network}, {sizes:?}, {steps} steps in {kind:?}, synchronized: {synchronize}");
        println!("{what}: {difference:?}");
        assert!(difference.ranks <= explained, "{what}: {difference:?}, and rounding explains {explained}");
    }
}

fn copy(from: &Backbone, to: &Backbone) {
    for ((_, mut to), (_, from)) in to.state().into_iter().zip(from.state()) {
        tch::no_grad(|| to.copy_(&from));
    }
}

fn zero_grads(backbone: &Backbone) {
    for (_, parameter) in backbone.trained() {
        let mut grad = parameter.grad();
        if grad.defined() {
            let _ = grad.zero_();
        }
    }
}

/// After 50 steps every bit is the same on all ranks, with and without BatchNorm.
fn equal_replicas(group: &ProcessGroup) {
    for name in ["lenet", "cifar_resnet20"] {
        let backbone = network(name);
        let ddp = data_parallel(&backbone, group, small_buckets());
        let mut optimizer = optimizer(&backbone);
        let before = flat(&backbone);
        for step in 0..50 {
            // Other images on every rank.
            let (images, labels) = batch(step * group.size() + group.rank(), 4);
            ddp.zero_grad().unwrap();
            ddp.forward(|| loss(&backbone, &images, &labels, 0.25)).unwrap().backward();
            optimizer.step(0.02).unwrap();
        }
        let parameters =
            Tensor::cat(&tensors(&backbone.trained()).iter().map(|p| p.detach().reshape([-1])).collect::<Vec<_>>(), 0);
        let all = group.all_gather(&parameters).unwrap();
        assert!((0..group.size() as i64).all(|rank| all.get(rank) == parameters), "{name}");
        assert_eq!(ddp.compare_replicas().unwrap(), None);
        assert!((flat(&backbone) - before).abs().max().double_value(&[]) > 1e-3, "{name} did not train");
    }
}

fn like_one_rank(group: &ProcessGroup) {
    let even = vec![4; group.size()];
    Trial { steps: 50, ..Trial::new("lenet", &even) }.expect_like_one_rank(group);
    let exact = Trial { steps: 20, kind: Kind::Double, synchronize: true, ..Trial::new("cifar_resnet20", &even) };
    exact.expect_like_one_rank(group);
    // In single precision BatchNorm before ReLU has jumps: a value that rounding moves across zero takes a gradient along
    // or leaves it, and no bound on rounding says how much that is. But it is far less than what is computed wrong where
    // every rank takes the statistics of its own part, which the comparison sees in either precision.
    if group.size() > 1 {
        let single = Trial { steps: 5, kind: Kind::Float, ..exact };
        let synchronized = single.compare(group);
        let apart = Trial { synchronize: false, ..single }.compare(group);
        println!("in single precision: synchronized {synchronized:?}, apart {apart:?}");
        assert!(synchronized.ranks < apart.ranks / 5.0, "{synchronized:?}, {apart:?}");
        let apart = Trial { steps: 5, synchronize: false, ..exact }.compare(group);
        assert!(apart.ranks > 1e3 * apart.explained(Kind::Double), "{apart:?}");
    }
}

fn epsilon(kind: Kind) -> f64 {
    if kind == Kind::Double { f64::EPSILON } else { f32::EPSILON.into() }
}

/// One layer against BatchNorm on one rank in double precision: output, all three gradients, running statistics. By libtorch's
/// operations, and by the kernels of a GPU, which a host runs, too.
fn sync_bn(group: &ProcessGroup) {
    let together = SyncBatchNorm::new(group);
    let fused = Fused { together: Some(&together), ..Fused::NOTHING };
    let by_operations = |layer: &BatchNorm<'_>, x: &Tensor| together.forward(layer, x);
    let by_kernels = |layer: &BatchNorm<'_>, x: &Tensor| match x.dim() {
        4 => layer.forward_in_kernels(&to_channels_last(x)?, fused),
        _ => layer.forward_in_kernels(x, fused),
    };
    sync_bn_by(&by_operations, Kind::Double, group);
    sync_bn_by(&by_operations, Kind::Float, group);
    sync_bn_by(&by_kernels, Kind::Float, group);
}

type Forward<'a> = &'a dyn Fn(&BatchNorm<'_>, &Tensor) -> torch_ext::Result<Tensor>;

fn sync_bn_by(forward: Forward<'_>, kind: Kind, group: &ProcessGroup) {
    const MEAN: f64 = 100.0; // and a deviation of about 2: what is left of a difference to the mean has lost 1/50
    let double = (Kind::Double, Device::Cpu);
    let ranks = group.size() as i64;
    for sizes in [vec![3; ranks as usize], (1..=ranks).collect(), (0..ranks).collect::<Vec<_>>()] {
        let count: i64 = sizes.iter().sum();
        if count < 2 {
            continue;
        }
        for shape in [vec![count, 5], vec![count, 5, 4, 3]] {
            let elements: i64 = shape.iter().product();
            let whole = (Tensor::arange(elements, double) * 0.37).sin().view(&shape[..]) * 3.0 + MEAN;
            let slope = (Tensor::arange(elements, double) * 0.91).cos().view(&shape[..]);
            let leaf = |tensor: &Tensor| tensor.copy().set_requires_grad(true);
            let weight = Tensor::arange(5, double) * 0.3 + 0.5;
            let bias = Tensor::arange(5, double) * 0.1;

            let alone = [leaf(&whole), leaf(&weight), leaf(&bias)];
            let alone_running = [Tensor::zeros([5], double), Tensor::ones([5], double)];
            let [x, w, b] = &alone;
            let [mean, var] = &alone_running;
            let y = x.batch_norm(Some(w), Some(b), Some(mean), Some(var), true, 0.1, 1e-5, true);
            (&y * &slope).sum(Kind::Double).backward();

            let part = |whole: &Tensor| part(whole, &sizes, group.rank());
            let own = [part(&whole), weight.copy(), bias.copy()].map(|tensor| leaf(&tensor.to_kind(kind)));
            let running = [Tensor::zeros([5], double), Tensor::ones([5], double)].map(|tensor| tensor.to_kind(kind));
            let [x, w, b] = &own;
            let [running_mean, running_var] = &running;
            let layer = BatchNorm { weight: w, bias: b, running_mean, running_var, momentum: 0.1, epsilon: 1e-5 };
            let out = forward(&layer, x).unwrap();
            (&out * part(&slope).to_kind(kind)).sum(Kind::Double).backward();

            let close = |got: &Tensor, expected: &Tensor, what: &str| {
                assert_eq!(got.size(), expected.size(), "{what}");
                if got.numel() > 0 {
                    let difference = (got.to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
                    let bound = 64.0 * epsilon(kind) * MEAN / 2.0 * expected.abs().max().double_value(&[]).max(1.0);
                    assert!(
                        difference < bound,
                        "{what}, {kind:?}, batches {sizes:?} of {shape:?}: {difference} > {bound}"
                    );
                }
            };
            close(&out, &part(&y), "output");
            close(&own[0].grad(), &part(&alone[0].grad()), "gradient of the input");
            for (index, what) in [(1, "gradient of the weight"), (2, "gradient of the bias")] {
                let grad = own[index].grad();
                group.all_reduce(&grad, ReduceOp::Sum).unwrap();
                close(&grad, &alone[index].grad(), what);
            }
            close(&running[0], &alone_running[0], "running mean");
            close(&running[1], &alone_running[1], "running variance");
        }
    }
}

/// Ranks with different numbers of samples, and with none at all, as in the last batch of an epoch.
fn uneven(group: &ProcessGroup) {
    let ranks = group.size() as i64;
    let sizes: Vec<_> = (0..ranks).map(|rank| rank * 2 + 1).collect();
    let last: Vec<_> = (0..ranks).map(|rank| if rank == 0 { 0 } else { 3 }).collect();
    for sizes in [sizes, last] {
        Trial::new("lenet", &sizes).expect_like_one_rank(group);
        let synchronized = Trial { synchronize: true, kind: Kind::Double, ..Trial::new("cifar_resnet20", &sizes) };
        synchronized.expect_like_one_rank(group);
    }
}

/// A parameter that takes part on one rank only, and one that never does.
fn unused(group: &ProcessGroup) {
    let leaf = |value: f64| Tensor::full([3], value, (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let (everywhere, sometimes, never) = (leaf(1.0), leaf(2.0), leaf(3.0));
    let named = [("everywhere", &everywhere), ("sometimes", &sometimes), ("never", &never)];
    let named: Vec<_> = named.map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone())).into();
    let config = DdpConfig { find_unused_parameters: true, ..DdpConfig::default() };
    let ddp = DistributedDataParallel::new(&named, &[], group, config).unwrap();
    let ranks = group.size() as f64;
    for step in 0..2 * group.size() {
        ddp.zero_grad().unwrap();
        let who = step % group.size();
        let loss = ddp.forward(|| {
            let sum = everywhere.sum(Kind::Float);
            if group.rank() == who { sum + sometimes.sum(Kind::Float) } else { sum }
        });
        loss.unwrap().backward();
        let grad = |tensor: &Tensor| tensor.grad().double_value(&[0]);
        assert_eq!(grad(&everywhere), 1.0);
        assert!((grad(&sometimes) - 1.0 / ranks).abs() < 1e-6);
        assert!(!never.grad().defined() || grad(&never) == 0.0);
    }
}

/// Micro-batches whose gradients travel once are one batch; so under a static graph.
fn accumulate(group: &ProcessGroup) {
    let trial = Trial { kind: Kind::Double, ..Trial::new("lenet", &[6]) };
    for static_graph in [false, true] {
        let (pieces, whole) = (trial.network(), trial.network());
        let in_pieces = data_parallel(&pieces, group, DdpConfig { static_graph, ..small_buckets() });
        let at_once = data_parallel(&whole, group, small_buckets());
        copy(&pieces, &whole);
        let (mut optimizer_pieces, mut optimizer_whole) = (optimizer(&pieces), optimizer(&whole));
        for step in 0..5 {
            let (images, labels) = trial.batch(step * group.size() + group.rank());
            in_pieces.zero_grad().unwrap();
            for micro in 0..3 {
                let (images, labels) = (images.narrow(0, micro * 2, 2), labels.narrow(0, micro * 2, 2));
                let pass = || loss(&pieces, &images, &labels, 1.0 / 6.0);
                if micro < 2 { in_pieces.no_sync(pass) } else { in_pieces.forward(pass).unwrap() }.backward();
            }
            optimizer_pieces.step(0.05).unwrap();
            at_once.zero_grad().unwrap();
            at_once.forward(|| loss(&whole, &images, &labels, 1.0 / 6.0)).unwrap().backward();
            optimizer_whole.step(0.05).unwrap();
        }
        // In double precision rounding is far below whatever a lost or doubled part would be.
        let difference = difference(&pieces, &whole);
        assert!(difference < 1e-9, "{difference}");
        assert_eq!(in_pieces.compare_replicas().unwrap(), None);
    }
}

/// Gradients that travel in half precision are the mean, to its precision, and the same on all ranks.
fn compressed(group: &ProcessGroup) {
    for (kind, tolerance) in [(Kind::Half, 2e-3), (Kind::BFloat16, 2e-2)] {
        let weight = Tensor::zeros([1000], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let named = [("weight".to_owned(), weight.shallow_clone())];
        let config = DdpConfig { compression: Some(kind), ..DdpConfig::default() };
        let ddp = DistributedDataParallel::new(&named, &[], group, config).unwrap();
        for _ in 0..2 {
            ddp.zero_grad().unwrap();
            let slope = |rank: usize| (Tensor::arange(1000, (Kind::Float, Device::Cpu)) * 0.01 + rank as f64).sin();
            ddp.forward(|| (&weight * slope(group.rank())).sum(Kind::Float)).unwrap().backward();
            let mean = (0..group.size()).map(slope).reduce(|a, b| a + b).unwrap() / group.size() as f64;
            let error = (weight.grad() - &mean).abs().max().double_value(&[]);
            assert!(error < tolerance, "{kind:?}: {error}");
            assert!(error > 0.0, "{kind:?}: not compressed at all");
            let all = group.all_gather(&weight.grad()).unwrap();
            assert!((0..group.size() as i64).all(|rank| all.get(rank) == weight.grad()));
        }
    }
}

/// A sharded optimizer computes the same, bit by bit, with its state spread out; its state can be gathered and shared
/// out again.
fn zero(group: &ProcessGroup) {
    let nadam = Algorithm::named("nadamw", 0.9, false).unwrap();
    let older = [SGD, Algorithm::ADAM, Algorithm::ADAMW, Algorithm::LARS, Algorithm::LAMB];
    let rules = older.into_iter().chain([nadam, Algorithm::LION, Algorithm::Adafactor, Algorithm::MUON]);
    for algorithm in rules {
        let (sharded, plain) = (network("lenet"), network("lenet"));
        group.broadcast(&tensors(&sharded.state()).iter().map(Tensor::detach).collect::<Vec<_>>(), 0).unwrap();
        copy(&sharded, &plain);
        let groups = |backbone: &Backbone| ParameterGroup::without_decay_on_vectors(backbone.trained(), 0.01);
        let mut optimizer_sharded = Optimizer::sharded(groups(&sharded), algorithm, group).unwrap();
        let mut optimizer_plain = Optimizer::new(groups(&plain), algorithm).unwrap();
        for step in 0..6 {
            for backbone in [&sharded, &plain] {
                zero_grads(backbone);
                let (images, labels) = batch(step, 4);
                loss(backbone, &images, &labels, 0.25).backward();
            }
            optimizer_sharded.step(0.01).unwrap();
            optimizer_plain.step(0.01).unwrap();
            assert!(flat(&sharded) == flat(&plain), "{algorithm:?} differs after step {step}");
            if step == 2 {
                let state = optimizer_sharded.state().unwrap();
                let expected = optimizer_plain.state().unwrap();
                assert_eq!(state.len(), expected.len());
                assert!(state.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && a.1 == b.1), "{algorithm:?}");
                let state: Vec<_> = state.into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
                optimizer_sharded = Optimizer::sharded(groups(&sharded), algorithm, group).unwrap();
                optimizer_sharded.load_state(&state).unwrap();
            }
        }
        let (own, all) = (optimizer_sharded.state_bytes(), optimizer_plain.state_bytes());
        let total = Tensor::from_slice(&[own as i64]);
        group.all_reduce(&total, ReduceOp::Sum).unwrap();
        assert_eq!(total.int64_value(&[0]), all as i64);
        assert!(own < all || group.size() == 1);
        if group.rank() == 0 {
            println!("{algorithm:?}: {own} of {all} bytes of state on rank 0");
        }
    }
}

/// A gradient that is not finite on one rank makes all ranks skip the step.
fn scaler(group: &ProcessGroup) {
    let weight = Tensor::zeros([4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let groups = ParameterGroup::all(vec![("weight".to_owned(), weight.shallow_clone())], 0.0);
    let mut optimizer = Optimizer::new(groups, SGD).unwrap();
    let mut scaler = GradScaler::new(GradScalerConfig::default(), Device::Cpu);
    for (step, bad_rank) in [None, Some(0), Some(group.size() - 1), None].into_iter().enumerate() {
        let mut grad = weight.grad();
        if grad.defined() {
            let _ = grad.zero_();
        }
        let before = weight.detach().copy();
        let factor = if bad_rank == Some(group.rank()) { f64::INFINITY } else { 1.0 };
        scaler.scale(&(&weight * factor).sum(Kind::Float)).backward();
        let stepped = scaler.step(&mut optimizer, 0.1, None, group).unwrap().double_value(&[0]) == 0.0;
        assert_eq!(stepped, bad_rank.is_none(), "step {step}");
        assert_eq!(weight.detach() == before, !stepped);
    }
    assert_eq!(scaler.state(), (65_536.0 / 4.0, 1));
}

/// A parameter that went astray on one rank is found by name.
fn corrupt(group: &ProcessGroup) {
    let backbone = network("cifar_resnet20");
    let ddp = data_parallel(&backbone, group, DdpConfig::default());
    assert_eq!(ddp.compare_replicas().unwrap(), None);
    let who = group.size() - 1;
    if group.rank() == who {
        let (_, parameter) = backbone.trained().into_iter().find(|(name, _)| name == "layer2.0.conv1.weight").unwrap();
        let mut value = parameter.detach().flatten(0, -1).get(17);
        let _ = value.g_mul_scalar_(1.0000002); // one bit
    }
    let found = ddp.compare_replicas().unwrap().expect("the difference is found");
    assert_eq!((found.parameter.as_str(), found.parameters), ("layer2.0.conv1.weight", 1));
    assert_eq!(found.ranks, [who]);
}

/// Ranks that built different networks learn it before the first step.
fn other_shape(group: &ProcessGroup) {
    let columns = if group.rank() == 1 { 4 } else { 3 };
    let weight = Tensor::zeros([2, columns], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let refused = DistributedDataParallel::new(&[("weight".to_owned(), weight)], &[], group, DdpConfig::default());
    let text = refused.map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("verifying parameters across ranks"), "{text}");
    assert!(group.rank() != 1 || text.contains("[2, 4]"), "{text}");
}

/// How NCCL's ranks find each other: rank 0 serves, MPI carries the port.
fn store(world: &World) {
    let timeout = Duration::from_secs(20);
    let mut served = None;
    let port = world.from_rank_zero("opening the store", || {
        let store = Store::serve(world.host(), timeout).unwrap();
        let port = store.port().to_be_bytes().to_vec();
        served = Some(store);
        Ok(port)
    });
    let port = u16::from_be_bytes(port.unwrap().try_into().unwrap());
    let store = served.unwrap_or_else(|| Store::connect(world.host_of(0), port, timeout).unwrap());
    store.set(&format!("rank {}", world.rank()), world.host().as_bytes()).unwrap();
    for rank in 0..world.size() {
        assert_eq!(store.get(&format!("rank {rank}")).unwrap(), world.host_of(rank).as_bytes());
    }
    world.control().barrier().unwrap();
}

/// What MPI takes as if it lay on a device arrives as what lies in host memory does, in the order in which it was sent.
fn device_memory(group: &ProcessGroup, world: &World) {
    let in_host_memory = MpiCollectives::new(world.channel("host memory").unwrap());
    let in_host_memory = ProcessGroup::host(Box::new(in_host_memory)).unwrap();
    for kind in [Kind::Uint8, Kind::Int, Kind::Int64, Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half] {
        for length in [0, 1, 100_003] {
            let numbers =
                (Tensor::arange(length, (Kind::Int64, Device::Cpu)).remainder(7) + 1 + 3 * group.rank() as i64)
                    .to_kind(kind);
            for op in [ReduceOp::Sum, ReduceOp::Product, ReduceOp::Min, ReduceOp::Max] {
                let [direct, host] = [group, &in_host_memory].map(|group| {
                    let numbers = numbers.copy();
                    group.all_reduce(&numbers, op).unwrap();
                    numbers
                });
                assert!(direct.equal(&host), "{kind:?}, {op:?}");
                if op == ReduceOp::Sum && length > 0 && group.size() > 1 {
                    assert!(!direct.equal(&numbers), "{kind:?}: nothing was added");
                }
            }
            let [direct, host] = [group, &in_host_memory].map(|group| group.all_gather(&numbers).unwrap());
            assert!(direct.equal(&host), "{kind:?}");
            let [direct, host] = [group, &in_host_memory].map(|group| {
                let numbers = numbers.copy();
                group.broadcast(&[numbers.shallow_clone()], group.size() - 1).unwrap();
                numbers
            });
            assert!(direct.equal(&host), "{kind:?}");
        }
    }
    // Of the ranks that are tested with none is made for a GPU; the question is asked for real.
    for gpu in [Gpu::Cuda, Gpu::Hip] {
        println!("MPI reaches {gpu:?}: {}", world.mpi_reaches(gpu).unwrap());
    }
    group.barrier().unwrap();
}

/// One rank stays away from backward, or calls something else: the error that backward gives names it.
fn lost(case: &str, group: &ProcessGroup, world: &World) {
    let backbone = network("lenet");
    let ddp = data_parallel(&backbone, group, small_buckets());
    let (images, labels) = batch(0, 4);
    for step in 0..3 {
        ddp.zero_grad().unwrap();
        let loss = ddp.forward(|| loss(&backbone, &images, &labels, 0.25)).unwrap();
        let error = if step < 2 || world.rank() != 1 {
            loss.f_backward().err().map(|error| error.to_string())
        } else if case == "lost-backward" {
            std::thread::sleep(Duration::from_secs(30));
            None
        } else {
            group.barrier().err().map(|error| error.to_string())
        };
        if let Some(error) = error {
            world.abort(error.lines().next().unwrap_or_default(), 1);
        }
    }
}
