//! A network under training on random images: the same that `scripts/bench/ddp.py` trains.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backbones::Backbone;
use clap::Args;
use rust_train::collectives::MpiCollectives;
use tch::{Device, Kind, Tensor};
use torch_ext::optim::{Algorithm, Optimizer, ParameterGroup};
use torch_ext::{
    DdpConfig, DistributedDataParallel, HostCollectives, HostElements, MemoryFormat, ProcessGroup, ReduceOp,
    set_memory_format, to_channels_last,
};
use world::World;

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value = "resnet18")]
    pub model: String,
    /// Steps that count
    #[arg(long, default_value_t = 12)]
    pub steps: usize,
    /// Steps before them
    #[arg(long, default_value_t = 3)]
    pub warmup: usize,
    /// Images per rank
    #[arg(long, default_value_t = 64)]
    pub batch: i64,
    /// Side of the images
    #[arg(long, default_value_t = 32)]
    pub size: i64,
    #[arg(long)]
    pub channels_last: bool,
}

/// The all-reduces of the last step: bytes, and the time on the communication thread.
pub type Log = Arc<Mutex<Vec<(usize, Duration)>>>;

pub struct Replica<'a> {
    world: &'a World,
    pub group: ProcessGroup,
    backbone: Backbone,
    ddp: DistributedDataParallel,
    optimizer: RefCell<Optimizer>,
    images: Tensor,
    labels: Tensor,
    pub log: Log,
}

/// The parts of a step.
#[derive(Clone, Copy)]
pub struct Times {
    pub whole: Duration,
    pub forward: Duration,
    pub backward: Duration,
    pub optimizer: Duration,
}

impl<'a> Replica<'a> {
    pub fn new(options: &Options, world: &'a World) -> Self {
        let network = architectures::architecture(&options.model).unwrap().network(10);
        let backbone = Backbone::new(network, Device::Cpu);
        let format = if options.channels_last { MemoryFormat::ChannelsLast } else { MemoryFormat::Contiguous };
        let tensors = |named: Vec<(String, Tensor)>| named.into_iter().map(|(_, tensor)| tensor).collect::<Vec<_>>();
        set_memory_format(&tensors(backbone.state()), format).unwrap();

        let log = Log::default();
        let collectives = MpiCollectives::new(world.channel("gradients").unwrap());
        let group = ProcessGroup::host(Box::new(Logged { collectives, log: Arc::clone(&log) })).unwrap();
        let buffers = tensors(backbone.buffers());
        let ddp = DistributedDataParallel::new(&backbone.trained(), &buffers, &group, DdpConfig::default()).unwrap();
        let groups = ParameterGroup::all(backbone.trained(), 5e-4);
        let optimizer = Optimizer::new(groups, Algorithm::Sgd { momentum: 0.9, nesterov: true }).unwrap();

        let mut images = Tensor::randn([options.batch, 3, options.size, options.size], (Kind::Float, Device::Cpu));
        if options.channels_last {
            images = to_channels_last(&images).unwrap();
        }
        let labels = Tensor::randint(10, [options.batch], (Kind::Int64, Device::Cpu));
        let optimizer = RefCell::new(optimizer);
        Self { world, group, backbone, ddp, optimizer, images, labels, log }
    }

    /// One step, all ranks starting together; without `exchange` the gradients stay where they are.
    pub fn step(&self, exchange: bool) -> Times {
        self.log.lock().unwrap().clear();
        self.world.control().barrier().unwrap();
        let start = Instant::now();
        self.ddp.zero_grad().unwrap();
        let pass = || self.backbone.forward(&self.images, true).cross_entropy_for_logits(&self.labels);
        let loss = if exchange { self.ddp.forward(pass).unwrap() } else { self.ddp.no_sync(pass) };
        let forward = start.elapsed();
        loss.f_backward().unwrap();
        let backward = start.elapsed();
        self.optimizer.borrow_mut().step(0.01).unwrap();
        let whole = start.elapsed();
        Times { whole, forward, backward: backward - forward, optimizer: whole - backward }
    }
}

/// In seconds.
pub fn median(times: impl IntoIterator<Item = Duration>) -> f64 {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// Collectives that note the all-reduces.
struct Logged {
    collectives: MpiCollectives,
    log: Log,
}

impl HostCollectives for Logged {
    fn rank(&self) -> usize {
        self.collectives.rank()
    }
    fn size(&self) -> usize {
        self.collectives.size()
    }
    fn all_reduce(&mut self, elements: HostElements<'_>, op: ReduceOp) -> Result<(), String> {
        let (bytes, start) = (elements.bytes(), Instant::now());
        let result = self.collectives.all_reduce(elements, op);
        self.log.lock().unwrap().push((bytes, start.elapsed()));
        result
    }
    fn broadcast(&mut self, bytes: &mut [u8], root: usize) -> Result<(), String> {
        self.collectives.broadcast(bytes, root)
    }
    fn all_gather(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), String> {
        self.collectives.all_gather(input, output)
    }
    fn barrier(&mut self) -> Result<(), String> {
        self.collectives.barrier()
    }
}
