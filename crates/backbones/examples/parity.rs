//! Our side of `scripts/parity`: builds networks with random weights and writes down what they are and compute.
//!
//!     parity FOLDER NAME...
//!
//! For each NAME, safetensors files: `NAME.drawn`, the state dict as it is drawn before training; `NAME.weights`, the same
//! with noise on what begins as zeros and ones, so that every tensor counts; and what the network computes with the latter:
//! `NAME.outputs`, with `images`, `logits` (in evaluation), `loss`, and `grad:KEY`, the gradients of the cross-entropy for
//! the labels 0, 1, ….

use std::path::Path;

use architectures::{Distribution, Parameter, ParameterRole};
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
        backbone.save(&path("drawn")).expect("the drawn weights are written");
        for (parameter, (_, tensor)) in backbone.network().parameters().iter().zip(backbone.state()) {
            tch::no_grad(|| disturb(parameter, tensor));
        }
        backbone.save(&path("weights")).expect("the weights are written");
        let side = architecture.image_size as i64;
        let images = Tensor::randn([BATCH, 3, side, side], (Kind::Float, Device::Cpu));
        let logits = backbone.forward(&images, false);
        let labels = Tensor::arange(BATCH, (Kind::Int64, Device::Cpu));
        // A network for masks tells the class of each pixel.
        let pixels = &logits.size()[2..];
        let labels = labels.view([&[BATCH][..], &vec![1; pixels.len()]].concat().as_slice());
        let labels = labels.expand([&[BATCH], pixels].concat().as_slice(), false);
        let loss = logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0);
        loss.backward();
        let mut outputs = vec![
            ("images".to_owned(), images),
            ("logits".to_owned(), logits.detach()),
            ("loss".to_owned(), loss.detach()),
        ];
        let gradients = backbone.trained().into_iter();
        outputs.extend(gradients.map(|(key, tensor)| (format!("grad:{key}"), tensor.grad().contiguous())));
        Tensor::write_safetensors(&outputs, path("outputs")).expect("the outputs are written");
    }
}

/// Noise on what is drawn as one value.
fn disturb(parameter: &Parameter, mut tensor: Tensor) {
    let is_constant = matches!(parameter.initial, Distribution::Constant(_));
    if !is_constant || parameter.role.is_integer() || parameter.role.is_constant() {
        return;
    }
    let noise = tensor.randn_like();
    let _ = match (parameter.role, tensor.size().as_slice()) {
        (ParameterRole::RunningVar, _) => tensor.g_add_(&(noise.abs() / 2)),
        (ParameterRole::Weight, &[_, inputs, ..]) if inputs > 1 => tensor.g_add_(&(noise / (inputs as f64).sqrt())),
        _ => tensor.g_add_(&(noise / 10)),
    };
}
