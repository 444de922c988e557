//! rust-train with a model in which something goes wrong: `FAULT=WHAT:RANK:PASS`, on one rank, in one forward pass in
//! training, or in one of evaluation (`evaluation-WHAT`). The model has all that makes it hard to go on after a stop: BatchNorm, dropout, several layers.

use std::cell::Cell;
use std::process::ExitCode;
use std::time::Duration;

use rust_train::{BuildContext, Model, Module, Program};
use rustix::process::{Signal, getpid, kill_process};
use tch::nn::{self, Module as _};
use tch::{Kind, Tensor};
use torch_ext::{BatchNorm, ProcessGroup, SyncBatchNorm, kernels};

#[derive(Debug)]
struct Net {
    layers: [nn::Conv2D; 2],
    norms: [nn::BatchNorm; 2],
    head: nn::Linear,
}

impl Net {
    fn new(path: &nn::Path<'_>, classes: i64) -> Self {
        let same = nn::ConvConfig { padding: 1, ..nn::ConvConfig::default() };
        let conv = |name: &str, input| nn::conv2d(path / name, input, 24, 3, same);
        let norm = |name: &str| nn::batch_norm2d(path / name, 24, nn::BatchNormConfig::default());
        Self {
            layers: [conv("conv1", 3), conv("conv2", 24)],
            norms: [norm("norm1"), norm("norm2")],
            head: nn::linear(path / "head", 24, classes, nn::LinearConfig::default()),
        }
    }

    fn forward(&self, images: &Tensor, train: bool, sync: Option<&SyncBatchNorm>) -> Tensor {
        let mut values = images.shallow_clone();
        for (layer, norm) in self.layers.iter().zip(&self.norms) {
            values = normalized(&layer.forward(&values), norm, train, sync).relu();
        }
        self.head.forward(&values.adaptive_avg_pool2d([1, 1]).flatten(1, -1).dropout(0.2, train))
    }
}

fn normalized(values: &Tensor, norm: &nn::BatchNorm, train: bool, sync: Option<&SyncBatchNorm>) -> Tensor {
    match (sync, norm) {
        (Some(sync), nn::BatchNorm { ws: Some(weight), bs: Some(bias), running_mean, running_var, .. }) if train => {
            let layer = BatchNorm { weight, bias, running_mean, running_var, momentum: 0.1, epsilon: 1e-5 };
            sync.forward(&layer, values).unwrap_or_else(|error| panic!("{error}"))
        }
        _ => values.apply_t(norm, train),
    }
}

/// A model with a fault.
struct Faulty {
    net: Net,
    /// Its parameters.
    state: Module,
    /// With `--sync-bn`.
    sync: Option<SyncBatchNorm>,
    /// What, and in which pass in training; none on the other ranks.
    fault: Option<(String, usize)>,
    passes: Cell<usize>,
    evaluations: Cell<usize>,
}

impl Faulty {
    fn fail(&self, what: &str, logits: Tensor) -> Tensor {
        match what {
            "nan" => return logits * f64::NAN,
            "memory" => drop(Tensor::zeros([1 << 50], (Kind::Float, logits.device()))), // 4 PiB
            // In the way back: the gradient of one element is as large as what it was taken from, which took no memory.
            "memory-backward" => {
                let seemingly = logits.sum(Kind::Float).view([1]).expand([1 << 50], false);
                return logits + seemingly.select(0, 0) * 0.0;
            }
            "hang" => std::thread::sleep(Duration::from_secs(1000)),
            "stop" => kill_process(getpid(), Signal::STOP).unwrap(),
            "usr1" => kill_process(getpid(), Signal::USR1).unwrap(),
            "term-twice" => (0..2).for_each(|_| kill_process(getpid(), Signal::TERM).unwrap()),
            "kill" => kill_process(getpid(), Signal::KILL).unwrap(),
            "kernels" => {} // from the start
            "panic" => panic!("out of cheese"),
            other => panic!("no fault is called {other}"),
        }
        logits
    }
}

impl Model for Faulty {
    fn forward(&self, images: &Tensor, train: bool) -> Vec<Tensor> {
        let counter = if train { &self.passes } else { &self.evaluations };
        let pass = counter.replace(counter.get() + 1);
        let is_spoilt = train && self.fault.as_ref().is_some_and(|(what, when)| what == "nan-input" && *when == pass);
        let images = &(if is_spoilt { images * f64::NAN } else { images.shallow_clone() });
        let logits = self.net.forward(images, train, self.sync.as_ref());
        vec![match &self.fault {
            Some((what, _)) if what == "nan-input" => logits,
            // Not a pass but milliseconds for each.
            Some((what, milliseconds)) if what == "slow-evaluation" => {
                if !train {
                    std::thread::sleep(Duration::from_millis(*milliseconds as u64));
                }
                logits
            }
            // Not a pass but the number of images that are too many.
            Some((what, most)) if what == "memory-above" => {
                if train && images.size()[0] > *most as i64 {
                    self.fail("memory", logits)
                } else {
                    logits
                }
            }
            Some((what, when)) if pass == *when => match (what.strip_prefix("evaluation-"), train) {
                (Some(what), false) => self.fail(what, logits),
                (None, true) => self.fail(what, logits),
                _ => logits,
            },
            _ => logits,
        }]
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.state.parameters()
    }

    fn buffers(&self) -> Vec<(String, Tensor)> {
        self.state.buffers()
    }

    fn synchronize_batch_norm(&mut self, group: &ProcessGroup) -> bool {
        self.sync = Some(SyncBatchNorm::new(group));
        true
    }
}

/// The fault of this rank. The launcher's variable is good enough for a test.
fn fault() -> Option<(String, usize)> {
    let rank = ["OMPI_COMM_WORLD_RANK", "PMI_RANK"].iter().find_map(|name| std::env::var(name).ok());
    let fault = std::env::var("FAULT").ok()?;
    let mut parts = fault.split(':');
    let (what, who, when) = (parts.next()?, parts.next()?, parts.next()?);
    (who == "all" || who == rank.as_deref().unwrap_or("0")).then(|| (what.to_owned(), when.parse().unwrap()))
}

fn build(context: &BuildContext) -> anyhow::Result<Box<dyn Model>> {
    let vs = nn::VarStore::new(context.device);
    let net = Net::new(&vs.root(), context.outputs as i64);
    Ok(Box::new(Faulty {
        net,
        state: Module::new(vs, nn::func(Tensor::shallow_clone)),
        sync: None,
        fault: fault(),
        passes: Cell::new(0),
        evaluations: Cell::new(0),
    }))
}

fn main() -> ExitCode {
    if fault().is_some_and(|(what, _)| what == "kernels") {
        kernels::find_wrong("a kernel differs");
    }
    Program::new().model("faulty", 16, build).run()
}
