//! The bandwidth of the host group at the bucket sizes of a real network against a bare `MPI_Allreduce` of the same
//! sizes, alternately; which share of the communication hides behind backward; and the same for sums along a tree.

use std::time::Duration;

use tch::{Device, Kind, Tensor};
use torch_ext::ReduceOp;
use world::{Reduction, World};

use crate::replica::{Options, Replica, median};

const ROUNDS: usize = 41;

pub fn run(options: &Options, world: &World) {
    let replica = Replica::new(options, world);
    // With and without communication, alternately.
    let (mut with, mut without, mut communication) = (Vec::new(), Vec::new(), Vec::new());
    let mut buckets = Vec::new();
    for step in 0..options.warmup + options.steps {
        let times = replica.step(true);
        let log = std::mem::take(&mut *replica.log.lock().unwrap());
        let alone = replica.step(false);
        if step >= options.warmup {
            with.push(times.whole);
            without.push(alone.whole);
            communication.push(log.iter().map(|(_, time)| *time).sum::<Duration>());
            buckets = log.into_iter().map(|(bytes, _)| bytes).collect();
        }
    }
    let (with, without, communication) = (median(with), median(without), median(communication));
    if world.rank() == 0 {
        let hidden = 1.0 - (with - without) / communication;
        println!(
            "{}, {} buckets: a step takes {:.1} ms, {:.1} ms without communication; {:.1} ms of all-reduces, {:.0} % hidden",
            options.model,
            buckets.len(),
            with * 1e3,
            without * 1e3,
            communication * 1e3,
            hidden.clamp(0.0, 1.0) * 100.0,
        );
    }
    buckets.sort_unstable();
    buckets.dedup();
    for bytes in buckets {
        compare("host group", bytes, world, &|numbers| {
            replica.group.all_reduce(numbers, ReduceOp::Sum).unwrap();
        });
    }
    // What --virtual-ranks adds up by.
    if world.size().is_power_of_two() {
        for megabytes in [1, 4, 16, 64] {
            compare("sum along a tree", megabytes << 20, world, &|numbers| {
                world.control().tree_sum(elements(numbers)).unwrap();
            });
        }
    }
}

fn compare(name: &str, bytes: usize, world: &World, ours: &dyn Fn(&Tensor)) {
    // The same memory for both: at these speeds it matters where a buffer lies.
    let numbers = Tensor::zeros([bytes as i64 / 4], (Kind::Float, Device::Cpu));
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS * 2 {
        world.control().barrier().unwrap();
        let start = std::time::Instant::now();
        if round % 2 == 0 {
            ours(&numbers);
        } else {
            world.control().bare_all_reduce(elements(&numbers), Reduction::Sum).unwrap();
        }
        times[round % 2].push(start.elapsed().as_secs_f64());
    }
    if world.rank() == 0 {
        // Pair by pair: a machine whose speed drifts does not count.
        let ratios = times[0].iter().zip(&times[1]).map(|(ours, bare)| bare / ours).collect();
        let [ours, bare, ratio] = [times[0].clone(), times[1].clone(), ratios].map(quartiles);
        let bandwidth = |seconds: f64| bytes as f64 / seconds / 1e9;
        println!(
            "{bytes} bytes: {name} {:.2} GB/s ({:.2}–{:.2}), MPI_Allreduce {:.2} GB/s ({:.2}–{:.2}), \
             ratio {:.2} ({:.2}–{:.2})",
            bandwidth(ours[1]),
            bandwidth(ours[2]),
            bandwidth(ours[0]),
            bandwidth(bare[1]),
            bandwidth(bare[2]),
            bandwidth(bare[0]),
            ratio[1],
            ratio[0],
            ratio[2],
        );
    }
}

/// The median, between the first and the third quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

/// The numbers of a tensor.
#[expect(unsafe_code, reason = "gives MPI the tensor's memory")]
#[expect(clippy::mut_from_ref, reason = "a tensor is its memory's handle")]
fn elements(numbers: &Tensor) -> &mut [f32] {
    // SAFETY: the tensor is dense, of single precision, and outlives the slice; nobody else uses it meanwhile.
    unsafe { std::slice::from_raw_parts_mut(numbers.data_ptr().cast::<f32>(), numbers.numel()) }
}
