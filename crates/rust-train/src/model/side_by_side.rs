//! A network in evaluation on the CPU: a few images each are computed by one thread, side by side. The bits that come out do not depend
//! on how many threads a rank has: where several share an operation, libtorch and oneDNN choose by their number how it is computed.

use std::sync::mpsc::{Sender, channel};

use backbones::Backbone;
use tch::Tensor;

use super::numerics::Numerics;
use crate::machine::workers::Workers;

/// Images that a thread computes at a time: enough for matrix products to be worth it, few enough for many threads to have some.
const TOGETHER: i64 = 4;

/// Threads with a network each, on the same tensors. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct SideBySide {
    workers: Workers<Job>,
}

/// What a thread has to do, and where the outcome goes, with its place.
#[derive(Debug)]
struct Job {
    place: usize,
    images: Tensor,
    done: Sender<(usize, torch_ext::Result<Tensor>)>,
}

impl SideBySide {
    /// On so many `threads`. From here on no operation of this process is computed by several.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub(crate) fn new(network: &Backbone, numerics: Numerics, threads: usize) -> anyhow::Result<Self> {
        tch::set_num_threads(1);
        let begin = |_| {
            let network = network.shared();
            move || {
                let network = network.arrive();
                move |Job { place, images, done }| {
                    let outputs =
                        tch::no_grad(|| numerics.compute(&images, |images| vec![network.forward(images, false)]));
                    // Whoever wanted it may have given up.
                    let _ = done.send((place, outputs.map(|mut outputs| outputs.remove(0))));
                }
            }
        };
        Ok(Self { workers: Workers::start("evaluation", (0..threads).map(begin))? })
    }

    /// What the network gives for `images`, a row for each.
    pub(crate) fn forward(&self, images: &Tensor) -> anyhow::Result<Tensor> {
        let (done, outcomes) = channel();
        for (place, images) in images.f_split(TOGETHER, 0)?.into_iter().enumerate() {
            self.workers.give(Job { place, images, done: done.clone() })?;
        }
        drop(done);
        let mut outputs: Vec<_> = outcomes.into_iter().collect();
        outputs.sort_by_key(|(place, _)| *place);
        let outputs: Vec<Tensor> = outputs.into_iter().map(|(_, output)| output).collect::<Result<_, _>>()?;
        let rows: i64 = outputs.iter().map(|output| output.size()[0]).sum();
        anyhow::ensure!(rows == images.size()[0], "a thread that evaluates has ended in the middle of it");
        Ok(Tensor::f_cat(&outputs, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};
    use torch_ext::{MemoryFormat, Precision};

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let numerics =
            Numerics { device: Device::Cpu, precision: Precision::Single, memory_format: MemoryFormat::Contiguous };
        tch::manual_seed(3);
        for name in ["unet_small", "mobilenet_v3_small", "efficientnet_b0"] {
            let network = architectures::architecture(name).unwrap().network(3);
            let network = Backbone::new(network, Device::Cpu).folded();
            let images = Tensor::randn([7, 3, 48, 48], (Kind::Float, Device::Cpu));
            let of = |threads| SideBySide::new(&network, numerics, threads).unwrap().forward(&images).unwrap();
            let (one, three) = (of(1), of(3));
            assert!(one == three && one.size()[0] == 7, "{name}");
            let alone = tch::no_grad(|| network.forward(&images, false));
            assert!((one - alone).abs().max().double_value(&[]) < 1e-4, "{name}");
        }
    }
}
