//! What scripts/gpu-check runs: `rust-train` itself, on images that are made up, and watched. In fifty of its steps every call
//! that waits for the GPU is an error.

use std::process::ExitCode;

use rust_train::{Hooks, OwnImages, Program, StepEnd};
use tch::{Device, Kind, Tensor};
use torch_ext::cuda;

/// The steps that are watched. The first ones may wait: algorithms are tried out in them.
const WATCHED: std::ops::Range<usize> = 20..70;

struct NoWaits;

impl Hooks for NoWaits {
    fn step_end(&mut self, step: &StepEnd) -> anyhow::Result<()> {
        if step.step == WATCHED.start || step.step == WATCHED.end {
            cuda::refuse_waits(step.step == WATCHED.start)?;
        }
        if step.step == WATCHED.start {
            // It proves itself.
            let waits = Tensor::zeros([1], (Kind::Float, Device::Cuda(0))).f_double_value(&[0]);
            anyhow::ensure!(waits.is_err(), "a wait is no error");
        }
        if step.step == WATCHED.end {
            println!("{} steps without a wait", WATCHED.len());
        }
        Ok(())
    }
}

/// 32×32 pixels of ten classes, which differ in colour and place of a bright square.
fn squares(count: usize) -> impl Iterator<Item = (Vec<u8>, usize)> {
    const SIDE: usize = 32;
    (0..count).map(|number| {
        let class = number % 10;
        let corner = (class % 5) * 5;
        let pixel = |place: usize| {
            let (x, y) = (place % SIDE, place / SIDE);
            let inside = (corner..corner + 10).contains(&x) && (corner..corner + 10).contains(&y);
            let noise = (place * 31 + number * 17) % 97;
            [if inside { 220 } else { noise }, if class < 5 { noise } else { 180 }, (noise + number) % 256]
                .map(|value| value as u8)
        };
        ((0..SIDE * SIDE).flat_map(pixel).collect(), class)
    })
}

fn main() -> ExitCode {
    let classes = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    Program::new()
        .images("squares", move || OwnImages::new(32, classes).train(squares(25_600))?.val(squares(1_000)))
        .hooks(NoWaits)
        .run()
}
