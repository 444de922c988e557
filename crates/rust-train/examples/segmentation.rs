//! An output as large as the image: of each pixel, whether it is ink. `mpirun -n 2 segmentation --lr 0.01`.
//!
//! What is ink is read off the image here, after it was cropped and turned as in any training; a file of masks would be too.

use std::process::ExitCode;

use rust_train::{Batch, BuildContext, Means, Metric, Model, Program, Scorer, Targets, Task, from_fn};
use tch::nn::{self, Module};
use tch::{Device, Kind, Reduction, Tensor};

fn build(context: &BuildContext) -> anyhow::Result<Box<dyn Model>> {
    let vs = nn::VarStore::new(context.device);
    let same = nn::ConvConfig { padding: 1, ..nn::ConvConfig::default() };
    let first = nn::conv2d(vs.root() / "first", 3, 8, 3, same);
    let second = nn::conv2d(vs.root() / "second", 8, 1, 3, same);
    Ok(from_fn(vs, move |images, _| vec![second.forward(&first.forward(images).relu()).squeeze_dim(1)]))
}

/// Logits N×side×side, and masks of 0 and 1 of the same shape.
struct Ink;

impl Task for Ink {
    fn targets(&self, batch: &Batch, device: Device) -> Targets {
        let red = batch.pixels.iter().step_by(3).map(|&byte| f32::from(u8::from(byte > 127)));
        let side = batch.side as i64;
        let mask = Tensor::from_slice(&red.collect::<Vec<_>>()).view([-1, side, side]);
        Targets::of(vec![mask.to_device(device)])
    }

    fn loss(&self, outputs: &[Tensor], targets: &Targets) -> Tensor {
        let mask = &targets.tensors[0];
        outputs[0].binary_cross_entropy_with_logits::<Tensor>(mask, None, None, Reduction::Mean)
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        // Of each image: its loss, and the intersection of what is ink and what is taken for it, over their union.
        Box::new(Means::new(vec![Metric::share("iou", "IoU")], |outputs, targets| {
            let (logits, mask) = (&outputs[0], &targets.tensors[0]);
            let of_image = |pixels: Tensor| pixels.flatten(1, -1).sum_dim_intlist(1, false, Kind::Float);
            let loss = logits.binary_cross_entropy_with_logits::<Tensor>(mask, None, None, Reduction::None);
            let taken = logits.gt(0.0).to_kind(Kind::Float);
            let both = of_image(&taken * mask);
            let any = of_image(&taken + mask) - &both;
            vec![loss.flatten(1, -1).mean_dim(1, false, Kind::Float), both / any.clamp_min(1.0)]
        }))
    }
}

fn main() -> ExitCode {
    Program::new().model("ink", 8, build).task(Ink).run()
}
