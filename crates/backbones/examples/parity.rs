//! Our side of `scripts/parity`: builds networks with random weights and writes down what they are and compute.
//!
//!     parity FOLDER NAME...
//!
//! For each NAME: `NAME.weights.safetensors`, the state dict; `NAME.outputs.safetensors`, with `pictures`, `logits` (in
//! evaluation), `loss` and `grad:KEY`, the gradients of the cross-entropy for the labels 0, 1, …; and `folded`, the
//! logits with BatchNorm folded into the convolutions.

use std::path::Path;

use backbones::Backbone;
use tch::{Device, Kind, Reduction, Tensor};

const CLASSES: usize = 10;
const BATCH: i64 = 2;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, names) = arguments.split_first().expect("parity FOLDER NAME...");
    tch::set_num_threads(2);
    for (seed, name) in names.iter().enumerate() {
        let architecture = architectures::architecture(name).expect("a known name");
        tch::manual_seed(seed as i64);
        let backbone = Backbone::new(architecture.network(CLASSES), Device::Cpu);
        let path = |what: &str| Path::new(folder).join(format!("{name}.{what}.safetensors"));
        backbone.save(&path("weights")).expect("the weights are written");
        let side = architecture.image_size as i64;
        let pictures = Tensor::randn([BATCH, 3, side, side], (Kind::Float, Device::Cpu));
        let labels = Tensor::arange(BATCH, (Kind::Int64, Device::Cpu));
        let logits = backbone.forward(&pictures, false);
        let loss = logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0);
        loss.backward();
        let mut outputs = vec![
            ("pictures".to_owned(), pictures),
            ("logits".to_owned(), logits.detach()),
            ("loss".to_owned(), loss.detach()),
        ];
        let gradients = backbone.trained().into_iter();
        outputs.extend(gradients.map(|(key, tensor)| (format!("grad:{key}"), tensor.grad().contiguous())));
        Tensor::write_safetensors(&outputs, path("outputs")).expect("the outputs are written");
    }
}
