//! Images per second. Rank 0 prints the median over the steps, of all ranks together, and where the time of a step went.

use world::World;

use crate::replica::{Options, Replica, median};

pub fn run(options: &Options, world: &World) {
    let replica = Replica::new(options, world);
    let times: Vec<_> = (0..options.warmup + options.steps).map(|_| replica.step(true)).skip(options.warmup).collect();
    if world.rank() == 0 {
        let whole = median(times.iter().map(|times| times.whole));
        let forward = median(times.iter().map(|times| times.forward)) * 1e3;
        let backward = median(times.iter().map(|times| times.backward)) * 1e3;
        let optimizer = median(times.iter().map(|times| times.optimizer)) * 1e3;
        println!("images/s {:.2}", options.batch as f64 * world.size() as f64 / whole);
        println!("ms {:.1}: forward {forward:.1}, backward {backward:.1}, optimizer {optimizer:.1}", whole * 1e3);
    }
}
