//! Which device each rank would choose, where there are no devices: the launcher's mask is taken for what CUDA would show.
//! Prints a line for each rank: node, the device by the launcher's number, and what the launcher says that the step has.

use rust_train::device;
use tch::Device;
use world::{World, WorldConfig};

fn main() {
    let request = std::env::args().nth(1).expect("an argument of --device").parse().unwrap();
    let world = World::init(WorldConfig::default()).unwrap();
    let mask = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let visible: Vec<String> = mask.split(',').filter(|entry| !entry.is_empty()).map(str::to_owned).collect();
    let given = std::env::var("SLURM_STEP_GPUS").unwrap_or_default();
    let chosen = match device::choose(&request, 1, &visible, &world) {
        Ok(Device::Cuda(index)) => visible[index].clone(),
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    };
    println!("rank {} on {}: {chosen} of {given}", world.rank(), world.host());
}
